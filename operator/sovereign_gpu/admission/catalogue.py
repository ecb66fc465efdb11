"""Every admission policy of the product, in the order in which a reader meets them."""

from __future__ import annotations

from typing import Final

from sovereign_gpu.admission import (
    binding,
    daemonset,
    eviction,
    namespace,
    node,
    pod_create,
    pod_patch,
    pod_update,
    pod_warning,
)

CATALOGUE: Final = (
    pod_patch.PODS,
    pod_patch.DAEMONSETS,
    pod_create.POLICY,
    pod_update.CHANGES,
    pod_update.STATUS,
    pod_update.EPHEMERAL,
    eviction.POLICY,
    binding.PODS_BINDING,
    binding.LEGACY,
    daemonset.POLICY,
    node.POLICY,
    namespace.POLICY,
    pod_warning.POLICY,
    binding.WARNING,
)
