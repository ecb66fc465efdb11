"""The truth: an API server in memory, as exact as the operator's safety needs it.

One version counter, lists by quorum, watches that replay from a version, JSON and merge patches,
resource versions, and the fence. It does what it is told at once; that requests and answers come
late, twice or not at all is the business of `line`.
"""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sovereign_gpu import names
from sovereign_gpu.cluster.kinds import PODS

Json = dict[str, Any]

NAMESPACE = "sovereign-gpu-system"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
NAMESPACES = "/api/v1/namespaces"
FINISHED = ("Succeeded", "Failed")
_SUBRESOURCES = ("status", "eviction")


class RefusedError(Exception):
    """The API server says no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the history of a collection."""

    version: int
    before: Json | None
    after: Json | None


@dataclass(slots=True)
class Server:
    """See the module. Objects live under their collection's path: pods by uid, others by name."""

    clock: Callable[[], float]
    version: int = 100
    oldest: int = 0
    """Watches from before this version are answered 410."""
    objects: dict[str, dict[str, Json]] = field(default_factory=lambda: defaultdict(dict))
    history: dict[str, list[Change]] = field(default_factory=lambda: defaultdict(list))
    listeners: list[Callable[[str, Change], None]] = field(default_factory=list)
    on_release: Callable[[Json], None] = lambda _: None
    fence_lag: float = 0.0
    """Seconds that the fence is behind."""
    _leaders: list[tuple[float, str]] = field(default_factory=list)

    # --- what users, kubelets and kube-scheduler do ---------------------------------------------
    def put(self, collection: str, key: str, body: Json) -> Json:
        """Write an object."""
        self.version += 1
        before = self.objects[collection].get(key)
        after = copy.deepcopy(body)
        meta = after.setdefault("metadata", {})
        meta["resourceVersion"] = str(self.version)
        meta.setdefault("uid", f"uid-{key}")
        self.objects[collection][key] = after
        self._tell(collection, Change(self.version, before, after))
        if collection == NAMESPACES and key == NAMESPACE:
            signature = meta.get("annotations", {}).get(names.LEADER, "")
            self._leaders.append((self.clock(), signature))
        return after

    def remove(self, collection: str, key: str) -> None:
        """Delete an object, if it is there."""
        before = self.objects[collection].pop(key, None)
        if before is not None:
            self.version += 1
            self._tell(collection, Change(self.version, before, None))

    def edit(self, collection: str, key: str, patch: Json) -> None:
        """Apply a merge patch, if the object is there."""
        stored = self.objects[collection].get(key)
        if stored is not None:
            self.put(collection, key, merged(stored, patch))

    def _tell(self, collection: str, change: Change) -> None:
        self.history[collection].append(change)
        for listener in list(self.listeners):
            listener(collection, change)

    # --- what the operator asks -----------------------------------------------------------------
    def page(self, collection: str, selector: str, token: str, limit: int) -> Json:
        """Return one page of a list as it is now; tokens name an offset and a version."""
        start, at = 0, self.version
        if token:
            start, at = map(int, token.split("@"))
            if at < self.oldest:
                raise RefusedError(410, "the continue token is too old")
        items = [item for item in self._at(collection, at) if selected(selector, item)]
        meta: Json = {"resourceVersion": str(at)}
        if start + limit < len(items):
            meta["continue"] = f"{start + limit}@{at}"
        return {"metadata": meta, "items": items[start : start + limit]}

    def _at(self, collection: str, version: int) -> list[Json]:
        found = dict(self.objects[collection])
        for change in reversed(self.history[collection]):
            if change.version <= version:
                break
            key = _key(collection, change.after or change.before or {})
            found.pop(key, None)
            if change.before is not None:
                found[key] = change.before
        return [found[key] for key in sorted(found)]

    def ask(self, method: str, path: str, body: Any, content_type: str) -> Json:
        """Answer a request for one object.

        Raises:
            RefusedError: nothing was written.
        """
        if method == "POST" and not path.endswith("/eviction"):
            return self._create(path, body)
        collection, key, sub = self._find(path)
        stored = self.objects[collection].get(key)
        if stored is None:
            raise RefusedError(404, f"{path} not found")
        if method == "DELETE" or sub == "eviction":
            self.remove(collection, key)
        if method in ("GET", "DELETE", "POST"):
            return stored
        return self._write(collection, key, stored, body, content_type)

    def _write(self, collection: str, key: str, stored: Json, body: Any, content_type: str) -> Json:
        if isinstance(body, list):
            return self._release(collection, key, stored, body)
        self._same_version(body, stored)
        if content_type == "application/json":
            return self.put(collection, key, body)
        patch = without_version(body)
        if "strategic" in content_type:
            return self.put(collection, key, _with_conditions(stored, patch))
        return self.put(collection, key, merged(stored, patch))

    def _create(self, path: str, body: Json) -> Json:
        key = body["metadata"]["name"]
        if key in self.objects[path]:
            raise RefusedError(409, f"{key} already exists")
        return self.put(path, key, body)

    def _find(self, path: str) -> tuple[str, str, str]:
        parts, sub = path.split("/"), ""
        if parts[-1] in _SUBRESOURCES:
            sub = parts.pop()
        if path.startswith("/api/v1/namespaces/") and "pods" in parts:
            namespace, name = parts[4], parts[6]
            for uid, pod in self.objects[PODS.path].items():
                meta = pod["metadata"]
                if (meta["namespace"], meta["name"]) == (namespace, name):
                    return PODS.path, uid, sub
            return PODS.path, "", sub
        return "/".join(parts[:-1]), parts[-1], sub

    def _same_version(self, body: Json, stored: Json) -> None:
        wanted = body.get("metadata", {}).get("resourceVersion")
        if wanted not in (None, stored["metadata"]["resourceVersion"]):
            raise RefusedError(409, "the object has been modified")

    def _release(self, collection: str, key: str, stored: Json, ops: list[Json]) -> Json:
        after = patched(stored, ops)
        signed = after["metadata"].get("annotations", {}).get(names.RELEASED_BY)
        if signed is not None and signed != self._leader():
            raise RefusedError(
                422, f"ValidatingAdmissionPolicy 'sovereign-gpu-fence': {signed} does not lead"
            )
        released = self.put(collection, key, after)
        self.on_release(released)
        return released

    def _leader(self) -> str:
        """Return whose releases count, as an API server knows it that is behind."""
        at = self.clock() - self.fence_lag
        known = [signature for since, signature in self._leaders if since <= at]
        return known[-1] if known else ""


def selected(selector: str, item: Json) -> bool:
    """Whether an object passes a field selector; only those that the operator uses."""
    meta, phase = item["metadata"], item.get("status", {}).get("phase", "")
    for part in filter(None, selector.split(",")):
        if part.startswith("metadata.name="):
            if meta["name"] != part.partition("=")[2]:
                return False
        elif part == f"status.phase!={phase}":
            return False
    return True


def line(kind: str, body: Json) -> bytes:
    """Return one line of a watch."""
    return json.dumps({"type": kind, "object": body}, separators=(",", ":")).encode() + b"\n"


def told(selector: str, change: Change) -> bytes | None:
    """Return what a watch with a selector says of a change; None: nothing."""
    was = change.before is not None and selected(selector, change.before)
    is_now = change.after is not None and selected(selector, change.after)
    if not was and not is_now:
        return None
    body = copy.copy(change.after or change.before or {})
    body["metadata"] = {**body["metadata"], "resourceVersion": str(change.version)}
    return line("DELETED" if not is_now else "MODIFIED" if was else "ADDED", body)


def merged(old: Json, patch: Json) -> Json:
    """Return the result of a merge patch (RFC 7396)."""
    new = dict(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            new[key] = merged(old.get(key) or {}, value)
        else:
            new[key] = value
    return new


def without_version(body: Json) -> Json:
    """Return a patch without its precondition."""
    meta = {k: v for k, v in body.get("metadata", {}).items() if k != "resourceVersion"}
    rest = {key: value for key, value in body.items() if key != "metadata"}
    return {**rest, "metadata": meta} if meta else rest


def patched(stored: Json, ops: list[Json]) -> Json:
    """Return the result of a JSON patch (RFC 6902: test, add, remove).

    Raises:
        RefusedError: a test failed or a path does not exist.
    """
    root = copy.deepcopy(stored)
    for op in ops:
        *parents, last = [
            part.replace("~1", "/").replace("~0", "~") for part in op["path"].split("/")[1:]
        ]
        try:
            here: Any = root
            for part in parents:
                here = here[int(part)] if isinstance(here, list) else here[part]
            _operate(here, last, op)
        except (KeyError, IndexError, ValueError) as error:
            raise RefusedError(422, f"{op['op']} {op['path']}: {error}") from error
    return root


def _operate(here: Any, last: str, op: Json) -> None:
    key: Any = int(last) if isinstance(here, list) and last != "-" else last
    if op["op"] == "test":
        if here[key] != op["value"]:
            raise ValueError(f"found {here[key]!r}")
    elif op["op"] == "remove":
        del here[key]
    elif last == "-":
        here.append(op["value"])
    elif isinstance(here, list):
        here.insert(key, op["value"])
    else:
        here[key] = op["value"]


def _with_conditions(stored: Json, patch: Json) -> Json:
    """Return the result of a strategic merge patch: conditions are merged by their type."""
    conditions = {c["type"]: c for c in stored.get("status", {}).get("conditions", ())}
    for each in patch.get("status", {}).get("conditions", ()):
        conditions[each["type"]] = {**conditions.get(each["type"], {}), **each}
    rest = {k: v for k, v in patch.get("status", {}).items() if k != "conditions"}
    status = {**stored.get("status", {}), **rest, "conditions": list(conditions.values())}
    return {**merged(stored, {k: v for k, v in patch.items() if k != "status"}), "status": status}


def _key(collection: str, item: Json) -> str:
    return str(item["metadata"]["uid" if collection == PODS.path else "name"])
