"""What is asked of kubelets through the API server: nothing that runs a command in a pod.

A kubelet takes commands for any pod of its node, and such a request names no namespace that could
be looked up. So what only looks passes, and what runs, attaches or forwards does not: for that
there are `pods/exec` and its like, which are judged (`access`). The kubelet's own port is a matter
of who may reach it, and of RBAC.
"""

from __future__ import annotations

import json
from typing import Final

from sovereign_gpu.admission.model import Match, Policy, Scope, Validation, Variable

READING: Final = (
    "configz",
    "containerLogs",
    "debug",
    "flagz",
    "healthz",
    "logs",
    "metrics",
    "pods",
    "runningpods",
    "stats",
    "statusz",
)
"""First parts of the paths of a kubelet that only show something."""

POLICY: Final = Policy(
    name="sovereign-gpu-node-proxy",
    purpose="Requests to kubelets through the API server: looking, and no commands.",
    match=(Match("", ("nodes/proxy",), ("CONNECT",)),),
    scope=Scope.EVERYWHERE,
    variables=(Variable("parts", 'object.?path.orValue("").split("/").filter(p, p != "")'),),
    validations=(
        Validation(
            "node-proxy",
            # Kubelets tidy paths up before they read them.
            f"variables.parts.size() == 0 || (variables.parts[0] in {json.dumps(READING)}"
            ' && !variables.parts.exists(p, p in [".", ".."]))',
            '"a request to a kubelet for /" + variables.parts.join("/")',
            "paths below " + ", ".join(READING) + "; commands through pods/exec",
        ),
    ),
)
