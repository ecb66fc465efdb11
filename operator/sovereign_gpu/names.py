"""Every name that crosses the API server, once.

Users, policies, charts and dashboards know the product by these words; a name that is
spelled a second time elsewhere in Python is a defect.
"""

from __future__ import annotations

from typing import Final

GROUP: Final = "sovereign-gpu.io"
VERSION: Final = "v1alpha1"

# --- pods -------------------------------------------------------------------------------
GATE: Final = "sovereign-gpu.io/quota"
"""Scheduling gate: present means queued, absent means counted."""

POD_METADATA_PREFIX: Final = "sovereign-gpu.io/"
REQUESTED_BY: Final = "sovereign-gpu.io/requested-by"
"""Annotation stamped at creation: the user who asked for the GPUs."""
POOL_LABEL: Final = "sovereign-gpu.io/pool"
DECISION: Final = "sovereign-gpu.io/decision"
LEASE: Final = "sovereign-gpu"
"""Name of the leader lease in the operator's namespace."""
LEADER: Final = "sovereign-gpu.io/leader"
"""Annotation of the operator's namespace: what releases are signed with now."""
RELEASED_BY: Final = "sovereign-gpu.io/released-by"
DRIFT_NOTICE: Final = "sovereign-gpu.io/drift"
"""Annotation: announces an eviction because the pod runs where a policy no longer allows it."""
CONFIRM_DRIFT: Final = "sovereign-gpu.io/confirm-drift"
"""Annotation of a DataResidencyPolicy: the generation whose evictions an administrator confirms."""

ROLE_LABEL: Final = "sovereign-gpu.io/role"
ROLE_LEADER: Final = "leader"
"""Label of the operator's own pod that leads: the Service selects it."""

# --- namespaces -------------------------------------------------------------------------
TENANT_LABEL: Final = "sovereign-gpu.io/tenant"
RESIDENCY: Final = "sovereign-gpu.io/residency"
"""Annotation: comma-separated names of the policies that are enforced (Deny)."""
REGIONS: Final = "sovereign-gpu.io/regions"
"""Annotation: comma-separated regions all enforced policies allow; `*` when none is enforced."""
ENFORCEMENT_LABEL: Final = "sovereign-gpu.io/enforcement"
"""Label: `Warn` where policies that only warn hold, so that only there they are evaluated."""
ENFORCEMENT_WARN: Final = "Warn"
WARN_RESIDENCY: Final = "sovereign-gpu.io/warn-residency"
WARN_REGIONS: Final = "sovereign-gpu.io/warn-regions"
CONTENTS_LABEL: Final = "sovereign-gpu.io/contents"
"""Label: `Restricted` where images or volumes of pods are, so that only there they are judged."""
CONTENTS_RESTRICTED: Final = "Restricted"
REGISTRIES: Final = "sovereign-gpu.io/registries"
STORAGE_CLASSES: Final = "sovereign-gpu.io/storage-classes"
ATTRIBUTES_CLASSES: Final = "sovereign-gpu.io/attributes-classes"
SNAPSHOT_CLASSES: Final = "sovereign-gpu.io/snapshot-classes"
VOLUME_DRIVERS: Final = "sovereign-gpu.io/volume-drivers"
ACCESS: Final = "sovereign-gpu.io/access"
"""Annotations with one list of words per policy; see `core.perimeter`."""
SERVICES: Final = "sovereign-gpu.io/services"
"""Annotation: ways out that Services may open."""
NETWORKS: Final = "sovereign-gpu.io/networks"
REACHABLE: Final = "sovereign-gpu.io/reachable"
"""Annotations: networks and namespaces that packets may go to."""
PERIMETER_ANNOTATIONS: Final = (
    REGISTRIES,
    STORAGE_CLASSES,
    ATTRIBUTES_CLASSES,
    SNAPSHOT_CLASSES,
    VOLUME_DRIVERS,
    ACCESS,
    SERVICES,
    NETWORKS,
    REACHABLE,
)


def warn(annotation: str) -> str:
    """Return the annotation that says the same of policies that only warn."""
    return POD_METADATA_PREFIX + "warn-" + annotation.removeprefix(POD_METADATA_PREFIX)


NAMESPACE_LABELS: Final = (TENANT_LABEL, ENFORCEMENT_LABEL, CONTENTS_LABEL)
NAMESPACE_ANNOTATIONS: Final = (
    RESIDENCY,
    REGIONS,
    WARN_RESIDENCY,
    WARN_REGIONS,
    *PERIMETER_ANNOTATIONS,
    *(warn(each) for each in PERIMETER_ANNOTATIONS),
)
EGRESS_POLICY: Final = "sovereign-gpu-egress"
"""NetworkPolicy in the namespaces of tenants whose packets may not go anywhere."""

# --- nodes ------------------------------------------------------------------------------
NODE_POOL_LABEL: Final = "sovereign-gpu.node-restriction.kubernetes.io/pool"
NODE_MACHINE_LABEL: Final = "sovereign-gpu.node-restriction.kubernetes.io/machine"
"""The machine that was enrolled, as a hash of what its kubelet reported then."""
NODE_RESIDENCY_PREFIX: Final = "residency.sovereign-gpu.node-restriction.kubernetes.io/"
NODE_ALLOWED: Final = "allowed"
REGION_LABEL: Final = "topology.kubernetes.io/region"
ZONE_LABEL: Final = "topology.kubernetes.io/zone"
PRODUCT_LABEL: Final = "nvidia.com/gpu.product"
DRIVER_UPGRADE_STATE: Final = "nvidia.com/gpu-driver-upgrade-state"
MIG_CONFIG_STATE: Final = "nvidia.com/mig.config.state"
CC_MODE: Final = "nvidia.com/cc.mode"
CC_MODE_STATE: Final = "nvidia.com/cc.mode.state"
DEPLOY_PREFIX: Final = "nvidia.com/gpu.deploy."
"""Labels of the GPU operator's components on a node; MIG and CC manager pause them."""
GPU_RESOURCE: Final = "nvidia.com/gpu"
GPU_TAINT: Final = "nvidia.com/gpu"
"""Taint key of GPU nodes (effect NoSchedule); governed GPU pods are given the toleration."""
COMPANION_TAINT: Final = "sovereign-gpu.io/companion"
"""Taint key for pool nodes without GPUs, so that ungoverned pods stay off them as well;
governed pods without GPUs are given the toleration."""

# --- the read API -------------------------------------------------------------------------
CALLER_HEADER: Final = "Sovereign-Gpu-Token"
"""Request header with the caller's token: the API server's service proxy drops Authorization."""
READ_PORT: Final = "read"
"""Name of the service's port; rights to the proxy name it."""

# --- rights, asked by the admission policies through the authorizer (verb `update`) -------
RIGHT_RELEASE: Final = ("gpupools", "release")
RIGHT_ENROL: Final = ("gpupools", "enrol")
RIGHT_BIND: Final = ("gpupools", "bind")
RIGHT_ASSIGN: Final = ("tenantquotas", "assign")
