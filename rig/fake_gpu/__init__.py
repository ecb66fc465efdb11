"""NVIDIA's node software without the hardware: device plugin, labeller, exporter.

Runs on nodes with a real kubelet, so that everything between a pod's request and the environment
of its container is the cluster's own doing: registration, allocation, checkpoints, health. What a
node has, and what is wrong with it, stands in one ConfigMap (`scenario.py`).

It is of use without the rest of this project: README.md beside this file.
"""
