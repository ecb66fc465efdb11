"""The policies name subresources; a newer API server must not have more of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.admission.world import World

JUDGED = {
    "pods": {
        "attach",
        "binding",
        "ephemeralcontainers",
        "eviction",
        "exec",
        "portforward",
        "proxy",
        "status",
    },
    "nodes": {"proxy", "status"},
    "namespaces": {"finalize", "status"},
    "bindings": set(),
}
HARMLESS = {
    # They write nothing of the pod but CPU and memory (resize), or nothing at all.
    "pods": {"log", "resize"},
    "nodes": set(),
    "namespaces": set(),
    "bindings": set(),
}


@pytest.mark.parametrize("resource", sorted(JUDGED))
def test_every_subresource_is_judged_or_known_to_be_harmless(world: World, resource: str) -> None:
    listed = world.admin.get("/api/v1").must()["resources"]
    parts = (each["name"].partition("/") for each in listed)
    found = {subresource for name, _, subresource in parts if name == resource and subresource}
    assert found == JUDGED[resource] | HARMLESS[resource]


def test_workloads_have_no_version_that_the_policies_miss(world: World) -> None:
    groups = world.admin.get("/apis").must()["groups"]
    apps = next(each for each in groups if each["name"] == "apps")
    assert [each["version"] for each in apps["versions"]] == ["v1"]
