"""Pods see exactly the devices that the kubelet granted, and everybody counts the same."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from rig.client import wait_for
from tests.kind.world import SECONDS, pod

if TYPE_CHECKING:
    from tests.kind.world import Tenant, World

SEEN = "import os, json; print(json.dumps(os.environ.get('NVIDIA_VISIBLE_DEVICES', '')))"
GRANTS = {"three": 3, "two": 2, "four": 4, "none": 0}


def test_each_pod_sees_the_devices_it_was_granted_and_no_other(world: World) -> None:
    tenant = world.tenant("acme", 16)
    tenant.submit(*(pod(name, gpus=gpus) for name, gpus in GRANTS.items()))
    placed = {name: tenant.running(name)["spec"]["nodeName"] for name in GRANTS}
    seen = {name: _devices(tenant, name) for name in GRANTS}

    assert {name: len(devices) for name, devices in seen.items()} == GRANTS
    everything = [(placed[name], device) for name, devices in seen.items() for device in devices]
    assert len(everything) == len(set(everything)) == sum(GRANTS.values())
    # What the kubelets say through their own API, as the exporter tells it on.
    expected = {name: devices for name, devices in seen.items() if devices}
    wait_for(
        lambda: _granted_by_kubelets(world, tenant) == expected,
        SECONDS,
        f"the kubelets to tell of {expected}",
    )
    status = tenant.status(lambda found: found["total"]["used"] == sum(GRANTS.values()))
    assert status["total"]["pendingPods"] == 0


def _devices(tenant: Tenant, name: str) -> set[str]:
    value = json.loads(tenant.run(name, SEEN))
    return {each for each in value.split(",") if each.startswith("GPU-")}


def _granted_by_kubelets(world: World, tenant: Tenant) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    pods = world.admin.get("/api/v1/namespaces/fake-gpu/pods").must()["items"]
    for each in pods:
        name = each["metadata"]["name"]
        if not name.startswith("exporter-"):
            continue
        path = f"/api/v1/namespaces/fake-gpu/pods/{name}:9400/proxy/metrics"
        for family in text_string_to_metric_families(world.admin.get(path).must()):
            for sample in family.samples:
                labels = sample.labels
                if labels.get("namespace") == tenant.namespace:
                    found[labels["pod"]].add(labels["UUID"])
    return dict(found)
