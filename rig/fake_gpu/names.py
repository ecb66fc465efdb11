"""Names that this stack shares with kubelets, container runtimes and whoever scripts it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

PREFIX: Final = "fake-gpu.sovereign-gpu.io/"
ENABLED_LABEL: Final = f"{PREFIX}enabled"
"""Node label (value `true`) by which a node is chosen: never a real GPU node by accident."""
UTILISATION: Final = f"{PREFIX}utilisation"
"""Pod annotation: how busy the pod keeps its GPUs (`utilisation.py` has the notation)."""
CONFIG_MAP: Final = "fake-gpu"
EVERY_NODE: Final = "_default"
"""Key of the ConfigMap that holds for all nodes; no node name begins with an underscore."""

NVIDIA: Final = "nvidia.com/"
GPU_RESOURCE: Final = f"{NVIDIA}gpu"
MIG_RESOURCE: Final = f"{NVIDIA}mig-"
CDI_KIND: Final = "k8s.device-plugin.nvidia.com/gpu"
"""Vendor and class under which NVIDIA's device plugin names devices to container runtimes."""

PLUGIN_API: Final = "v1beta1"
PLUGIN_DIRECTORY: Final = Path("/var/lib/kubelet/device-plugins")
KUBELET_SOCKET: Final = "kubelet.sock"
POD_RESOURCES: Final = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
CDI_DIRECTORY: Final = Path("/var/run/cdi")
