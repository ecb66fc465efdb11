"""An existing cluster is brought in: first it is only said what would be refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rig.users import PLATFORM_ADMIN
from sovereign_gpu import names
from tests.control_plane.cluster import Site, Tenant, container, pod

TREE = Path(__file__).parents[2]


def report(site: Site, tenant: Tenant) -> tuple[int, list[dict[str, Any]]]:
    kubeconfig = site.cluster.rig.kubeconfig(PLATFORM_ADMIN)
    done = subprocess.run(  # noqa: S603 - the product's own command
        [
            *(sys.executable, "-m", "sovereign_gpu", "report", "-n", tenant.namespace),
            *("-o", "json", "--kubeconfig", str(kubeconfig)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(TREE / "operator")},
        timeout=60,
    )
    assert done.returncode in {0, 4}, done.stderr
    return done.returncode, json.loads(done.stdout)["findings"]


def warning(site: Site, **spec: Any) -> str:
    name = site.name("eu")
    body = {"countries": {"sets": ["EU"]}, "enforcement": "Warn", **spec}
    site.put("DataResidencyPolicy", name, body)
    return name


def privileged(name: str) -> dict[str, Any]:
    spec = container(0) | {"securityContext": {"privileged": True}}
    return {"metadata": {"name": name}, "spec": {"containers": [spec]}}


def test_warn_lets_pass_and_tells_then_the_report_lists_and_deny_refuses(site: Site) -> None:
    pool = site.pool()
    space = site.namespace("old")
    pods = f"/api/v1/namespaces/{space}/pods"
    # Older than the product's knowledge of the namespace: on a node abroad, with all rights.
    (abroad,) = site.take(1)
    labels = {names.REGION_LABEL: "us-east", "where": "abroad"}
    site.admin.patch(f"/api/v1/nodes/{abroad}", {"metadata": {"labels": labels}}).must()
    old = privileged("old")
    old["spec"]["nodeSelector"] = {"where": "abroad"}
    node = f"/api/v1/nodes/{abroad}"
    guards = site.admin.get(node).must()["spec"]["taints"]
    site.admin.patch(node, {"spec": {"taints": None}}).must()
    site.admin.create(pods, old).must()
    before = site.admin.wait(f"{pods}/old", lambda found: found["spec"]["nodeName"])
    site.admin.patch(node, {"spec": {"taints": guards}}).must()

    policy = warning(site, registries={"allowed": ["registry.example.eu/"]})
    name = site.name("acme")
    site.quota(name, [space], {pool: 8}, [policy])
    tenant = Tenant(name, space, site.admin)
    site.governed(tenant)
    site.admin.wait(
        f"/api/v1/namespaces/{space}",
        lambda found: found["metadata"]["labels"][names.ENFORCEMENT_LABEL] == "Warn",
    )
    answer = site.admin.create(pods, privileged("new"), dryRun="All")
    assert answer.ok
    said = " ".join(answer.warnings)
    for rule in ("privileged-warning", "image-registry-warning", "residency-warning"):
        assert f"{rule}: found " in said

    code, findings = report(site, tenant)
    found = {(each["name"], each["rule"], each["effect"]) for each in findings}
    assert code == 4
    assert found == {
        ("old", "binding-region", "Warned"),
        ("old", "privileged-warning", "Warned"),
        ("old", "image-registry-warning", "Warned"),
        ("old", "residency-warning", "Warned"),
    }
    # The switch is one word, and what runs is not touched by it.
    spec = {"countries": {"sets": ["EU"]}, "registries": {"allowed": ["registry.example.eu/"]}}
    site.put("DataResidencyPolicy", policy, spec)
    site.admin.wait(
        f"/api/v1/namespaces/{space}",
        lambda found: found["metadata"]["annotations"][names.RESIDENCY] == policy,
    )
    site.admin.wait(
        "/apis/" + f"{names.GROUP}/{names.VERSION}/dataresidencypolicies/{policy}",
        lambda found: found["status"]["violations"]["now"] == 1,
    )
    new = privileged("new")
    new["spec"]["containers"][0]["image"] = "registry.example.eu/train:1"
    refused = site.admin.create(pods, new, dryRun="All")
    assert "denied request: privileged: found" in refused.message
    after = site.admin.get(f"{pods}/old").must()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["phase"] == "Running"


def test_a_namespace_in_order_has_an_empty_report(site: Site) -> None:
    pool, policy = site.pool(), warning(site)
    tenant = site.tenant("acme", {pool: 8}, [policy])
    body = pod("tidy")
    body["spec"]["nodeSelector"] = {names.NODE_RESIDENCY_PREFIX + policy: names.NODE_ALLOWED}
    tenant.client.create(tenant.pods, body).must()
    site.bound(tenant, "tidy")
    assert report(site, tenant) == (0, [])
