"""sovereign-gpu: a GPU cloud for many companies, on one cluster, inside one jurisdiction."""

__version__ = "0.1.0"
