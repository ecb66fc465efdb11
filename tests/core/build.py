"""Records for tests, each with what the test leaves out filled in by something that works."""

from __future__ import annotations

import itertools
from typing import Any

from sovereign_gpu import names
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import (
    Constraints,
    Namespace,
    Node,
    Owner,
    Pod,
    Policy,
    Pool,
    Reason,
    Release,
    Resources,
    Share,
    Taint,
    Tenant,
    Toleration,
)

GPU_TAINT = Taint(names.GPU_TAINT, "present", "NoSchedule")
TOLERATES_GPUS = Toleration(names.GPU_TAINT, "Exists", "", "NoSchedule")
REGION = "eu-de-muc"
OWNER = Owner("apps/v1", "ReplicaSet", "trainer", "owner-1")
_numbers = itertools.count(1)


def pod(gpus: int = 1, namespace: str = "acme-train", **fields: Any) -> Pod:
    """A gated pod of tenant acme; `cpu` and `memory` go into its demand."""
    number = next(_numbers)
    demand = Resources(gpus, fields.pop("cpu", 0), fields.pop("memory", 0))
    owner = OWNER if fields.pop("controlled", False) else None
    given: dict[str, Any] = {
        "uid": f"uid-{number}",
        "name": f"pod-{number}",
        "created": float(number),
        "constraints": Constraints(tolerations=(TOLERATES_GPUS,)),
        "gates": (names.GATE,),
        "owner": owner,
    }
    return Pod(namespace=namespace, demand=demand, **{**given, **fields})


def node(name: str = "n1", gpus: int = 8, pool: str = "munich", **fields: Any) -> Node:
    """A ready node of the pool `munich`; `labels` come on top, an empty pool means no label."""
    labels = {names.REGION_LABEL: REGION, **({names.NODE_POOL_LABEL: pool} if pool else {})}
    size = Resources(gpus, fields.pop("cpu", 64_000), fields.pop("memory", 1024))
    given: dict[str, Any] = {
        "labels": {**labels, **fields.pop("labels", {})},
        "taints": (GPU_TAINT,) if gpus else (),
        "capacity": size,
        "allocatable": size,
        "ready": True,
        "unschedulable": False,
    }
    return Node(name=name, **{**given, **fields})


def munich(**fields: Any) -> Pool:
    """The pool that nodes are in unless said otherwise."""
    return Pool(**{"name": "munich", "country": "DE", "region": REGION, **fields})


def tenant(name: str = "acme", guaranteed: int = 16, **fields: Any) -> Tenant:
    """A tenant with one namespace `<name>-train` and a guarantee in munich."""
    given: dict[str, Any] = {
        "namespaces": (f"{name}-train",),
        "policies": ("eu",),
        "shares": (Share("munich", guaranteed),),
    }
    return Tenant(name=name, **{**given, **fields})


def policy(name: str = "eu", *countries: str, **fields: Any) -> Policy:
    """A policy that allows the countries; DE and FR if none is given."""
    return Policy(name=name, countries=frozenset(countries or ("DE", "FR")), **fields)


def engine(
    *nodes: Node,
    pools: tuple[Pool, ...] = (munich(),),
    tenants: tuple[Tenant, ...] = (tenant(),),
    policies: tuple[Policy, ...] = (policy(),),
) -> Engine:
    """An engine that knows all that; every tenant's namespaces carry its label."""
    made = Engine()
    made.configure(pools, tenants, policies)
    for each in tenants:
        for namespace in each.namespaces:
            made.put_namespace(Namespace(namespace, each.name))
    for each_node in nodes:
        made.put_node(each_node)
    return made


def put(made: Engine, *pods: Pod) -> list[Release]:
    """Take in pods and plan until nothing moves."""
    for each in pods:
        made.put_pod(each)
    return plan(made)


def plan(made: Engine) -> list[Release]:
    """Plan until nothing moves."""
    releases: list[Release] = []
    while made.due:
        releases += made.plan(64)
    return releases


def wait(made: Engine, waiting: Pod) -> tuple[Reason, str]:
    """Return the reason and the message of a pod that waits."""
    stopped = made.stopped.get(waiting.uid)
    if stopped is None:
        queue = made.queues[made.tenant_of(waiting.namespace)]
        line = queue.line_of(waiting.uid)
        assert line is not None
        stopped = line.wait
    assert stopped is not None
    return stopped.reason, stopped.message
