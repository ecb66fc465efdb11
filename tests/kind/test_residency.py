"""Nothing of a governed namespace reaches the node outside the EU, on whatever way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rig.client import STRATEGIC_PATCH, wait_for
from rig.errors import RigError
from rig.kind.images import PYTHON as IMAGE
from sovereign_gpu import names
from tests.kind.world import PEOPLE, SECONDS, condition, pod, pod_spec, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kind.world import Tenant, World

HOSTNAME = "kubernetes.io/hostname"


@pytest.fixture
def tenant(world: World) -> Iterator[Tenant]:
    """A tenant; when the test is over, no pod of it is on the node abroad."""
    made = world.tenant("eu", 8)
    yield made
    assert made.namespace not in world.on(world.abroad)


def _unschedulable(tenant: Tenant, name: str) -> None:
    found = tenant.client.wait(
        tenant.pod(name), lambda body: condition(body)["reason"] == "Unschedulable", SECONDS
    )
    assert "nodeName" not in found["spec"]


def _affinity(key: str, value: str) -> dict[str, Any]:
    expression = {"key": key, "operator": "In", "values": [value]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def test_selectors_and_affinity_for_a_node_abroad_find_no_node(
    world: World, tenant: Tenant
) -> None:
    region = {names.REGION_LABEL: "us-east"}
    tenant.submit(
        pod("by-region", nodeSelector=region),
        pod("by-hostname", nodeSelector={HOSTNAME: world.abroad}),
        pod("by-affinity", affinity=_affinity(HOSTNAME, world.abroad)),
        pod("gpu-by-region", gpus=1, nodeSelector=region),
        pod("gpu-by-affinity", gpus=1, affinity=_affinity(HOSTNAME, world.abroad)),
    )
    for name in ("by-region", "by-hostname", "by-affinity"):
        _unschedulable(tenant, name)
    for name in ("gpu-by-region", "gpu-by-affinity"):
        tenant.told(name, "NodeConstraints")


def test_naming_the_node_is_refused(world: World, tenant: Tenant) -> None:
    for gpus in (0, 1):
        body = pod("named", gpus=gpus, nodeName=world.abroad)
        assert "node-name:" in refusal(tenant.client.create(tenant.pods, body))
    # Also for who may do everything, by the command that debugs nodes.
    where = (f"--namespace={tenant.namespace}", f"node/{world.abroad}", f"--image={IMAGE}")
    with pytest.raises(RigError, match="node-name:"):
        world.cluster.kubectl("debug", *where)


def test_tolerations_of_everything_are_refused(tenant: Tenant) -> None:
    body = pod("tolerant", tolerations=[{"operator": "Exists"}])
    assert "toleration:" in refusal(tenant.client.create(tenant.pods, body))


def test_own_bindings_are_refused(world: World, tenant: Tenant) -> None:
    tenant.submit(pod("mine", schedulerName="home-made"))
    _let_bind(world, tenant)
    binding = {
        "metadata": {"name": "mine"},
        "target": {"apiVersion": "v1", "kind": "Node", "name": world.abroad},
    }
    path = f"{tenant.pod('mine')}/binding"
    assert "binder:" in refusal(tenant.client.create(path, binding))
    assert "binding-region:" in refusal(world.admin.create(path, binding))


def test_daemon_sets_stay_at_home(world: World, tenant: Tenant) -> None:
    labels = {"app": "agent"}
    template = {"metadata": {"labels": labels}, "spec": pod_spec(restartPolicy="Always")}
    body = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    tenant.submit(body)
    path = f"/apis/apps/v1/namespaces/{tenant.namespace}/daemonsets/agent"
    status = tenant.client.wait(
        path,
        lambda found: (
            found["status"]["observedGeneration"] == found["metadata"]["generation"]
            and found["status"]["numberReady"] == found["status"]["desiredNumberScheduled"] > 0
        ),
        SECONDS,
    )["status"]
    (agent,) = tenant.of("agent")
    assert status["desiredNumberScheduled"] == 1
    assert tenant.running(agent)["spec"]["nodeName"] == world.companion


def test_ephemeral_containers_bring_no_devices_and_no_privileges(
    world: World, tenant: Tenant
) -> None:
    tenant.submit(pod("host"))
    assert tenant.running("host")["spec"]["nodeName"] == world.companion
    for rule, more in (
        ("ephemeral-privileged:", {"securityContext": {"privileged": True}}),
        ("ephemeral-device-env:", {"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]}),
    ):
        container = {"name": "debug", "image": IMAGE, **more}
        body = {"spec": {"ephemeralContainers": [container]}}
        path = f"{tenant.pod('host')}/ephemeralcontainers"
        # The stock role does not even allow it; whoever may do everything is refused as well.
        assert rule in refusal(world.admin.patch(path, body, STRATEGIC_PATCH))


def test_devices_and_privileges_without_a_gpu_are_refused(tenant: Tenant) -> None:
    device = {"name": "dev", "hostPath": {"path": "/dev/nvidia0"}}
    visible = [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]
    for rule, spec in (
        ("device-env:", _container(env=visible)),
        ("privileged:", _container(securityContext={"privileged": True})),
        ("host-path:", pod_spec(volumes=[device])),
        ("host-namespaces:", pod_spec(hostPID=True)),
    ):
        body = {"metadata": {"name": "sly"}, "spec": spec}
        assert rule in refusal(tenant.client.create(tenant.pods, body))


def _let_bind(world: World, tenant: Tenant) -> None:
    """Give the tenant what a scheduler of its own would have, and wait until it holds."""
    group, name = "rbac.authorization.k8s.io", "home-made-scheduler"
    place = {"name": name, "namespace": tenant.namespace}
    rules = [{"apiGroups": [""], "resources": ["pods/binding"], "verbs": ["create"]}]
    role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": place, "rules": rules}
    world.admin.apply(role).must()
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": place,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": tenant.name, "namespace": PEOPLE}],
    }
    world.admin.apply(binding).must()
    wanted = {"namespace": tenant.namespace, "verb": "create", "resource": "pods"}
    review = {"spec": {"resourceAttributes": {**wanted, "subresource": "binding"}}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    wait_for(
        lambda: tenant.client.create(path, review).must()["status"]["allowed"],
        SECONDS,
        "the right to bind",
    )


def _container(**more: Any) -> dict[str, Any]:
    spec = pod_spec()
    spec["containers"][0] |= more
    return spec
