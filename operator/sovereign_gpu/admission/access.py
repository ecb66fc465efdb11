"""Who may look into running pods of tenants, by a claim of the user.

Only what opens a connection comes by admission: logs and other reading do not, they are a matter
of RBAC.
"""

from __future__ import annotations

from typing import Final

from sovereign_gpu import names
from sovereign_gpu.admission.cel import words
from sovereign_gpu.admission.model import Match, Policy, Scope, Validation, Variable
from sovereign_gpu.admission.perimeter import DENY, WARN, Twin


def _policy(twin: Twin) -> Policy:
    return twin.policy(
        Policy(
            name="sovereign-gpu-pod-access",
            purpose="exec, attach, port-forward, proxy, debug: users from allowed countries.",
            match=(
                Match(
                    "",
                    (
                        "pods/exec",
                        "pods/attach",
                        "pods/portforward",
                        "pods/proxy",
                        "services/proxy",
                    ),
                    ("CONNECT",),
                ),
                # Another way to run a command beside the tenant's.
                Match("", ("pods/ephemeralcontainers",), ("UPDATE",)),
            ),
            scope=Scope.GOVERNED,
            variables=(
                twin.lists("countries", names.ACCESS),
                Variable("claims", "request.userInfo.?extra[?$countryClaim].orValue([])"),
            ),
            validations=(
                twin.rule(
                    Validation(
                        "access-country",
                        "variables.countries.size() == 0 || (variables.claims.size() > 0"
                        " && variables.claims.all(c, variables.countries.all(l, c in l)))",
                        '"user " + request.userInfo.username + (variables.claims.size() == 0'
                        ' ? " without the claim " + $countryClaim'
                        ' : " from " + variables.claims.join(", "))',
                        "users whose claim names one of ",
                        words("variables.countries"),
                    )
                ),
            ),
        )
    )


POLICY: Final = _policy(DENY)
WARNING: Final = _policy(WARN)
