"""The known ways round placement and quota, and what answers each: `docs/threat-model.md`.

`python -m tests.admission.bypasses` writes the page. Attacks are found by the rule that stops them,
other tests are named; a test checks that all of them exist, so the page cannot promise what nobody
tries.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.admission import (
    attacks_around,
    attacks_change,
    attacks_create,
    attacks_devices,
    attacks_leave,
    attacks_place,
    attacks_warned,
)
from tests.admission.attacks import ATTACKS

assert attacks_around
assert attacks_change
assert attacks_create
assert attacks_devices
assert attacks_leave
assert attacks_place
assert attacks_warned

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "threat-model.md"
HEAD = Path(__file__).parent / "threat-model-head.md"
COMMAND = "python -m tests.admission.bypasses"


@dataclass(frozen=True)
class Bypass:
    """One way round, and its answer."""

    what: str
    answer: str
    """Refused, Detected or Limit."""
    how: str
    rules: tuple[str, ...] = ()
    """Of the admission policies; their attacks are the tests."""
    tests: tuple[str, ...] = ()
    """Other tests, as file::name."""


CP = "tests/control_plane"
AD = "tests/admission"
WHATEVER = "test_a_pod_of_every_workload_is_confined_whatever_its_template_says"
DAEMONS = "test_a_daemonset_of_a_tenant_goes_to_allowed_nodes_only"
BYPASSES = (
    Bypass(
        "`spec.nodeName` at creation",
        "Refused",
        "by anybody in a tenant's namespace; elsewhere only holders of `gpupools/bind` may",
        ("node-name", "node-name-without-tenant"),
    ),
    Bypass(
        "A scheduler of one's own, or a direct `pods/binding`",
        "Refused",
        "binders are listed, and the region of the node must be allowed whoever binds",
        ("binder", "binding-region", "binding-region-unknown"),
        (f"{AD}/test_what_keeps_working.py::test_holders_of_the_right_bind",),
    ),
    Bypass(
        "The legacy `bindings` resource",
        "Refused",
        "for everybody, since it copies forged regions",
        ("legacy-binding",),
    ),
    Bypass(
        "A forged region on a binding, or a target that is no Node",
        "Refused",
        "the API server overwrites the region of a Node; every other target is refused",
        ("binding-target", "binding-metadata", "binding-region", "binder"),
    ),
    Bypass(
        "A kubelet or an editor of nodes rewrites labels or taints",
        "Refused",
        "through `nodes` and `nodes/status`; region and zone are frozen while a node is in a pool",
        (
            "node-pool-label",
            "node-residency-label",
            "node-machine-label",
            "node-location",
            "node-taint",
            "node-guarded",
        ),
        (f"{AD}/test_every_way_to_write.py::test_a_mark_stays_as_it_was",),
    ),
    Bypass(
        "A label changes after the pod was scheduled",
        "Detected",
        "running pods are judged again within seconds, reported, and evicted where the policy says",
        (),
        (
            f"{CP}/test_drift.py::test_alert_reports_and_touches_no_pod",
            "tests/kind/test_drift.py::test_pods_on_a_node_that_moved_are_violations_until_it_is_back",
        ),
    ),
    Bypass(
        "Alternative or preferred node selector terms, `matchFields`",
        "Refused",
        "ours is a nodeSelector, which every alternative has to meet as well",
        ("affinity", "selector", "residency-selector"),
        (f"{AD}/test_every_way_to_write.py::{WHATEVER}",),
    ),
    Bypass(
        "DaemonSets",
        "Refused",
        "with GPUs; without, their templates are confined so that they make no pods elsewhere",
        ("daemonset-gpu",),
        (f"{AD}/test_what_keeps_working.py::{DAEMONS}",),
    ),
    Bypass(
        "Tolerations, at creation or later",
        "Refused",
        "of every taint, and of the taints of pool nodes where the pod is not given them",
        ("toleration", "toleration-update"),
    ),
    Bypass(
        "The gate removed by its tenant",
        "Refused",
        "only holders of `gpupools/release` lift it",
        ("release", "gate", "gate-without-gpu"),
        (f"{AD}/test_every_way_to_write.py::test_the_gate_stays",),
    ),
    Bypass(
        "Selectors of a gated pod edited",
        "Refused",
        "they only grow; ours cannot be taken out",
        ("selector", "affinity"),
    ),
    Bypass(
        "Static pods",
        "Detected",
        "a kubelet runs them without the API server: counted as foreign, alarmed on the pool, and "
        "in tenants' namespaces refused abroad",
        ("static-pod-region", "pod-metadata"),
        (
            f"{CP}/test_foreign_use.py::test_a_static_pod_with_gpus_is_an_alarm_on_its_pool",
            "tests/kind/test_foreign.py::test_a_static_pod_is_counted_as_foreign",
        ),
    ),
    Bypass(
        "Ephemeral containers, `kubectl debug node`",
        "Refused",
        "devices, privileges and foreign images; the debugging pod names a node",
        ("ephemeral-privileged", "ephemeral-device-env", "image-registry", "node-name"),
    ),
    Bypass(
        "Policies that fail open, or namespaces that choose to be exempt",
        "Refused",
        "every policy fails closed, and exempt namespaces are literals",
        ("namespace-exempt",),
        ("tests/chart/test_rendering.py::test_every_policy_fails_closed",),
    ),
    Bypass(
        "A namespace relabelled, also through `status` and `finalize`",
        "Refused",
        "only holders of `tenantquotas/assign` write what is ours",
        ("namespace-tenant",),
        (
            f"{AD}/test_every_way_to_write.py::test_a_mark_stays_as_it_was",
            f"{CP}/test_what_is_put_back.py::test_a_mark_that_somebody_moved_is_put_right_and_told",
        ),
    ),
    Bypass(
        "The policies deleted or weakened",
        "Detected",
        "within seconds; refused even to cluster-admin where the API server reads our guards from "
        "a file; put back where the chart is told to",
        (),
        (
            f"{CP}/test_guards.py::test_a_removed_guard_is_an_alarm_an_event_and_a_condition",
            f"{CP}/test_guards.py::test_a_weakened_guard_is_an_alarm_within_seconds",
            f"{CP}/test_static_guards.py::test_who_holds_every_right_is_refused",
            f"{CP}/test_what_is_put_back.py::test_what_was_removed_or_weakened_is_put_back",
        ),
    ),
    Bypass(
        "ResourceClaims, `adminAccess`, device classes as resources",
        "Refused",
        "in pods, claims and templates; the label that opens administrative access is protected",
        (
            "claims-uncounted",
            "claim-tenant",
            "claim-template-tenant",
            "claim-gpu-needs-tenant",
            "claim-template-gpu-needs-tenant",
            "claim-admin-access",
            "claim-template-admin-access",
            "namespace-admin-access",
            "known-resources",
            "gpu-needs-tenant",
        ),
    ),
    Bypass(
        "`NVIDIA_VISIBLE_DEVICES` and kin, device annotations, the runtime class",
        "Refused",
        "where the API server sees them; what an image or `envFrom` sets it does not see",
        (
            "device-env",
            "device-annotation",
            "device-annotation-update",
            "device-annotation-status",
            "runtime-class",
            "ephemeral-device-env",
        ),
    ),
    Bypass(
        "Images from elsewhere, image volumes",
        "Refused",
        "where a policy lists registries: all containers, image volumes, and later changes",
        ("image-registry",),
    ),
    Bypass(
        "Volumes in another place",
        "Refused",
        "where a policy lists classes and drivers; what a class does is its owner's word",
        ("claim-class", "claim-attributes", "snapshot-class", "volume-class", "volume-driver"),
    ),
    Bypass(
        "Egress, ExternalName, balancers, external addresses, endpoints by hand",
        "Refused",
        "unless a policy opens them; packets by a NetworkPolicy that nobody widens",
        (
            "service-external-name",
            "service-load-balancer",
            "service-external-ips",
            "service-endpoints",
            "egress-policy",
            "egress-widened",
        ),
        (f"{CP}/test_egress.py::test_packets_of_a_tenant_go_where_all_its_policies_allow",),
    ),
    Bypass(
        "Telemetry, licences and logs sent abroad",
        "Limit",
        "the product cannot see it; the pool declares where it goes and policies ask for that",
        (),
        (f"{CP}/test_sovereignty.py::test_each_predicate_has_its_own_answer_and_reason",),
    ),
    Bypass(
        "exec, attach, port-forward, proxy, debug",
        "Refused",
        "where a policy asks for a country of the user; reading logs is a matter of RBAC",
        ("access-country",),
    ),
    Bypass(
        "Commands through the API of a kubelet",
        "Refused",
        "through the API server; the kubelet's own port is a matter of RBAC and firewalls",
        ("node-proxy",),
    ),
    Bypass(
        "Nodes that are no machines",
        "Detected",
        "a node joins a pool by an administrator only, and another machine behind its name is seen",
        ("node-pool-label", "node-machine-label"),
        (
            f"{CP}/test_nodes_with_faults.py::test_another_machine_behind_the_name_of_a_node_waits_for_an_administrator",
        ),
    ),
    Bypass(
        "Control plane or backups abroad",
        "Limit",
        "declared by the pool, with evidence; policies ask for it",
        (),
        (f"{CP}/test_sovereignty.py::test_each_predicate_has_its_own_answer_and_reason",),
    ),
    Bypass(
        "Policies that one of several API servers has not taken up yet",
        "Detected",
        "after a change everything that runs is judged again; bound pods outside are violations",
        (),
        (f"{CP}/test_drift.py::test_alert_reports_and_touches_no_pod",),
    ),
    Bypass(
        "Stolen credentials of the operator",
        "Refused",
        "to change a workload, a node or a namespace beyond its task; what is left is below",
        (
            "release-spec",
            "release-metadata",
            "operator-status",
            "operator-eviction",
            "operator-node",
            "operator-namespace",
            "operator-network-policy",
        ),
        (
            "tests/chart/test_rights_of_the_operator.py::test_the_operator_may_do_what_is_written_and_nothing_else",
        ),
    ),
    Bypass(
        "A leader that was replaced goes on releasing",
        "Refused",
        "a release is signed under a lease; and the next leader waits until such requests ran out",
        ("fence",),
        (f"{CP}/test_two_leaders.py::test_a_stale_leader_releases_nothing",),
    ),
    Bypass(
        "One tenant evicts another by priority",
        "Refused",
        "priority above 0 takes preemptionPolicy Never",
        ("priority",),
    ),
    Bypass(
        "Host directories, privileges, the host's namespaces",
        "Refused",
        "in tenants' namespaces",
        ("host-path", "privileged", "host-namespaces"),
    ),
    Bypass(
        "Lies of a pod about itself",
        "Refused",
        "our labels and annotations, its region, who asked for it, how many GPUs it takes",
        (
            "pod-metadata",
            "pod-metadata-update",
            "pod-metadata-status",
            "pod-location-update",
            "pod-location-status",
            "location-labels",
            "requested-by",
            "gpu-count",
            "mig-uncounted",
        ),
    ),
)


def page() -> str:
    """Return the page."""
    lines = [
        f"<!-- Generated by `{COMMAND}`. Do not edit. -->",
        HEAD.read_text(encoding="utf-8").rstrip(),
        "",
        "## Ways round, one by one",
        "",
    ]
    for number, each in enumerate(BYPASSES, 1):
        lines += [f"### {number}. {each.what}", "", f"**{each.answer}**: {each.how}.", ""]
        for rule in each.rules:
            tried = [attack.name.replace("_", " ") for attack in ATTACKS if attack.rule == rule]
            lines.append(f"- `{rule}`: {'; '.join(tried)}")
        lines += [f"- `{test}`" for test in each.tests]
        lines.append("")
    return "\n".join(lines)


def missing() -> list[str]:
    """Return the tests and rules that the page names and nobody has."""
    rules = {attack.rule for attack in ATTACKS}
    lost = [rule for each in BYPASSES for rule in each.rules if rule not in rules]
    for test in {test for each in BYPASSES for test in each.tests}:
        file, _, name = test.partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        known = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        if name not in known:
            lost.append(test)
    return lost


def untold() -> set[str]:
    """Return the rules that have attacks and stand on no row, warnings aside."""
    told = {rule for each in BYPASSES for rule in each.rules}
    return {attack.rule for attack in ATTACKS if not attack.warns} - told


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == page() else f"{PAGE} is stale: {COMMAND}")
    PAGE.write_text(page(), encoding="utf-8")
