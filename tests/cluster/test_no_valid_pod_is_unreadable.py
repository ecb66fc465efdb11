"""Whatever pod the API server lets in, decoding ends in a record that agrees with it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sovereign_gpu import names
from tests.cluster.pods import PREFERRED, REQUIRED, read

words = st.text(max_size=8)
maps = st.dictionaries(words, words, max_size=3)
operators = st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Later"])
requirements = st.lists(
    st.fixed_dictionaries(
        {"key": words, "operator": operators}, optional={"values": st.lists(words, max_size=2)}
    ),
    max_size=2,
)
terms = st.fixed_dictionaries(
    {}, optional={"matchExpressions": requirements, "matchFields": requirements}
)
quantities = st.one_of(
    st.integers(0, 10**6).map(str),
    st.integers(0, 10**6).map(lambda n: f"{n}m"),
    st.sampled_from(["0", "1Gi", "1500Mi", "1e3", "2E", "0.5", "12k", "5u", "7n", "3Ti"]),
)
resources = st.dictionaries(
    st.sampled_from(["cpu", "memory", names.GPU_RESOURCE, "example.com/fpga"]), quantities
)
containers = st.fixed_dictionaries(
    {"name": words, "image": words},
    optional={
        "resources": st.fixed_dictionaries({}, optional={"requests": resources, "limits": maps}),
        "restartPolicy": st.sampled_from(["Always", "Never"]),
        "ports": st.lists(st.fixed_dictionaries({}, optional={"hostPort": st.integers(0, 65535)})),
        "env": st.lists(maps, max_size=1),
    },
)
affinities = st.fixed_dictionaries(
    {},
    optional={
        "nodeAffinity": st.fixed_dictionaries(
            {},
            optional={
                REQUIRED: st.fixed_dictionaries({"nodeSelectorTerms": st.lists(terms, max_size=3)}),
                PREFERRED: st.lists(
                    st.fixed_dictionaries({"weight": st.integers(1, 100), "preference": terms}),
                    max_size=2,
                ),
            },
        ),
        "podAffinity": st.just({}),
        "podAntiAffinity": st.just({REQUIRED: [{"topologyKey": "x"}]}),
    },
)
pods = st.builds(
    lambda meta, spec, status: {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "uid": "u",
            "name": "p",
            "namespace": "a",
            "creationTimestamp": "2026-11-23T12:00:00Z",
            **meta,
        },
        "spec": spec,
        "status": status,
    },
    st.fixed_dictionaries(
        {},
        optional={
            "labels": maps,
            "annotations": st.dictionaries(st.sampled_from([names.DECISION, "x"]), words),
            "ownerReferences": st.lists(
                st.fixed_dictionaries(
                    {"uid": words}, optional={"controller": st.booleans(), "name": words}
                )
            ),
            "deletionTimestamp": st.just("2026-11-23T12:00:00Z"),
            "managedFields": st.lists(st.dictionaries(words, maps, max_size=2), max_size=2),
        },
    ),
    st.fixed_dictionaries(
        {"containers": st.lists(containers, max_size=2)},
        optional={
            "initContainers": st.lists(containers, max_size=2),
            "schedulingGates": st.lists(st.fixed_dictionaries({"name": words}), max_size=3),
            "affinity": affinities,
            "nodeSelector": maps,
            "overhead": resources,
            "priority": st.integers(-(2**31), 2**31 - 1),
            "resources": st.fixed_dictionaries({}, optional={"requests": resources}),
            "tolerations": st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "key": words,
                        "operator": words,
                        "effect": words,
                        "tolerationSeconds": st.integers(),
                    },
                ),
                max_size=2,
            ),
            "volumes": st.lists(st.dictionaries(words, maps, max_size=1), max_size=2),
            "someFieldOfLaterVersions": st.dictionaries(words, maps, max_size=1),
        },
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "phase": words,
            "conditions": st.lists(st.fixed_dictionaries({"type": words}), max_size=2),
        },
    ),
)


@given(source=pods)
def test_no_valid_pod_is_unreadable(source: dict[str, Any]) -> None:
    found = read(source)
    assert found.gates == tuple(g["name"] for g in source["spec"].get("schedulingGates", ()))
    affinity = source["spec"].get("affinity")
    assert found.shape.affinity == (affinity is not None)
    assert found.shape.node_affinity == ("nodeAffinity" in (affinity or {}))
    terms_there = (affinity or {}).get("nodeAffinity", {}).get(REQUIRED)
    assert (found.shape.required is None) == (terms_there is None)
    assert (found.constraints.terms is None) == (terms_there is None)
    assert found.shape.labels == ("labels" in source["metadata"])
    assert read(source) == found
    assert hash(found.constraints) == hash(read(source).constraints)
