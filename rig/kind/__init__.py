"""A Kubernetes cluster of real kubelets in containers, with or without images from a registry.

The rig next door plays the kubelets; here nothing is played but the GPUs. kind starts the cluster.
Where a registry answers it takes the public node image; where none does, the node image is made
on this machine from Debian packages and the rig's own binaries.
"""
