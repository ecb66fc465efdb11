"""A leader that was replaced releases nothing, whatever it believes.

Every release is signed with the holder and the number of the lease under which it was decided. A
new leader writes its signature to the operator's namespace before it releases anything, and the
API server holds releases against that. It knows it from a watch, which may lag by moments: this is
the second defence. The first is that a new leader waits until the requests of the one before it
have run out, and reads everything again.
"""

from __future__ import annotations

from typing import Final

from sovereign_gpu.admission.model import Match, Policy, Scope, Validation, Variable

POLICY: Final = Policy(
    name="sovereign-gpu-fence",
    purpose="Releases by the operator: signed under the lease that holds now.",
    match=(Match("", ("pods",), ("UPDATE",)),),
    scope=Scope.EVERYWHERE,
    reads_own_namespace=True,
    # Whoever else holds the right to release, as `sovereign-gpu uninstall` does, has no lease.
    concerns="request.userInfo.username == $operatorUser"
    " && oldObject.spec.?schedulingGates.orValue([]).exists(g, g.name == $GATE)"
    " && !object.spec.?schedulingGates.orValue([]).exists(g, g.name == $GATE)",
    variables=(
        Variable("leader", 'params.metadata.?annotations[?$LEADER].orValue("")'),
        Variable("signature", 'object.metadata.?annotations[?$RELEASED_BY].orValue("")'),
    ),
    validations=(
        Validation(
            "fence",
            'variables.leader != "" && variables.signature == variables.leader',
            '"a release signed \'" + variables.signature + "\'"',
            "releases signed by the leader, ",
            'variables.leader == "" ? "of whom there is none" : "\'" + variables.leader + "\'"',
        ),
    ),
)
