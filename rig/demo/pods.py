"""Pods as the API server shows them, reduced to what the demo asks about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rig.demo.manifests import GPUS_PER_NODE, gpus_of_pod
from rig.errors import RigError
from sovereign_gpu import names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rig.client import Client

ENDED = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod.

    Attributes:
        created: seconds since the epoch, whole.
        owner: kind of its controller, or nothing.
        why: what its condition says while it waits.
        owner_name: of its controller.
        notice: that announces its eviction.
    """

    namespace: str
    name: str
    uid: str
    created: float
    node: str
    phase: str
    gated: bool
    gpus: int
    owner: str
    why: str
    owner_name: str = ""
    notice: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name

    @property
    def path(self) -> str:
        """Path in the API."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.phase == "Running"

    @property
    def lives(self) -> bool:
        """Whether it has not come to its end."""
        return self.phase not in ENDED

    @property
    def reason(self) -> str:
        """The word that says why it waits, once it was told."""
        word, colon, _ = self.why.partition(": ")
        return word if colon else ""

    @property
    def fits(self) -> bool:
        """Whether a node exists that could ever hold it."""
        return self.gpus <= GPUS_PER_NODE


def read(client: Client, namespaces: Iterable[str]) -> list[Pod]:
    """Return all pods of some namespaces."""
    wanted = set(namespaces)
    found = client.items("/api/v1/pods")
    return [_pod(each) for each in found if each["metadata"]["namespace"] in wanted]


def one(found: list[Pod], what: str) -> Pod:
    """Return the first of some pods.

    Raises:
        RigError: there is none; `what` names what is missing.
    """
    if not found:
        raise RigError(f"the story lacks a {what}")
    return found[0]


def _pod(source: dict[str, Any]) -> Pod:
    metadata, spec, status = source["metadata"], source["spec"], source["status"]
    gates = (gate["name"] for gate in spec.get("schedulingGates", ()))
    scheduled = (c for c in status.get("conditions", ()) if c["type"] == "PodScheduled")
    owners = (each for each in metadata.get("ownerReferences", ()) if each.get("controller"))
    owner: dict[str, str] = next(owners, {})
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        created=datetime.fromisoformat(metadata["creationTimestamp"]).timestamp(),
        node=spec.get("nodeName", ""),
        phase=status.get("phase", ""),
        gated=names.GATE in gates,
        gpus=gpus_of_pod(spec),
        owner=owner.get("kind", ""),
        owner_name=owner.get("name", ""),
        notice=metadata.get("annotations", {}).get(names.DRIFT_NOTICE, ""),
        why=next((c.get("message", "") for c in scheduled), ""),
    )
