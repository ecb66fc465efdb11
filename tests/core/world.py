"""A small cluster that changes at random: the truth behind the API server, and kube-scheduler.

Everything that can happen to pods, nodes, namespaces and our custom resources happens here, and
nothing here knows the engine. Only few names and sizes exist, so that events meet often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import TypeVar

from sovereign_gpu import names
from sovereign_gpu.core.model import (
    Constraints,
    HealthRule,
    Namespace,
    Node,
    NodeTerm,
    Owner,
    Placement,
    Pod,
    Policy,
    Pool,
    Release,
    Requirement,
    Resources,
    Share,
    Taint,
    Tenant,
    Toleration,
)
from tests.core import reference

T = TypeVar("T")

TENANTS = ("acme", "bolt", "cobra")
NAMESPACES = {"acme-1": "acme", "acme-2": "acme", "bolt-1": "bolt", "cobra-1": "cobra"}
FOREIGN_NAMESPACE = "gpu-operator"
POOLS = ("north", "south", "trial")
REGIONS = {"north": "de-1", "south": "fr-1", "trial": "de-1"}
COUNTRIES = {"north": "DE", "south": "FR", "trial": "DE"}
POLICIES = {"eu": frozenset({"DE", "FR"}), "de-only": frozenset({"DE"})}
NODES = tuple(f"n{number}" for number in range(8))
MOST_PODS = 24

_OWNER = Owner("apps/v1", "ReplicaSet", "trainer", "owner-1")
_TAINT = Taint(names.GPU_TAINT, "present", "NoSchedule")
_TOLERATION = Toleration(names.GPU_TAINT, "Exists", "", "NoSchedule")
_PLAIN = Constraints(tolerations=(_TOLERATION,))
_CONSTRAINTS = (
    _PLAIN,
    _PLAIN,
    _PLAIN,
    _PLAIN._replace(selector=(("zone", "a"),)),
    _PLAIN._replace(terms=(NodeTerm((Requirement("zone", "NotIn", ("a",)),)),)),
    _PLAIN._replace(
        terms=(
            NodeTerm((), (Requirement("metadata.name", "In", ("n0", "n1")),)),
            NodeTerm((Requirement("size", "Gt", ("4",)), Requirement("zone", "Exists"))),
        )
    ),
    Constraints(tolerations=(Toleration(operator="Exists"),)),
)
_SIZES = (0, 1, 1, 1, 2, 2, 3, 4, 6, 8)
_GATED = (names.GATE,)
_TROUBLES: tuple[dict[str, str], ...] = (
    {"nvidia.com/gpu-driver-upgrade-state": "upgrade-required"},
    {"nvidia.com/gpu-driver-upgrade-state": "pod-restart-required"},
    {"nvidia.com/mig.config.state": "pending"},
    {"nvidia.com/mig.config.state": "success", "nvidia.com/gpu.deploy.device-plugin": "true"},
    {"nvidia.com/gpu.deploy.device-plugin": "paused-for-mig-change"},
    {"nvidia.com/gpu.deploy.sandbox-validator": "yes_paused-for-cc-mode-change"},
    {"nvidia.com/cc.mode": "on", "nvidia.com/cc.mode.state": "off"},
    {"nvidia.com/cc.mode": "on", "nvidia.com/cc.mode.state": "on"},
    {"nvidia.com/cc.mode.state": "failed"},
)
"""Labels that NVIDIA's operators put on a node, troubled and in order."""
_CONDITIONS = ("AcceleratedHardwareReady", "DiskPressure", "GpuMemWatch", "RackCool", "XIDErrors")
_RULES = (
    HealthRule("RackCool", "False"),
    HealthRule("GpuMemWatch", "Ignored"),
    HealthRule("XIDErrors", "Unknown"),
)


class World:
    """What the API server holds. Pods are those that are not finished."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.pods: dict[str, Pod] = {}
        self.nodes: dict[str, Node] = {}
        self.namespaces: dict[str, Namespace] = {}
        self.pools: dict[str, Pool] = {}
        self.tenants: dict[str, Tenant] = {}
        self.policies: dict[str, Policy] = {}
        self.history: dict[str, list[Pod]] = {}
        """Earlier states of pods, which a slow watch may still deliver."""
        self.limits: dict[str, tuple[str, ...]] = {}
        """Nodes that the release of a pod left to it."""
        self.changed: dict[str, set[str]] = {"pod": set(), "node": set(), "namespace": set()}
        self.configuration_changed = True
        self._made = 0
        for name in NODES:
            self.join(name)
        for name, tenant in NAMESPACES.items():
            self._put_namespace(Namespace(name, tenant))
        self._put_namespace(Namespace(FOREIGN_NAMESPACE))
        for name in POOLS:
            self._put_pool(name)
        for name in TENANTS:
            self._put_tenant(name)
        for name in POLICIES:
            self._put_policy(name)

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.rng.random() * len(options))]

    def some(self, probability: float) -> bool:
        return self.rng.random() < probability

    # --- pods -----------------------------------------------------------------------------
    def _store(self, pod: Pod) -> None:
        if pod.uid in self.pods:
            self.history.setdefault(pod.uid, []).append(self.pods[pod.uid])
        self.pods[pod.uid] = pod
        self.changed["pod"].add(pod.uid)

    def create_pod(self) -> None:
        """Have somebody create a pod: mostly a tenant, gated by the admission policy."""
        if len(self.pods) >= MOST_PODS:
            self.end_pod()
            return
        self._made += 1
        kind = self.rng.random()
        foreign = kind < 0.08
        old = kind > 0.96  # older than the installation: never had our gate
        gates: tuple[str, ...] = () if foreign or old else _GATED
        if gates and self.some(0.1):
            gates = self.pick(((*_GATED, "other/gate"), ("other/gate", *_GATED)))
        gpus = self.pick(_SIZES)
        self._store(
            Pod(
                uid=f"u{self._made}",
                namespace=FOREIGN_NAMESPACE if foreign else self.pick(tuple(NAMESPACES)),
                name=f"p{self._made}",
                created=float(self._made // 2),
                demand=Resources(gpus, self.pick((0, 1000, 14_000)), self.pick((1, 16, 60))),
                constraints=self.pick(_CONSTRAINTS),
                priority=self.pick((0, 0, 0, 5, -5)),
                gates=gates,
                node=self.pick(NODES) if foreign and self.some(0.5) else "",
                owner=self.pick((_OWNER, None)),
                follows_others=self.some(0.3),
            )
        )

    def _any_pod(self) -> Pod | None:
        return self.pods[self.pick(tuple(self.pods))] if self.pods else None

    def end_pod(self) -> None:
        """Let a pod finish or vanish, or begin to be deleted."""
        pod = self._any_pod()
        if pod is None:
            return
        if not pod.deleting and self.some(0.3):
            self._store(replace(pod, deleting=True))
            return
        self.history.setdefault(pod.uid, []).append(self.pods.pop(pod.uid))
        self.changed["pod"].add(pod.uid)
        self.limits.pop(pod.uid, None)

    def touch_pod(self) -> None:
        """Change something else of a pod: another's gate, CPU by a resize, our own notice."""
        pod = self._any_pod()
        if pod is None:
            return
        ours = tuple(gate for gate in pod.gates if gate == names.GATE)
        if ours and self.some(0.1):  # an admin lifts it, or a patch lands that was given up
            self._store(replace(pod, gates=tuple(g for g in pod.gates if g != names.GATE)))
        elif len(ours) < len(pod.gates):
            self._store(replace(pod, gates=ours))
        elif pod.node:
            demand = pod.demand._replace(cpu=self.pick((0, 1000, 9000)))
            self._store(replace(pod, demand=demand))
        else:
            self._store(replace(pod, message=f"notice {self._made}"))

    def land(self, release: Release) -> bool:
        """Apply the patch of a release; False if the pod or its gate is gone."""
        pod = self.pods.get(release.pod.uid)
        if pod is None or names.GATE not in pod.gates:
            return False
        gates = tuple(gate for gate in pod.gates if gate != names.GATE)
        self._store(
            replace(pod, gates=gates, pool=release.pool, planned_node=release.node, released_by="x")
        )
        if release.pinned:
            self.limits[pod.uid] = (release.node,)
        elif release.spares:
            self.limits[pod.uid] = (release.node, *release.spares)
        return True

    def schedule(self) -> None:
        """Do as kube-scheduler does with one pod: bind it to some node that admits it."""
        waiting = [pod for pod in self.pods.values() if not pod.gates and not pod.node]
        if not waiting:
            return
        pod = self.pick(waiting)
        allowed = self.limits.get(pod.uid)
        fitting = [
            node.name
            for node in self.nodes.values()
            if (allowed is None or node.name in allowed)
            and (allowed is not None or self._in_pool(pod, node))
            and node.ready
            and reference.admitted(pod.constraints, node)
            and self._has_room(node, pod)
        ]
        if fitting:
            self._store(replace(pod, node=self.pick(fitting)))

    def _in_pool(self, pod: Pod, node: Node) -> bool:
        pool = self.pools.get(pod.pool)
        if not pod.pool or pool is None:
            return not pod.pool
        if pool.labelled:
            return node.labels.get(names.NODE_POOL_LABEL) == pool.name
        return all(reference.satisfies(r, node.labels) for r in pool.selector)

    def _has_room(self, node: Node, pod: Pod) -> bool:
        held = [p.demand for p in self.pods.values() if p.node == node.name]
        return all(
            sum(demand[part] for demand in held) + pod.demand[part] <= node.allocatable[part]
            for part in range(3)
        )

    # --- nodes ----------------------------------------------------------------------------
    def join(self, name: str) -> None:
        """Let a node join, companions included."""
        gpus = self.pick((8, 8, 4, 4, 0))
        size = Resources(gpus, 32_000, 128)
        pool = self.pick(POOLS)
        labels = {
            "zone": self.pick(("a", "b")),
            "size": str(gpus),
            names.REGION_LABEL: REGIONS[pool],
        }
        if pool == "trial":
            labels["trial"] = "yes"
        else:
            labels[names.NODE_POOL_LABEL] = pool
        taints = (_TAINT,) if gpus else ()
        self._made += 1
        node = Node(name, labels, taints, size, size, ready=True, unschedulable=False)
        node = replace(node, machine=f"m{self._made}", provider_id=self.pick(("", "p")))
        self._put_node(_recorded(node) if self.some(0.7) else node)

    def _put_node(self, node: Node) -> None:
        self.nodes[node.name] = node
        self.changed["node"].add(node.name)

    def change_node(self) -> None:
        """Let a node come, go, be cordoned, lose devices, or be relabelled."""
        name = self.pick(NODES)
        node = self.nodes.get(name)
        if node is None:
            self.join(name)
            return
        if self.some(0.3):
            self._put_node(self._with_another_fate(node))
            return
        what = self.rng.random()
        if what < 0.12:
            del self.nodes[name]
            self.changed["node"].add(name)
        elif what < 0.35:
            self._put_node(replace(node, unschedulable=self.some(0.3)))
        elif what < 0.5:
            self._put_node(replace(node, ready=self.some(0.7)))
        elif what < 0.75:
            gpus = self.pick((node.capacity.gpus, node.capacity.gpus, 3, 0))
            gpus = min(gpus, node.capacity.gpus)
            self._put_node(replace(node, allocatable=node.allocatable._replace(gpus=gpus)))
        elif what < 0.85:
            zone = {"a": "b", "b": "a"}[node.labels["zone"]]
            self._put_node(replace(node, labels={**node.labels, "zone": zone}))
        elif what < 0.92:
            region = self.pick(("de-1", "fr-1", "us-1"))
            self._put_node(replace(node, labels={**node.labels, names.REGION_LABEL: region}))
        else:
            self.join(name)  # with another size and pool, as if it were new

    def _with_another_fate(self, node: Node) -> Node:
        """Return the node ailing, healed, or as another machine."""
        what = self.rng.random()
        if what < 0.4:
            labels = {k: v for k, v in node.labels.items() if not k.startswith("nvidia.com/")}
            trouble = self.pick(_TROUBLES) if self.some(0.5) else {}
            return replace(node, labels=labels | trouble)
        if what < 0.7:
            shown = {kind for kind in _CONDITIONS if self.some(0.3)}
            conditions = [(kind, self.pick(("True", "False", "Unknown"))) for kind in sorted(shown)]
            return replace(node, conditions=tuple(conditions) if self.some(0.5) else ())
        if what < 0.85:  # an administrator takes the machine in, and the operator records it
            return _recorded(node)
        return replace(node, machine=self.pick(("", "another")), provider_id=self.pick(("", "p")))

    # --- namespaces and configuration -----------------------------------------------------
    def _put_namespace(self, namespace: Namespace) -> None:
        self.namespaces[namespace.name] = namespace
        self.changed["namespace"].add(namespace.name)

    def change_namespace(self) -> None:
        """Let a namespace go, come, or change its tenant."""
        name = self.pick(tuple(NAMESPACES))
        if name in self.namespaces and self.some(0.2):
            del self.namespaces[name]
            self.changed["namespace"].add(name)
            return
        tenant = NAMESPACES[name] if self.some(0.85) else self.pick(("", *TENANTS))
        self._put_namespace(Namespace(name, tenant))

    def _put_pool(self, name: str) -> None:
        elsewhere = self.some(0.05)
        self.pools[name] = Pool(
            name=name,
            country="US" if elsewhere else COUNTRIES[name],
            region=REGIONS[name],
            labelled=name != "trial",
            selector=(Requirement("trial", "Exists"),) if name == "trial" else (),
            incumbent=not elsewhere and self.some(0.8),
            placement=self.pick((Placement.PACK, Placement.PACK, *Placement)),
            health=tuple(rule for rule in _RULES if self.some(0.3)),
        )

    def _put_tenant(self, name: str) -> None:
        pools = [pool for pool in POOLS if self.some(0.8)]
        self.rng.shuffle(pools)
        self.tenants[name] = Tenant(
            name=name,
            namespaces=tuple(
                namespace  # some claim what belongs to another
                for namespace, owner in NAMESPACES.items()
                if self.some(0.95 if owner == name else 0.1)
            ),
            policies=("eu",) if self.some(0.6) else ("de-only", "eu"),
            shares=tuple(self._share(pool) for pool in pools),
            weight=self.pick((1, 1, 2, 5)),
        )

    def _share(self, pool: str) -> Share:
        guaranteed = self.pick((0, 2, 8, 16, 24, 32))
        lends = self.pick((None, None, 0, guaranteed // 2, guaranteed + 4))
        return Share(pool, guaranteed, self.pick((0, 0, 4, 16)), lends)

    def _put_policy(self, name: str) -> None:
        self.policies[name] = Policy(name, POLICIES[name], enforced=self.some(0.9))

    def configure(self) -> None:
        """Let somebody write or delete one of our custom resources."""
        self.configuration_changed = True
        present: dict[str, Pool] | dict[str, Tenant] | dict[str, Policy]
        what = self.rng.random()
        if what < 0.2:
            name, present, put = self.pick(POOLS), self.pools, self._put_pool
        elif what < 0.8:
            name, present, put = self.pick(TENANTS), self.tenants, self._put_tenant
        else:
            name, present, put = self.pick(tuple(POLICIES)), self.policies, self._put_policy
        if name in present and self.some(0.15):
            del present[name]
        else:
            put(name)


def _recorded(node: Node) -> Node:
    machine = ".".join(reference.identity(node))
    return replace(node, labels=node.labels | {names.NODE_MACHINE_LABEL: machine})
