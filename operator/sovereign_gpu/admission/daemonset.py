"""DaemonSets that ask for GPUs.

Their pods would be refused or queued one by one while the controller makes them again, for
every node. So the refusal comes where the author reads it: at the DaemonSet. Those that exist
may still be changed, or nobody could set the finalizer that deletes them.
"""

from __future__ import annotations

from typing import Final

from sovereign_gpu.admission import cel
from sovereign_gpu.admission.model import Match, Policy, Scope, Validation, Variable

_BEFORE: Final = """oldObject != null && (
  size(oldObject.spec.template.spec.?resourceClaims.orValue([])) > 0
  || (dyn(oldObject.spec.template.spec.containers)
      + dyn(oldObject.spec.template.spec.?initContainers.orValue([]))).exists(c,
    c.?resources.?limits.orValue({}).exists(k, k.contains("nvidia.com"))))"""

POLICY: Final = Policy(
    name="sovereign-gpu-daemonset",
    purpose="DaemonSets outside exempt namespaces ask for no GPU.",
    match=(Match("apps", ("daemonsets",), ("CREATE", "UPDATE")),),
    scope=Scope.NOT_EXEMPT,
    variables=(
        *cel.pod_variables("object.spec.template.spec"),
        cel.BY_CLASS,
        Variable("before", _BEFORE),
    ),
    validations=(
        Validation(
            "daemonset-gpu",
            "!(variables.gpu || variables.byClass) || variables.before",
            '"a DaemonSet whose pods ask for GPUs"',
            "Jobs, Deployments, StatefulSets or pods; GPU DaemonSets in exempt namespaces only",
        ),
    ),
)
