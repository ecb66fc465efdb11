"""What became of each pod, in the order in which etcd committed it: a watch of our own.

The audit log says who did what and with which answer, but stamps two requests that overlap in an
order that need not be theirs. Resource versions are that order, so sums over time are taken here.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self
from urllib.parse import urlsplit

import requests

from rig import users
from rig.control_plane import Rig
from rig.errors import RigError
from sovereign_gpu.names import GATE, GPU_RESOURCE

_TERMINAL = frozenset({"Succeeded", "Failed"})
_READ_SECONDS = 5.0


@dataclass(slots=True)
class Held:
    """GPUs of the pods of one tenant that are past their gate and not at their end."""

    now: int = 0
    most: int = 0
    freed: set[str] = field(default_factory=set)
    """Names of the pods that lost their gate."""
    ended: int = 0
    waiting: set[str] = field(default_factory=set)
    """Names of the pods that are gated still."""
    running: dict[str, int] = field(default_factory=dict)
    """GPUs by name of the pod."""

    @property
    def released(self) -> int:
        """How many pods lost their gate."""
        return len(self.freed)

    def take(self, kind: str, pod: Mapping[str, Any]) -> None:
        """Apply one event of the watch."""
        name = pod["metadata"]["name"]
        gone = kind == "DELETED" or pod.get("status", {}).get("phase") in _TERMINAL
        if gone:
            self.waiting.discard(name)
            if self.running.pop(name, None) is not None:
                self.ended += 1
        elif any(gate["name"] == GATE for gate in pod["spec"].get("schedulingGates", ())):
            self.waiting.add(name)
        elif name not in self.running:
            self.waiting.discard(name)
            self.freed.add(name)
            self.running[name] = _gpus(pod)
        self.now = sum(self.running.values())
        self.most = max(self.most, self.now)

    def keep(self, names: Collection[str]) -> None:
        """Forget the pods that are not among those names: they are gone."""
        self.waiting &= set(names)
        for name in self.running.keys() - set(names):
            del self.running[name]
            self.ended += 1
        self.now = sum(self.running.values())


def _gpus(pod: Mapping[str, Any]) -> int:
    return sum(
        int(container.get("resources", {}).get("limits", {}).get(GPU_RESOURCE, 0))
        for container in pod["spec"]["containers"]
    )


class Recorder:
    """Follows all pods from `start` to `stop` in a thread, through restarts of the API server."""

    def __init__(self, rig: Rig, tenants: Mapping[str, str]) -> None:
        """Follow the pods of some namespaces.

        Args:
            rig: the control plane.
            tenants: namespace -> tenant.
        """
        self._tenants = tenants
        self.held = {tenant: Held() for tenant in tenants.values()}
        self.lock = threading.Lock()
        self._rig = rig
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="recorder", daemon=True)
        self._version = ""

    def __enter__(self) -> Self:
        """Start from the present."""
        client = self._rig.client(users.PLATFORM_ADMIN)
        found = client.get("/api/v1/pods", limit=1).must()
        self._version = found["metadata"]["resourceVersion"]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join()

    def read(self, tenant: str) -> Held:
        """Return a copy of what is known of a tenant."""
        with self.lock:
            held = self.held[tenant]
            return replace(
                held,
                freed=set(held.freed),
                waiting=set(held.waiting),
                running=dict(held.running),
            )

    def _follow(self) -> None:
        while not self._stop.is_set():
            # A broken connection is taken up at the version that was seen last.
            with contextlib.suppress(
                OSError, http.client.HTTPException, requests.RequestException, RigError
            ):
                if not self._version:
                    self._catch_up()
                for line in self._lines():
                    self._take(json.loads(line))

    def _take(self, event: Mapping[str, Any]) -> None:
        pod = event["object"]
        if event["type"] == "ERROR":
            self._version = ""  # an API server that was started anew has no older changes
            raise http.client.HTTPException(pod.get("message"))
        self._version = pod["metadata"]["resourceVersion"]
        tenant = self._tenants.get(pod["metadata"].get("namespace", ""))
        if event["type"] != "BOOKMARK" and tenant is not None:
            with self.lock:
                self.held[tenant].take(event["type"], pod)

    def _catch_up(self) -> None:
        """Take in everything as it is: sums between the last event and now are not known."""
        client = self._rig.client(users.PLATFORM_ADMIN)
        found = client.get("/api/v1/pods").must()
        names: dict[str, set[str]] = {tenant: set() for tenant in self.held}
        with self.lock:
            for pod in found["items"]:
                tenant = self._tenants.get(pod["metadata"]["namespace"])
                if tenant is not None:
                    names[tenant].add(pod["metadata"]["name"])
                    self.held[tenant].take("MODIFIED", pod)
            for tenant, held in self.held.items():
                held.keep(names[tenant])
        self._version = found["metadata"]["resourceVersion"]

    def _lines(self) -> Iterator[bytes]:
        context = ssl.create_default_context(cafile=self._rig.ca_file)
        pair = self._rig.certificate(users.PLATFORM_ADMIN)
        context.load_cert_chain(pair.certificate, pair.key)
        address = urlsplit(self._rig.url).netloc
        connection = http.client.HTTPSConnection(address, timeout=_READ_SECONDS, context=context)
        with contextlib.closing(connection):
            query = f"watch=1&allowWatchBookmarks=true&resourceVersion={self._version}"
            connection.request("GET", f"/api/v1/pods?{query}")
            answer = connection.getresponse()
            while not self._stop.is_set():
                line = answer.readline()
                if not line:
                    return
                yield line
