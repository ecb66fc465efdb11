"""What counts as a fault of a node, what it closes, and what pools and tenants lose by it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sovereign_gpu import names
from sovereign_gpu.core import health, losses, report
from sovereign_gpu.core.apportion import divide
from sovereign_gpu.core.engine import Engine
from sovereign_gpu.core.health import FaultKind
from sovereign_gpu.core.model import HealthRule, Node, Pool, Reason, Resources
from tests.core import reference
from tests.core.build import engine, munich, node, pod, put, tenant, wait

MUNICH = munich()


def kinds(of: Node, pool: Pool = MUNICH) -> list[FaultKind]:
    return [fault.kind for fault in health.faults(of, pool)]


def test_a_node_in_order_has_no_faults() -> None:
    settled = {
        names.DRIVER_UPGRADE_STATE: "upgrade-done",
        names.MIG_CONFIG_STATE: "success",
        names.CC_MODE: "on",
        names.CC_MODE_STATE: "on",
        "nvidia.com/gpu.deploy.driver": "pre-installed",
        "nvidia.com/gpu.deploy.device-plugin": "true",
    }
    calm = (("DiskPressure", "False"), ("GpuMemWatch", "False"), ("XIDErrors", "Unknown"))
    assert kinds(node()) == kinds(node(labels=settled, conditions=calm)) == []


def test_what_kubernetes_says_of_a_node() -> None:
    assert kinds(node(ready=False)) == [FaultKind.NOT_READY]
    assert kinds(node(unschedulable=True)) == [FaultKind.CORDONED]


@pytest.mark.parametrize("state", reference.DRIVER_BUSY)
def test_a_driver_upgrade_under_way_or_failed(state: str) -> None:
    (fault,) = health.faults(node(labels={names.DRIVER_UPGRADE_STATE: state}), MUNICH)
    assert (fault.kind, fault.closes) == (FaultKind.DRIVER_UPGRADE, True)
    assert state in fault.message


def test_a_node_that_queues_for_its_driver_upgrade_is_in_order() -> None:
    assert kinds(node(labels={names.DRIVER_UPGRADE_STATE: "upgrade-required"})) == []


@pytest.mark.parametrize("state", ["pending", "rebooting", "failed", "new-word"])
def test_a_mig_change_under_way_or_failed(state: str) -> None:
    assert kinds(node(labels={names.MIG_CONFIG_STATE: state})) == [FaultKind.MIG_RECONFIGURATION]


@pytest.mark.parametrize(
    ("labels", "changing"),
    [
        ({names.CC_MODE: "on", names.CC_MODE_STATE: "off"}, True),
        ({names.CC_MODE: "on"}, True),
        ({names.CC_MODE_STATE: "failed"}, True),
        ({names.CC_MODE_STATE: "off"}, False),
        ({names.CC_MODE: "", names.CC_MODE_STATE: "off"}, False),
    ],
)
def test_a_change_of_the_confidential_computing_mode(
    labels: dict[str, str], *, changing: bool
) -> None:
    assert kinds(node(labels=labels)) == [FaultKind.CC_RECONFIGURATION] * changing


def test_components_paused_for_a_change_announce_it() -> None:
    paused = {"nvidia.com/gpu.deploy.device-plugin": "paused-for-mig-change"}
    assert kinds(node(labels=paused)) == [FaultKind.MIG_RECONFIGURATION]
    paused = {"nvidia.com/gpu.deploy.sandbox-validator": "on_paused-for-cc-mode-change"}
    assert kinds(node(labels=paused)) == [FaultKind.CC_RECONFIGURATION]


def test_conditions_of_either_polarity_are_known() -> None:
    found = health.faults(
        node(conditions=(("AcceleratedHardwareReady", "False"), ("GpuMemWatch", "True"))), MUNICH
    )
    assert [fault.message for fault in found] == [
        "its condition AcceleratedHardwareReady is False",
        "its condition GpuMemWatch is True",
    ]
    assert kinds(node(conditions=(("AcceleratedHardwareReady", "True"),))) == []


def test_a_pool_adds_a_condition_turns_one_round_and_switches_one_off() -> None:
    pool = munich(
        health=(
            HealthRule("RackCool", "False"),
            HealthRule("XIDErrors", "Unknown"),
            HealthRule("GpuMemWatch", "Ignored"),
        )
    )
    for condition, faulty in (
        (("RackCool", "False"), True),
        (("RackCool", "True"), False),
        (("XIDErrors", "Unknown"), True),
        (("XIDErrors", "True"), False),
        (("GpuMemWatch", "True"), False),
        (("DCGMError", "True"), True),
    ):
        assert kinds(node(conditions=(condition,)), pool) == [FaultKind.CONDITION] * faulty


def test_failed_devices_leave_the_others_usable() -> None:
    ailing = node(allocatable=Resources(6, 64_000, 1024))
    (fault,) = health.faults(ailing, MUNICH)
    assert (fault.kind, fault.closes) == (FaultKind.DEVICES_UNHEALTHY, False)
    assert fault.message == "2 of its 8 GPUs failed"
    assert health.lost(ailing, (fault,)) == 2
    made = engine(ailing)
    assert len(put(made, pod(6))) == 1
    assert put(made, pod(1)) == []


def test_what_a_node_loses_is_lost_once() -> None:
    both = node(allocatable=Resources(6, 64_000, 1024), ready=False)
    found = health.faults(both, MUNICH)
    assert len(found) == 2
    assert health.lost(both, found) == 8
    assert health.lost(node(), ()) == 0


@pytest.mark.parametrize(
    "ailing",
    [
        node(ready=False),
        node(unschedulable=True),
        node(labels={names.DRIVER_UPGRADE_STATE: "drain-required"}),
        node(labels={names.MIG_CONFIG_STATE: "pending"}),
        node(labels={names.CC_MODE: "on"}),
        node(conditions=(("SysLogsXIDError", "True"),)),
        node(labels={names.NODE_MACHINE_LABEL: "u0123"}),
    ],
    ids=lambda each: str(health.faults(each, MUNICH)[0].kind),
)
def test_a_faulty_node_takes_nothing_new_keeps_what_runs_and_is_back_at_once(ailing: Node) -> None:
    made = engine(node())
    runs = pod(2, gates=(), node="n1", pool="munich")
    put(made, runs)
    made.put_node(ailing)
    waits = pod(1)
    assert put(made, waits) == []
    assert wait(made, waits)[0] is Reason.POOL_FULL
    assert made.ledger.counted("acme", "munich") == 2
    assert made.spare("munich") == 0
    made.put_node(node())
    assert [release.node for release in put(made)] == ["n1"]


def test_a_pool_that_counts_another_condition_judges_its_nodes_anew() -> None:
    made = engine(node(conditions=(("RackCool", "False"),)))
    assert made.faults.of == {}
    rule = HealthRule("RackCool", "False")
    made.configure([munich(health=(rule,))], [tenant()], made.policies.values())
    assert [fault.kind for fault in made.faults.of["n1"]] == [FaultKind.CONDITION]
    made.configure([], [tenant()], made.policies.values())
    assert made.faults == health.FaultBook()


class CountingBook(health.FaultBook):
    """Counts how often nodes are judged."""

    judged = 0

    def put(self, node: Node, pool: Pool) -> None:
        CountingBook.judged += 1
        super().put(node, pool)


def test_a_node_is_judged_when_it_changes_and_not_when_pods_come_and_go() -> None:
    made = engine()
    made.faults = CountingBook()
    for each in (node("n1"), node("n2"), node("n1"), node("n1", ready=False), node("n1")):
        made.put_node(each)
    pods = [pod(1) for _ in range(8)]
    put(made, *pods)
    for each in pods:
        made.remove_pod(each.uid)
    assert CountingBook.judged == 4


# --- which machine it is --------------------------------------------------------------------
def _known(of: Node) -> Node:
    labels = {**of.labels, names.NODE_MACHINE_LABEL: health.identity(of)}
    return replace(of, labels=labels)


def test_a_machine_is_recorded_by_what_it_reports() -> None:
    assert health.identity(node()) == ""
    by_uuid = health.identity(node(machine="4C4C4544-0042"))
    assert by_uuid == health.identity(node(machine="4c4c4544-0042"))
    both = health.identity(node(machine="4C4C4544-0042", provider_id="kwok://muc/n1"))
    assert both.split(".")[0] == by_uuid
    assert len(both) <= 63
    assert health.identity(node(provider_id="kwok://muc/n1")) == both.split(".")[1]


@pytest.mark.parametrize(
    ("machine", "provider_id", "replaced"),
    [
        ("a", "p", False),
        ("b", "p", True),
        ("a", "q", True),
        ("", "p", True),
        ("a", "", True),
    ],
)
def test_another_machine_behind_the_same_name_is_noticed(
    machine: str, provider_id: str, *, replaced: bool
) -> None:
    enrolled = _known(node(machine="a", provider_id="p"))
    assert not health.replaced(enrolled)
    now = replace(enrolled, machine=machine, provider_id=provider_id)
    assert health.replaced(now) is replaced
    assert (FaultKind.REPLACED in kinds(now)) is replaced


def test_a_provider_id_that_comes_later_is_no_change() -> None:
    enrolled = _known(node(machine="a"))
    assert not health.replaced(replace(enrolled, provider_id="kwok://muc/n1"))


def test_a_machine_that_was_never_recorded_is_not_replaced() -> None:
    assert not health.replaced(node(machine="a"))


def test_a_replaced_machine_says_what_helps() -> None:
    fault = health.faults(replace(_known(node(machine="a")), machine=""), MUNICH)[0]
    assert "it reports nothing" in fault.message
    assert "gpupools/enrol" in fault.message
    assert names.NODE_MACHINE_LABEL in fault.message


# --- what is lost -------------------------------------------------------------------------------
def ailing_hall() -> Engine:
    """Six nodes: one cordoned for its driver, one silent, one short of two GPUs, a companion."""
    upgrading = {names.DRIVER_UPGRADE_STATE: "validation-required"}
    return engine(
        node("n1"),
        node("n2", labels=upgrading, unschedulable=True),
        node("n3", ready=False),
        node("n4", allocatable=Resources(6, 64_000, 1024)),
        node("companion", gpus=0, ready=False),
        tenants=(tenant(guaranteed=16), tenant("bolt", 9), tenant("cobra", 5)),
    )


def test_a_pool_names_its_faults_by_kind() -> None:
    found = report.pools(ailing_hall())["munich"]
    assert (found.capacity, found.allocatable) == (32, 14)
    assert (found.faulty, found.lost) == (3, 18)
    assert [(str(kind), *numbers) for kind, numbers in found.losses.rows()] == [
        ("NotReady", 1, 8),
        ("Cordoned", 1, 8),
        ("DriverUpgrade", 1, 8),
        ("DevicesUnhealthy", 1, 2),
    ]
    assert found.losses.sentence(32) == (
        "18 of 32 GPUs lost to faults of 3 nodes: NotReady on 1 node, Cordoned on 1 node, "
        "DriverUpgrade on 1 node, DevicesUnhealthy on 1 node"
    )
    assert losses.PoolLosses().sentence(32) == ""


def test_tenants_share_the_loss_by_their_guarantees() -> None:
    found = report.tenants(ailing_hall())
    parts = {name: each.pools["munich"].lost for name, each in found.items()}
    assert parts == {"acme": 8, "bolt": 5, "cobra": 3}  # 16 of 30 guaranteed cannot be served
    assert sum(parts.values()) == 30 - 14


def test_what_never_existed_is_not_lost() -> None:
    made = engine(node("n1"), node("n2", ready=False), tenants=(tenant(guaranteed=64),))
    assert report.tenants(made)["acme"].pools["munich"].lost == 8


def test_faults_beyond_the_guarantees_cost_no_tenant_anything() -> None:
    made = engine(node("n1"), node("n2", ready=False), tenants=(tenant(guaranteed=8),))
    assert report.pools(made)["munich"].lost == 8
    assert report.tenants(made)["acme"].pools["munich"].lost == 0


def test_a_companion_with_a_fault_loses_no_gpus() -> None:
    made = engine(node("companion", gpus=0, ready=False))
    assert report.pools(made)["munich"].losses == losses.PoolLosses()
    assert report.tenants(made)["acme"].pools["munich"].lost == 0


def test_tenants_see_what_they_hold_on_faulty_nodes() -> None:
    made = engine(node("n1"), node("n2", ready=False), tenants=(tenant(), tenant("bolt")))
    put(
        made,
        pod(3, gates=(), node="n1", pool="munich"),
        pod(2, gates=(), node="n2", pool="munich"),
        pod(4, gates=(), planned_node="n2", pool="munich"),
        pod(1, "gpu-operator", gates=(), node="n2"),
    )
    found = report.tenants(made)
    assert found["acme"].pools["munich"].on_faulty_nodes == 2
    assert found["bolt"].pools["munich"].on_faulty_nodes == 0


def test_division_adds_up_and_is_the_same_every_time() -> None:
    assert divide(10, {"b": 1, "a": 1, "c": 1}) == {"a": 4, "b": 3, "c": 3}
    assert divide(7, {"a": 0, "b": 5}) == {"a": 0, "b": 7}
    assert divide(3, {"a": 0}) == {"a": 0}
    assert divide(0, {"a": 2, "b": 1}) == {"a": 0, "b": 0}


# --- nodes in doubt -----------------------------------------------------------------------------
def test_a_doubted_node_is_planned_for_last() -> None:
    made = engine(node("n1", gpus=4), node("n2"))
    made.doubt("n1")
    made.doubt("never-seen")
    assert [release.node for release in put(made, pod(4))] == ["n2"]
    assert [release.node for release in put(made, pod(4), pod(4))] == ["n2", "n1"]
    made.trust("n1")
    assert made.doubted == set()


def test_a_doubted_node_that_fits_nothing_changes_nothing() -> None:
    made = engine(node("n1"), node("n2", gpus=0))
    made.doubt("n2")
    assert put(made, pod(4), pod(5)) != []
    waits = pod(5)
    put(made, waits)
    assert wait(made, waits)[0] is Reason.POOL_FULL
    assert made.faults.of == {}


def test_a_node_that_leaves_takes_the_doubt_with_it() -> None:
    made = engine(node("n1"), node("n2"))
    made.doubt("n1")
    made.remove_node("n1")
    made.put_node(node("n1", gpus=4))
    assert [release.node for release in put(made, pod(4))] == ["n1"]
