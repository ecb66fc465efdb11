"""What a release adds to a pod's node affinity: a pin, a preference, never more freedom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sovereign_gpu import names
from tests.control_plane.cluster import decision, pod, preferred_terms, required_terms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.control_plane.cluster import Cluster, Site, Tenant

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
HOSTNAME = "kubernetes.io/hostname"
OS = {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}
ARCH = {"key": "kubernetes.io/arch", "operator": "NotIn", "values": ["s390x"]}
LATER = {"weight": 1, "preference": {"matchExpressions": [ARCH]}}


@pytest.fixture(scope="module")
def hall(cluster: Cluster) -> Iterator[Site]:
    """Two nodes that the tests of this file share."""
    made = cluster.site()
    yield made
    made.clear()


@pytest.fixture(scope="module")
def tenant(hall: Site) -> Tenant:
    """A tenant that may use both nodes."""
    return hall.tenant("acme", {hall.pool(nodes=2): 16}, [hall.policy()])


@pytest.fixture(autouse=True)
def empty(hall: Site, tenant: Tenant) -> Iterator[None]:
    """No pods are left to the next test."""
    yield
    hall.drop(tenant.pods)


def _released(hall: Site, tenant: Tenant, body: dict[str, Any]) -> Any:
    hall.submit(tenant, body)
    return hall.bound(tenant, body["metadata"]["name"])


def _owner(hall: Site, tenant: Tenant) -> dict[str, Any]:
    metadata = {"name": "owner", "namespace": tenant.namespace}
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
    made = hall.admin.apply(owner).must()
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": made["metadata"]["uid"],
        "controller": True,
    }


def _pin(node: str) -> dict[str, Any]:
    return {"key": "metadata.name", "operator": "In", "values": [node]}


def _alternatives(hall: Site, node: str) -> list[dict[str, Any]]:
    """Few named nodes instead of the pool: kube-scheduler looks at all of them, and only them."""
    others = [other for other in hall.nodes if other != node]
    return [{"matchFields": [_pin(each)]} for each in (node, *others)]


def _in_pool(hall: Site) -> dict[str, Any]:
    return {"key": names.NODE_POOL_LABEL, "operator": "In", "values": [hall.name("pool")]}


def test_a_pod_with_a_controller_is_pinned_to_the_node_that_was_counted_on(
    hall: Site, tenant: Tenant
) -> None:
    found = _released(hall, tenant, pod("owned", owner=_owner(hall, tenant)))
    node = decision(found)["node"]
    assert decision(found)["pinned"] is True
    assert found["spec"]["nodeName"] == node
    assert required_terms(found) == [{"matchFields": [_pin(node)]}]
    assert preferred_terms(found) == []


def test_a_bare_pod_may_take_another_node_and_prefers_the_one_counted_on(
    hall: Site, tenant: Tenant
) -> None:
    found = _released(hall, tenant, pod("bare"))
    node = decision(found)["node"]
    assert decision(found)["pinned"] is False
    assert required_terms(found) == _alternatives(hall, node)
    assert preferred_terms(found) == [{"weight": 100, "preference": {"matchFields": [_pin(node)]}}]
    assert found["spec"]["nodeName"] == node


def test_the_nodes_of_a_pool_are_filled_one_after_the_other(hall: Site, tenant: Tenant) -> None:
    owner = _owner(hall, tenant)
    nodes = {
        _released(hall, tenant, pod(f"owned-{n}", gpus=2, owner=owner))["spec"]["nodeName"]
        for n in range(4)
    }
    assert len(nodes) == 1


AFFINITIES: dict[str, dict[str, Any]] = {
    "one term": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [OS]}]}}},
    "two terms": {
        "nodeAffinity": {
            REQUIRED: {
                "nodeSelectorTerms": [{"matchExpressions": [OS]}, {"matchExpressions": [OS, ARCH]}]
            }
        }
    },
    "a preference": {"nodeAffinity": {PREFERRED: [LATER]}},
    "both": {
        "nodeAffinity": {
            REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [ARCH]}]},
            PREFERRED: [LATER],
        }
    },
    "an empty term beside another": {
        "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{}, {"matchExpressions": [OS]}]}}
    },
    "an empty node affinity": {"nodeAffinity": {}},
    "an empty affinity": {},
}


@pytest.mark.parametrize("owned", [True, False], ids=["owned", "bare"])
@pytest.mark.parametrize("shape", AFFINITIES)
def test_a_pods_own_node_affinity_is_narrowed_and_never_widened(
    hall: Site, tenant: Tenant, shape: str, *, owned: bool
) -> None:
    affinity = AFFINITIES[shape]
    terms = affinity.get("nodeAffinity", {}).get(REQUIRED, {}).get("nodeSelectorTerms", [])
    owner = _owner(hall, tenant) if owned else None
    found = _released(hall, tenant, pod("choosy", affinity=affinity, owner=owner))
    node = decision(found)["node"]
    pin = {"matchFields": [_pin(node)]}
    if terms:
        added = pin if owned else {"matchExpressions": [_in_pool(hall)]}
        assert required_terms(found) == [_narrowed(term, added) for term in terms]
    else:
        assert required_terms(found) == ([pin] if owned else _alternatives(hall, node))
    own = affinity.get("nodeAffinity", {}).get(PREFERRED, [])
    assert preferred_terms(found)[: len(own)] == own
    assert len(preferred_terms(found)) == len(own) + (not owned)


def _narrowed(term: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    if not term:
        return term  # matches no node; an addition would let it match
    return {
        key: [*term.get(key, []), *added.get(key, [])]
        for key in ("matchExpressions", "matchFields")
        if key in term or key in added
    }


def test_a_pod_that_names_its_node_by_field_or_label_gets_that_node(
    hall: Site, tenant: Tenant
) -> None:
    first, second = hall.nodes
    by_field = {"nodeSelectorTerms": [{"matchFields": [_pin(second)]}]}
    body = pod("by-field", affinity={"nodeAffinity": {REQUIRED: by_field}})
    assert _released(hall, tenant, body)["spec"]["nodeName"] == second
    body = pod("by-label", nodeSelector={HOSTNAME: first})
    assert _released(hall, tenant, body)["spec"]["nodeName"] == first


def test_pods_that_follow_other_pods_are_not_pinned(hall: Site, tenant: Tenant) -> None:
    owner, labels = _owner(hall, tenant), {"app": "spread"}
    rule = {"labelSelector": {"matchLabels": labels}, "topologyKey": HOSTNAME}
    affinity = {"podAntiAffinity": {REQUIRED: [rule]}}
    for number in range(2):
        body = pod(f"apart-{number}", owner=owner, affinity=affinity)
        body["metadata"]["labels"] = labels
        hall.submit(tenant, body)
    found = [hall.bound(tenant, f"apart-{number}") for number in range(2)]
    assert [decision(each)["pinned"] for each in found] == [False, False]
    assert {each["spec"]["nodeName"] for each in found} == set(hall.nodes)
    assert found[0]["spec"]["affinity"]["podAntiAffinity"] == affinity["podAntiAffinity"]


def test_a_pod_whose_volume_lies_on_a_node_follows_its_volume(hall: Site, tenant: Tenant) -> None:
    # The engine fills the node that is used already; the volume lies on the other one.
    used = _released(hall, tenant, pod("first"))["spec"]["nodeName"]
    other = next(node for node in hall.nodes if node != used)
    _volume(hall, tenant, other)
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    body = pod("reader", owner=_owner(hall, tenant), volumes=volumes)
    found = _released(hall, tenant, body)
    assert decision(found)["pinned"] is False
    assert found["spec"]["nodeName"] == other


def _volume(hall: Site, tenant: Tenant, node: str) -> None:
    name = hall.name("data")
    host = {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [node]}]}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "local",
            "local": {"path": "/raid"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [host]}},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": tenant.namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "local",
            "volumeName": name,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    for each in (volume, claim):
        hall.admin.apply(each).must()
    hall.undo(hall.admin.object_path(claim))
    hall.undo(hall.admin.object_path(volume))
    hall.admin.wait(
        hall.admin.object_path(claim), lambda found: found["status"]["phase"] == "Bound"
    )
