"""Every admission policy of the product, in the order in which a reader meets them."""

from __future__ import annotations

from typing import Final

from sovereign_gpu.admission import (
    access,
    binding,
    claims,
    contents,
    daemonset,
    eviction,
    fence,
    kubelet,
    namespace,
    network,
    node,
    pod_create,
    pod_patch,
    pod_update,
    pod_warning,
    service,
    storage,
)

CATALOGUE: Final = (
    pod_patch.PODS,
    pod_patch.DAEMONSETS,
    pod_create.POLICY,
    pod_update.CHANGES,
    pod_update.STATUS,
    pod_update.EPHEMERAL,
    fence.POLICY,
    eviction.POLICY,
    binding.PODS_BINDING,
    binding.LEGACY,
    daemonset.POLICY,
    claims.CLAIMS,
    claims.TEMPLATES,
    contents.POLICY,
    storage.CLAIMS,
    storage.SNAPSHOTS,
    service.SERVICES,
    service.ENDPOINTS,
    network.POLICY,
    access.POLICY,
    kubelet.POLICY,
    node.POLICY,
    namespace.POLICY,
    pod_warning.POLICY,
    binding.WARNING,
    contents.WARNING,
    storage.CLAIMS_WARNING,
    storage.SNAPSHOTS_WARNING,
    service.SERVICES_WARNING,
    service.ENDPOINTS_WARNING,
    access.WARNING,
)
