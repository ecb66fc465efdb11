"""The three kinds of sovereign-gpu as typed, frozen models.

The models are the source: `python -m sovereign_gpu.api.crdgen` writes `crds/` and
`docs/reference/crds.md` from them. Handlers read stored objects with `parse`, once, and hand
plain records of `sovereign_gpu.core` on.
"""

from sovereign_gpu.api.base import Condition, seconds
from sovereign_gpu.api.dataresidencypolicy import DataResidencyPolicy
from sovereign_gpu.api.gpupool import GpuPool
from sovereign_gpu.api.parse import InvalidObjectError, Problem, parse
from sovereign_gpu.api.tenantquota import TenantQuota

__all__ = [
    "Condition",
    "DataResidencyPolicy",
    "GpuPool",
    "InvalidObjectError",
    "Problem",
    "TenantQuota",
    "parse",
    "seconds",
]
