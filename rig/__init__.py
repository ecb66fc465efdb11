"""A Kubernetes control plane without containers, for tests, the demo and measurements.

Nothing in here is shipped. The product is never imported by this package apart from its
names, so that what the rig shows is what the API server did.
"""
