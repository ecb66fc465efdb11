"""`why`, `queue`, `top`, `nodes` as people type them, with real tokens and real rights.

An endpoint may not be on loopback, so the commands go to the operator's port; the way through the
API server differs by a header (`names.CALLER_HEADER`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sovereign_gpu import names
from tests.control_plane.cluster import Cluster, Site, Tenant, pod

TREE = Path(__file__).parents[2]
_RBAC = "rbac.authorization.k8s.io"


@dataclass
class Shell:
    """A terminal of one person."""

    kubeconfig: Path
    server: str

    def run(self, *words: str, operator: bool = True) -> subprocess.CompletedProcess[str]:
        """Type a command."""
        way = ("--server", self.server, "--insecure-skip-tls-verify") if operator else ()
        return subprocess.run(  # noqa: S603 – ourselves
            [sys.executable, "-m", "sovereign_gpu", *words, *way],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={"PYTHONPATH": str(TREE / "operator"), "KUBECONFIG": str(self.kubeconfig)},
        )

    def read(self, *words: str) -> Any:
        """Type a command that answers in JSON; the operator must have answered."""
        done = self.run(*words, "-o", "json")
        assert done.stderr == ""
        return json.loads(done.stdout)


@dataclass
class Scene:
    """Two tenants of one pool, each with a pod that runs and one that waits."""

    site: Site
    pool: str
    acme: Tenant
    bolt: Tenant

    def shell(self, namespace: str, name: str) -> Shell:
        """Return the terminal of a service account."""
        cluster = self.site.cluster
        kubeconfig = cluster.rig.service_account_kubeconfig(namespace, name)
        return Shell(kubeconfig, cluster.operator.read_api)

    def reader(self, tenant: Tenant) -> Shell:
        """Return the terminal of somebody who may view one namespace."""
        return self.shell(tenant.namespace, "reader")


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    site = cluster.site()
    try:
        pool = site.pool("shop", nodes=2)
        policy = site.policy("shop")
        tenants = [site.tenant(word, {pool: 2}, [policy]) for word in ("acme", "bolt")]
        for tenant in tenants:
            _account(site, tenant.namespace, "reader", "view")
            site.submit(tenant, pod("runs", gpus=2))
            site.bound(tenant, "runs")
            site.submit(tenant, pod("waits", gpus=1), pod("huge", gpus=9))
            site.told(tenant, "waits", "QuotaExhausted")
            site.told(tenant, "huge", "NeverFits")
        _account(site, tenants[0].namespace, "nobody", None)
        _account(site, tenants[0].namespace, "boss", "cluster-admin", everywhere=True)
        yield Scene(site, pool, *tenants)
    finally:
        site.clear()


def _account(
    site: Site, namespace: str, name: str, role: str | None, *, everywhere: bool = False
) -> None:
    meta = {"name": name, "namespace": namespace}
    site.admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}).must()
    if role is None:
        return
    kind = "ClusterRoleBinding" if everywhere else "RoleBinding"
    binding = {
        "apiVersion": f"{_RBAC}/v1",
        "kind": kind,
        "metadata": {"name": site.name(name)} if everywhere else meta,
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    }
    site.admin.apply(binding).must()
    if everywhere:
        site.undo(site.admin.object_path(binding))


def test_a_tenant_sees_its_queue_and_of_others_numbers(scene: Scene) -> None:
    found = scene.reader(scene.acme).read("queue", "-n", scene.acme.namespace)
    assert {row["name"] for row in found["items"]} == {"waits", "huge"}
    assert {row["tenant"] for row in found["items"]} == {scene.acme.name}
    assert found["others"]["pods"] >= 2
    assert scene.bolt.name not in json.dumps(found)


def test_a_tenant_sees_its_totals_and_the_rest_as_one(scene: Scene) -> None:
    found = scene.reader(scene.acme).read("top", "-n", scene.acme.namespace)
    (own,) = found["items"]
    assert (own["tenant"], own["pool"], own["guaranteed"], own["used"]) == (
        scene.acme.name,
        scene.pool,
        2,
        2,
    )
    (others,) = found["others"]
    assert (others["tenant"], others["used"], others["guaranteed"]) == ("", 2, None)
    assert scene.bolt.name not in json.dumps(found)


def test_a_tenant_sees_its_pools_and_no_node(scene: Scene) -> None:
    shell = scene.reader(scene.acme)
    found = shell.read("nodes", "-n", scene.acme.namespace)
    assert [row["pool"] for row in found["items"]] == [scene.pool]
    done = shell.run("nodes", "-n", scene.acme.namespace, "-o", "wide")
    assert (done.returncode, done.stdout) == (1, "")
    assert "may not list nodes" in done.stderr


@pytest.mark.parametrize(
    ("name", "code", "word"),
    [("runs", 0, "Running"), ("waits", 3, "QuotaExhausted"), ("huge", 4, "NeverFits")],
)
def test_why_answers_in_words_and_by_its_exit_code(
    scene: Scene, name: str, code: int, word: str
) -> None:
    shell = scene.reader(scene.acme)
    done = shell.run("why", name, "-n", scene.acme.namespace)
    assert (done.returncode, done.stderr) == (code, "")
    assert word in done.stdout.splitlines()[0]
    assert scene.bolt.name not in done.stdout


@pytest.mark.parametrize("name", ["waits", "no-such-pod"])
def test_the_pods_of_another_tenant_are_nobodys_business(scene: Scene, name: str) -> None:
    done = scene.reader(scene.acme).run("why", f"{scene.bolt.namespace}/{name}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: system:serviceaccount:")
    assert "may not list pods" in done.stderr


def test_a_pod_that_is_not_there_is_told_to_its_own_tenant(scene: Scene) -> None:
    done = scene.reader(scene.acme).run("why", "gone", "-n", scene.acme.namespace)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == f"error: no unfinished pod gone in namespace {scene.acme.namespace}\n"


@pytest.mark.parametrize("view", ["queue", "top", "nodes"])
def test_a_tenant_does_not_see_the_cluster(scene: Scene, view: str) -> None:
    done = scene.reader(scene.acme).run(view, "-A")
    assert (done.returncode, done.stdout) == (1, "")
    done = scene.reader(scene.acme).run(view, "-n", scene.bolt.namespace)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("view", ["queue", "top", "nodes", "why"])
def test_a_token_without_rights_shows_nothing(scene: Scene, view: str) -> None:
    shell = scene.shell(scene.acme.namespace, "nobody")
    pod_name = ("waits",) if view == "why" else ()
    done = shell.run(view, *pod_name, "-n", scene.acme.namespace)
    assert (done.returncode, done.stdout) == (1, "")


def test_whoever_may_list_everything_sees_everything(scene: Scene) -> None:
    shell = scene.shell(scene.acme.namespace, "boss")
    queue = shell.read("queue", "-A")
    assert {scene.acme.name, scene.bolt.name} <= {row["tenant"] for row in queue["items"]}
    assert queue["others"]["pods"] == 0
    tenants = {row["tenant"] for row in shell.read("top", "-A")["items"]}
    assert {scene.acme.name, scene.bolt.name} <= tenants
    nodes = shell.run("nodes", "-A", "-o", "wide")
    assert set(scene.site.nodes) <= {line.split()[0] for line in nodes.stdout.splitlines()}


def test_rights_that_are_taken_away_are_gone_within_seconds(scene: Scene) -> None:
    site, namespace = scene.site, scene.acme.namespace
    _account(site, namespace, "brief", "view")
    shell = scene.shell(namespace, "brief")
    assert shell.run("queue", "-n", namespace).returncode == 0
    site.admin.delete(f"/apis/{_RBAC}/v1/namespaces/{namespace}/rolebindings/brief").must()
    site.admin.wait(  # any answer will do: it is the time that passes
        f"/api/v1/namespaces/{namespace}",
        lambda _: shell.run("queue", "-n", namespace).returncode == 1,
        20.0,
    )


def test_a_token_of_another_audience_or_of_nobody_is_refused(scene: Scene) -> None:
    admin, namespace = scene.site.admin, scene.acme.namespace
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": ["somebody-else"], "expirationSeconds": 600},
    }
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/reader/token"
    foreign = admin.create(path, body).must()["status"]["token"]
    usual = scene.reader(scene.acme)
    for number, token in enumerate((foreign, "made-up")):
        copy = usual.kubeconfig.with_name(f"foreign-{number}.kubeconfig")
        found = json.loads(json.dumps(_kubeconfig(usual.kubeconfig)))
        found["users"][0]["user"] = {"token": token}
        copy.write_text(json.dumps(found))
        done = Shell(copy, usual.server).run("queue", "-n", namespace)
        assert (done.returncode, done.stdout) == (1, "")
        assert "does not accept the token" in done.stderr


def _kubeconfig(file: Path) -> Any:
    import yaml  # noqa: PLC0415 – for this alone

    return yaml.safe_load(file.read_text())


def test_the_way_through_the_api_server_is_open_to_this_one_port(scene: Scene) -> None:
    reader = scene.site.cluster.rig.service_account_client(scene.acme.namespace, "reader")
    base = "/api/v1/namespaces/sovereign-gpu-system/services"
    ours = reader.get(f"{base}/https:sovereign-gpu:{names.READ_PORT}/proxy/v1/queue")
    # Allowed, and nobody is behind it: no kubelet runs the operator here.
    assert ours.status == 503
    for other in ("http:sovereign-gpu:http", "sovereign-gpu", "https:sovereign-gpu:8443"):
        assert reader.get(f"{base}/{other}/proxy/metrics").status == 403
    assert reader.create(f"{base}/https:sovereign-gpu:read/proxy/v1/queue", {}).status == 403


def test_without_the_operator_an_administrator_sees_the_same(scene: Scene) -> None:
    shell = scene.shell(scene.acme.namespace, "boss")
    for words in (("queue", "-A"), ("top", "-A"), ("nodes", "-A"), ("nodes", "-A", "-o", "wide")):
        asked, alone = shell.run(*words), shell.run(*words, operator=False)
        assert alone.returncode == 0
        assert alone.stderr.startswith("operator not asked: 503: no endpoints available")
        assert alone.stderr.endswith("worked out here from the cluster as it is\n")
        assert _without_ages(alone.stdout) == _without_ages(asked.stdout)
    asked, alone = (
        shell.run("why", f"{scene.acme.namespace}/waits", "-o", "wide", operator=operator)
        for operator in (True, False)
    )
    assert alone.returncode == asked.returncode == 3
    assert _without_ages(alone.stdout) == _without_ages(asked.stdout)


def _without_ages(text: str) -> list[list[str]]:
    return [
        [word for word in line.split() if not word.rstrip(",")[:-1].isdecimal()]
        for line in text.splitlines()
    ]


def test_without_the_operator_a_tenant_reads_what_its_pods_were_told(scene: Scene) -> None:
    shell = scene.reader(scene.acme)
    done = shell.run("queue", "-n", scene.acme.namespace, "-o", "wide", operator=False)
    assert done.returncode == 0
    assert "showing what you may read yourself" in done.stderr
    rows = {line.split()[1]: line for line in done.stdout.splitlines()}
    assert "QuotaExhausted" in rows["waits"]
    assert "asks for 1 GPUs; tenant" in rows["waits"]
    assert "NeverFits" in rows["huge"]
    assert scene.bolt.name not in done.stdout
    code = {"runs": 0, "waits": 3, "huge": 4, "gone": 5}
    for name, wanted in code.items():
        done = shell.run("why", name, "-n", scene.acme.namespace, operator=False)
        assert done.returncode == wanted, name
    done = shell.run("queue", "-n", scene.bolt.namespace, operator=False)
    assert (done.returncode, done.stdout) == (1, "")


def test_a_certificate_cannot_be_passed_on_and_that_is_said(scene: Scene) -> None:
    tenant = scene.site.cluster.rig.kubeconfig(f"tenant-{scene.acme.name}")
    done = Shell(tenant, "").run("queue", "-n", scene.acme.namespace, operator=False)
    assert done.returncode == 0
    assert done.stderr.startswith("operator not asked: your kubeconfig identifies you by a cert")
    assert "waits" in done.stdout
