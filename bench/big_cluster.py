"""The cluster that the engine's figures speak of, as records of the core.

An industrial AI cloud: 1,250 nodes of eight GPUs in one pool, a hundred tenants. Pods carry what
the admission policies give them: gate, residency selector, toleration.
"""

from __future__ import annotations

from collections.abc import Iterator

from sovereign_gpu import names
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.model import (
    Constraints,
    Namespace,
    Node,
    NodeTerm,
    Owner,
    Pod,
    Policy,
    Pool,
    Requirement,
    Resources,
    Share,
    Taint,
    Tenant,
    Toleration,
)

NODES, TENANTS, PODS = 1250, 100, 10_000
GPUS_PER_NODE = 8
POOL, POLICY, COUNTRY, REGION = "munich-b200", "eu-only", "DE", "eu-de-muc"
GIB = 1 << 30

OWNER = Owner("batch/v1", "Job", "train", "job-1")
_NODE_SIZE = Resources(GPUS_PER_NODE, 224_000, 2048 * GIB)
_TAINT = Taint(names.GPU_TAINT, "present", "NoSchedule")
GOVERNED = Constraints(
    selector=((names.NODE_RESIDENCY_PREFIX + POLICY, names.NODE_ALLOWED),),
    tolerations=(Toleration(names.GPU_TAINT, "Exists", "", "NoSchedule"),),
)


def nodes(count: int = NODES) -> Iterator[Node]:
    """Yield ready nodes of the pool with the labels a GPU node carries."""
    for number in range(count):
        name = f"gpu-{number:04d}"
        labels = {
            names.NODE_POOL_LABEL: POOL,
            names.NODE_RESIDENCY_PREFIX + POLICY: names.NODE_ALLOWED,
            names.REGION_LABEL: REGION,
            names.ZONE_LABEL: f"{REGION}-{number % 3}",
            names.PRODUCT_LABEL: "NVIDIA-B200",
            "kubernetes.io/hostname": name,
            "sovereign-gpu.io/rack": f"rack-{number // 32}",
        }
        yield Node(name, labels, (_TAINT,), _NODE_SIZE, _NODE_SIZE, True, False)  # noqa: FBT003


def tenant(number: int) -> str:
    """Return a tenant's name; its only namespace is called the same."""
    return f"tenant-{number:03d}"


def engine(guaranteed: int, node_count: int = NODES) -> Engine:
    """Return an engine that knows nodes, namespaces and configuration, and no pod."""
    made = Engine()
    made.configure(
        [Pool(POOL, COUNTRY, REGION)],
        [
            Tenant(tenant(n), (tenant(n),), (POLICY,), (Share(POOL, guaranteed),))
            for n in range(TENANTS)
        ],
        [Policy(POLICY, frozenset({COUNTRY, "FR", "NL"}))],
    )
    for number in range(TENANTS):
        made.put_namespace(Namespace(tenant(number), tenant(number)))
    for node in nodes(node_count):
        made.put_node(node)
    return made


def pod(
    number: int,
    *,
    gpus: int = 1,
    cpu: int = 8000,
    memory: int = 64 * GIB,
    constraints: Constraints = GOVERNED,
) -> Pod:
    """Return a gated pod; pods are dealt to the tenants in turn, a second apart."""
    return Pod(
        uid=f"uid-{number}",
        namespace=tenant(number % TENANTS),
        name=f"pod-{number}",
        created=float(number),
        demand=Resources(gpus, cpu, memory),
        constraints=constraints,
        gates=(names.GATE,),
        owner=OWNER,
    )


def on_racks_other_than(number: int) -> Constraints:
    """Return constraints that no other number shares."""
    elsewhere = Requirement("sovereign-gpu.io/rack", "NotIn", (f"rack-x{number}",))
    return GOVERNED._replace(terms=(NodeTerm((elsewhere,)),))


def released(pod: Pod, node: str, *, bound: bool) -> Pod:
    """Return the pod as the watch shows it after its release, bound or not yet."""
    return Pod(
        uid=pod.uid,
        namespace=pod.namespace,
        name=pod.name,
        created=pod.created,
        demand=pod.demand,
        constraints=pod.constraints,
        pool=POOL,
        planned_node=node,
        node=node if bound else "",
        owner=OWNER,
    )
