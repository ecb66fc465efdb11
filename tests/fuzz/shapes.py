"""Random objects: pods and nodes as the API server takes them, resources by their schema or beside.

Plain generators with a seed, ten times as quick as a property-testing library, since a hundred
thousand inputs are wanted and the seed alone tells how to make one again.
"""

from __future__ import annotations

import copy
import random
from typing import Any

from sovereign_gpu import names
from sovereign_gpu.api.crdgen import definition
from sovereign_gpu.api.parse import KINDS
from tests.cluster.pods import PREFERRED, REQUIRED

Json = dict[str, Any]

_WORDS = ("", "a", "munich", "eu", "acme", "x" * 63, "ä", "0", "*", "true", "a/b", "-1", "\u0000")
_QUANTITIES = ("0", "1", "8", "1Gi", "1500m", "1e3", "2E", "0.5", "12k", "5u", "7n", "3Ti", "64")
_SPACES = ("acme", "beta", "gone")
_NODES = tuple(f"n{number}" for number in range(40))


def schemas() -> dict[str, Json]:
    """Return the schema of each kind, as the definitions carry it."""
    found = {}
    for kind, model in KINDS.items():
        version = definition(model)["spec"]["versions"][0]
        found[str(kind)] = version["schema"]["openAPIV3Schema"]
    return found


class Maker:
    """Makes objects of one seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 – not for secrets
        self.oddity = 0.4
        """Chance of each part that need not be there."""
        self._born: dict[str, Json] = {}
        """Pods by uid: of some things the API server allows no change."""

    def word(self) -> str:
        return self.chance.choice(_WORDS)

    def some(self, of: Any, most: int = 3) -> list[Any]:
        return [of() for _ in range(self.chance.randrange(most + 1))]

    def maybe(self, **parts: Any) -> Json:
        """Return some of the parts; each is a function that makes it."""
        return {key: make() for key, make in parts.items() if self.chance.random() < self.oddity}

    def map(self) -> dict[str, str]:
        return {self.word(): self.word() for _ in range(self.chance.randrange(3))}

    # --- pods and nodes -------------------------------------------------------------------------
    def pod(self, number: int) -> Json:
        """Return a new pod, or an older one changed; half of them are plain."""
        uid = f"uid-{self.chance.randrange(60)}"
        known = self._born.get(uid)
        body = self._new_pod(number, uid) if known is None else self._later(known, number)
        self._born[uid] = body
        return body

    def forget(self, uid: str) -> None:
        """Let the next pod of a uid be another one."""
        self._born.pop(uid, None)

    def _later(self, body: Json, number: int) -> Json:
        body = copy.deepcopy(body)
        spec, meta = body["spec"], body["metadata"]
        meta["resourceVersion"] = str(number + 1)
        if self.chance.random() < 0.3:
            spec["schedulingGates"] = []
        if not spec["schedulingGates"] and self.chance.random() < 0.2:
            spec.setdefault("nodeName", self.chance.choice(_NODES))
        if self.chance.random() < 0.1:
            meta["deletionTimestamp"] = "2026-11-23T12:00:00Z"
        body["status"] = self._status()
        return body

    def _status(self) -> Json:
        return self.maybe(
            phase=lambda: self.chance.choice(("Pending", "Running", "Unknown")),
            conditions=lambda: self.some(self._condition),
        )

    def _new_pod(self, number: int, uid: str) -> Json:
        chance = self.chance
        self.oddity = chance.choice((0.4, 0.03))
        gates = [names.GATE] if chance.random() < 0.6 else []
        gates += ["example.com/other"] if chance.random() < 0.1 else []
        spec: Json = {
            "containers": [self._container() for _ in range(chance.choice((1, 1, 1, 3)))],
            "schedulingGates": [{"name": gate} for gate in gates],
            **self.maybe(
                initContainers=lambda: self.some(self._container, 2),
                resources=lambda: {"requests": self._amounts()},
                overhead=self._amounts,
                nodeSelector=self.map,
                affinity=self._affinity,
                tolerations=lambda: self.some(self._toleration),
                topologySpreadConstraints=lambda: self.some(dict, 1),
                volumes=lambda: self.some(lambda: {"persistentVolumeClaim": {}}, 1),
                priority=lambda: chance.choice((0, -100, 10**9)),
            ),
        }
        if not gates and chance.random() < 0.3:
            spec["nodeName"] = chance.choice(_NODES)
        meta: Json = {
            "name": f"p{chance.randrange(50)}",
            "namespace": chance.choice(_SPACES),
            "uid": uid,
            "resourceVersion": str(number + 1),
            "creationTimestamp": "2026-11-23T12:00:00Z",
            **self.maybe(
                labels=lambda: {names.POOL_LABEL: chance.choice(("munich", "nowhere"))},
                annotations=self._annotations,
                ownerReferences=lambda: self.some(self._owner, 2),
            ),
        }
        if chance.random() < 0.1:
            meta["deletionTimestamp"] = "2026-11-23T12:00:00Z"
        return {"metadata": meta, "spec": spec, "status": self._status()}

    def node(self, number: int) -> Json:
        """Return a node; half of them are as they should be."""
        chance = self.chance
        self.oddity = 0.4
        if chance.random() < 0.5:
            return self._good_node(number)
        labels = {
            names.NODE_POOL_LABEL: chance.choice(("munich", "paris", "nowhere")),
            names.REGION_LABEL: chance.choice(("muc", "par", "")),
            **self.map(),
        }
        return {
            "metadata": {
                "name": chance.choice(_NODES),
                "uid": "u",
                "resourceVersion": str(number + 1),
                **self.maybe(labels=lambda: labels),
            },
            "spec": self.maybe(
                taints=lambda: self.some(lambda: {"key": self.word(), "effect": "NoSchedule"}),
                unschedulable=lambda: chance.random() < 0.5,
                providerID=self.word,
            ),
            "status": self.maybe(
                capacity=self._amounts,
                allocatable=self._amounts,
                conditions=lambda: [
                    {"type": "Ready", "status": chance.choice(("True", "False", "Unknown"))},
                    *self.some(self._condition),
                ],
                nodeInfo=lambda: {"systemUUID": self.word()},
            ),
        }

    def _good_node(self, number: int) -> Json:
        pool, region = self.chance.choice((("munich", "muc"), ("paris", "par")))
        labels = {names.NODE_POOL_LABEL: pool, names.REGION_LABEL: region}
        room = {"cpu": "200", "memory": "2Ti", names.GPU_RESOURCE: "8"}
        meta = {"name": self.chance.choice(_NODES), "uid": "u", "labels": labels}
        ready = [{"type": "Ready", "status": "True"}]
        status = {"capacity": room, "allocatable": room, "conditions": ready}
        return {"metadata": {**meta, "resourceVersion": str(number + 1)}, "status": status}

    def _amounts(self) -> dict[str, str]:
        keys = ("cpu", "memory", names.GPU_RESOURCE, "example.com/fpga")
        return {
            key: self.chance.choice(("0", "1", "2", "8", "9") if key == keys[2] else _QUANTITIES)
            for key in keys
            if self.chance.random() < 0.6
        }

    def _container(self) -> Json:
        gpus = {"requests": {names.GPU_RESOURCE: self.chance.choice(("1", "1", "2", "9"))}}
        return {
            "name": self.word(),
            "resources": gpus,
            **self.maybe(
                resources=lambda: {"requests": self._amounts()},
                restartPolicy=lambda: "Always",
                ports=lambda: self.some(lambda: {"hostPort": self.chance.randrange(65536)}, 2),
            ),
        }

    def _affinity(self) -> Json:
        return self.maybe(
            nodeAffinity=lambda: self.maybe(
                **{
                    REQUIRED: lambda: {"nodeSelectorTerms": self.some(self._term)},
                    PREFERRED: lambda: self.some(dict, 2),
                }
            ),
            podAffinity=lambda: {REQUIRED: [{"topologyKey": "x"}]},
            podAntiAffinity=dict,
        )

    def _term(self) -> Json:
        return self.maybe(
            matchExpressions=lambda: self.some(self._expression),
            matchFields=lambda: self.some(self._expression),
        )

    def _expression(self) -> Json:
        operators = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Later")
        return {
            "key": self.chance.choice((names.NODE_POOL_LABEL, "metadata.name", self.word())),
            "operator": self.chance.choice(operators),
            **self.maybe(values=lambda: self.some(self.word)),
        }

    def _toleration(self) -> Json:
        return self.maybe(
            key=self.word,
            operator=lambda: self.chance.choice(("Exists", "Equal")),
            value=self.word,
            effect=lambda: self.chance.choice(("NoSchedule", "NoExecute", "")),
        )

    def _annotations(self) -> dict[str, str]:
        keys = (names.DECISION, names.RELEASED_BY, names.DRIFT_NOTICE, "x")
        texts = ("", "{", "[]", "null", '{"node":"n1"}', '{"node":7}', '{"pool":{}}', "x/y")
        return {key: self.chance.choice(texts) for key in keys if self.chance.random() < 0.4}

    def _owner(self) -> Json:
        return {
            "apiVersion": "apps/v1",
            "kind": self.chance.choice(("ReplicaSet", "Node", "Job")),
            "name": self.word(),
            "uid": self.word(),
            **self.maybe(controller=lambda: True),
        }

    def _condition(self) -> Json:
        return {
            "type": self.chance.choice(("PodScheduled", "Ready", "GpuUnhealthy", self.word())),
            "status": self.chance.choice(("True", "False", "Unknown")),
            **self.maybe(
                reason=lambda: self.chance.choice(("Unschedulable", "SchedulingGated", "")),
                message=self.word,
                lastTransitionTime=lambda: self.chance.choice(("2026-11-23T12:00:00Z", None)),
            ),
        }

    # --- custom resources -----------------------------------------------------------------------
    def resource(self, kind: str, schema: Json, number: int) -> Json:
        """Return an object that fits its schema, but for a few fields that do not."""
        body = self._by_schema(schema, depth=0)
        if not isinstance(body, dict):
            body = {}
        meta = {
            "name": self.chance.choice(("munich", "paris", "acme", "beta", "eu", f"n{number}")),
            "uid": f"uid-{self.chance.randrange(10)}",
            "generation": self.chance.randrange(1, 4),
            "resourceVersion": str(number + 1),
        }
        api = f"{names.GROUP}/{names.VERSION}"
        return {**body, "apiVersion": api, "kind": kind, "metadata": meta}

    def _by_schema(self, schema: Json, depth: int) -> Any:
        chance = self.chance
        if chance.random() < 0.02:
            return chance.choice((None, 0, "", [], {}, -1, 2**63, "x" * 300, True, 1.5))
        if "enum" in schema:
            return chance.choice(schema["enum"])
        kind = schema.get("type")
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            most = min(schema.get("maxItems", 3), 3)
            least = schema.get("minItems", 0)
            count = chance.randrange(least, max(least, most) + 1)
            return [self._by_schema(schema["items"], depth + 1) for _ in range(count)]
        if kind == "boolean":
            return chance.random() < 0.5
        return self._number(schema) if kind == "integer" else self._text()

    def _number(self, schema: Json) -> int:
        least, most = schema.get("minimum", 0), schema.get("maximum", 100)
        return self.chance.choice((least, most, min(most, least + 8)))

    def _text(self) -> str:
        usual = ("munich", "paris", "muc", "par", "acme", "beta", "eu", "DE", "FR", "EU")
        dates = ("2026-11-23", "2026-02-30", "2026-11-23T12:00:00Z", "sha256:" + "0" * 64)
        return self.chance.choice((*usual, *dates, "10.0.0.0/8", "::/0", self.word()))

    def _object(self, schema: Json, depth: int) -> Json:
        parts = schema.get("properties", {})
        needed = set(schema.get("required", ()))
        found = {
            key: self._by_schema(part, depth + 1)
            for key, part in parts.items()
            if key in needed or self.chance.random() < (0.9 if depth == 0 else 0.25)
        }
        more = schema.get("additionalProperties")
        if isinstance(more, dict):
            found |= {self.word(): self._by_schema(more, depth + 1) for _ in range(2)}
        return found

    # --- bytes ----------------------------------------------------------------------------------
    def spoiled(self, content: bytes) -> bytes:
        """Return bytes with a few of them changed, left out or repeated."""
        spoiled = bytearray(content)
        for _ in range(self.chance.randrange(1, 6)):
            at = self.chance.randrange(len(spoiled) + 1)
            what = self.chance.randrange(4)
            if what == 0:
                spoiled[at:at] = self.chance.randbytes(self.chance.randrange(1, 9))
            elif what == 1:
                del spoiled[at : at + self.chance.randrange(1, 40)]
            elif what == 2:
                spoiled[at:at] = spoiled[max(0, at - 30) : at]
            elif at < len(spoiled):
                spoiled[at] = self.chance.randrange(256)
        return bytes(spoiled)
