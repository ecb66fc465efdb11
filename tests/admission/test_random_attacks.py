"""Random requests by random people, several at a time: nothing that must never be comes about.

`RANDOM_ATTACKS` says how many requests; a hit is shrunk to the fewest that bring it about, and its
requests are kept below.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sovereign_gpu import names
from sovereign_gpu.admission.catalogue import CATALOGUE
from sovereign_gpu.admission.manifests import manifests
from tests.admission import policies
from tests.admission.conftest import cluster
from tests.admission.random_ops import Op, ops
from tests.admission.random_world import Arena
from tests.admission.world import (
    GOVERNED,
    HOME,
    LIFT,
    RESIDENCY_LABEL,
    SETTINGS,
    SIGN,
    STRICT,
    World,
    namespace_path,
    pod,
    pods_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rig.client import Client
    from sovereign_gpu.admission.model import Policy

REQUESTS = int(os.environ.get("RANDOM_ATTACKS", "500"))
AT_A_TIME = 10
seen: Counter[int] = Counter()
"""Statuses of all answers: random requests that all fail would show nothing."""
RBAC = "rbac.authorization.k8s.io"


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """A cluster of its own: pods that others let go would look like hits."""
    with cluster("random", tmp_path_factory.mktemp("random")) as world:
        yield Arena(world, _careless(world))


def _careless(world: World) -> Client:
    """An administrator of everything but what is ours."""
    groups = ["", "apps", "batch", "networking.k8s.io", "discovery.k8s.io", "policy", "node.k8s.io"]
    role = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "careless"},
        "rules": [{"apiGroups": groups, "resources": ["*"], "verbs": ["*"]}],
    }
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "careless"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "careless"},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "careless"}],
    }
    world.admin.apply(role).must()
    world.admin.apply(binding).must()
    client = world.rig.client("careless")
    client.wait("/api/v1/nodes", lambda _: True)
    return client


@settings(
    max_examples=max(1, REQUESTS // AT_A_TIME),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@example(requests=[Op("operator", "patch-pod", GOVERNED, "gated", body=[LIFT, SIGN])])
@given(requests=st.lists(ops, min_size=AT_A_TIME, max_size=AT_A_TIME))
def test_nothing_comes_about_that_must_never_be(arena: Arena, requests: list[Op]) -> None:
    seen.update(arena.act(requests))
    wrong, closed = arena.wrong(), arena.controls()
    arena.clear()
    assert wrong == []
    assert closed == []


def test_random_requests_are_of_every_kind() -> None:
    total = sum(seen.values())
    assert total >= REQUESTS
    passed = sum(count for status, count in seen.items() if status < 300)
    # Some must get through, and most must be refused by rights or policies, not for their form.
    assert passed > total / 50
    assert seen[403] > total / 4


def test_the_judge_sees_what_must_not_be(arena: Arena) -> None:
    world = arena.world
    policies.put(world.admin, manifests(SETTINGS, [_open(policy) for policy in CATALOGUE]))
    try:
        tenant, abroad = world.tenant, {"kind": "Node", "name": world.away}
        tenant.create(pods_path(GOVERNED), pod("made-0", gpus=1)).must()
        tenant.patch(f"{pods_path(GOVERNED)}/made-0", [LIFT])
        tenant.create(pods_path(GOVERNED), pod("made-1", schedulerName="nobody")).must()
        binding = {"metadata": {"name": "made-1"}, "target": {"apiVersion": "v1", **abroad}}
        world.binder.create(f"{pods_path(GOVERNED)}/made-1/binding", binding).must()
        body = {"metadata": {"labels": {names.POOL_LABEL: "mine"}}}
        tenant.patch(f"{pods_path(GOVERNED)}/unbound", body).must()
        tenant.create(pods_path(STRICT), pod("made-2", container={"image": "evil/x"})).must()
        allowed = {"metadata": {"labels": {RESIDENCY_LABEL: names.NODE_ALLOWED}}}
        world.editor.patch(f"/api/v1/nodes/{world.bare}", allowed).must()
        wide = {"metadata": {"annotations": {names.REGIONS: "*"}}}
        world.editor.patch(namespace_path(GOVERNED), wide).must()
        wrong = " ".join(arena.wrong())
    finally:
        _undo(world)
        policies.put(world.admin, manifests(SETTINGS))
        arena.clear()
    for sign in (
        "made-0 has lost its gate",
        f"made-1 is bound to {world.away}",
        "unbound carries",
        "made-2 runs",
        f"Node {world.bare} has marks",
        f"Namespace {GOVERNED}: ",
    ):
        assert sign in wrong
    assert arena.wrong() == []


def _open(policy: Policy) -> Policy:
    """The policy without any rule; what it patches stays, so that there is a gate to lift."""
    if policy.mutating:
        return policy
    nothing = dataclasses.replace(policy.validations[0], name="nothing", expression="true")
    return dataclasses.replace(policy, validations=(nothing,))


def _undo(world: World) -> None:
    notes = {"metadata": {"annotations": {names.REGIONS: HOME}}}
    world.admin.patch(namespace_path(GOVERNED), notes).must()
    labels = {"metadata": {"labels": {RESIDENCY_LABEL: None}}}
    world.admin.patch(f"/api/v1/nodes/{world.bare}", labels).must()
    unmarked = {"metadata": {"labels": {names.POOL_LABEL: None}}}
    world.admin.patch(f"{pods_path(GOVERNED)}/unbound", unmarked).must()
