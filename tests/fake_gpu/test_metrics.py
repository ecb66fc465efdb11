"""What Prometheus reads of a node, through its own parser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rig.fake_gpu import metrics
from rig.fake_gpu.metrics import Use
from rig.fake_gpu.scenario import Scenario

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

UTIL, ACTIVE = "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
# The client library's parser gives counters this ending; Prometheus itself does not.
ENERGY = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION_total"


def measure(
    uses: dict[str, Use] | None = None, seconds: float = 0.0, **fields: Any
) -> list[Sample]:
    scenario = Scenario.model_validate(fields)
    machine, used = scenario.machine("dgx-0"), uses or {}
    counters = metrics.Counters()
    levels = {gpu.uuid: metrics.level_of(gpu, used) for gpu in machine.gpus}
    for now in (0.0, seconds):
        counters.advance(now, levels)
    label = scenario.hostname_label
    text = metrics.text(metrics.entities(machine, used, scenario.xids, counters, label))
    return [each for family in text_string_to_metric_families(text) for each in family.samples]


def named(samples: list[Sample], name: str) -> list[Sample]:
    return [each for each in samples if each.name == name]


def ids(**fields: Any) -> list[str]:
    resources = Scenario.model_validate(fields).machine("dgx-0").resources()
    return [each.id for found in resources.values() for each in found]


def test_every_counter_of_the_real_exporter_is_there_for_every_gpu() -> None:
    samples = measure()
    names = {each.name for each in samples}
    assert len(names) == 25
    assert all(len(named(samples, name)) == 8 for name in names)
    first = named(samples, UTIL)[0].labels
    assert first == {
        "gpu": "0",
        "UUID": ids()[0],
        "pci_bus_id": "00000000:1B:00.0",
        "device": "nvidia0",
        "modelName": "NVIDIA B200",
        "Hostname": "dgx-0",
        "DCGM_FI_DRIVER_VERSION": "580.95.05",
    }


def test_the_host_is_spelled_as_either_generation_does() -> None:
    (new,) = named(measure(gpus=1, hostnameLabel="hostname"), UTIL)
    assert new.labels["hostname"] == "dgx-0"
    assert "Hostname" not in new.labels


def test_a_gpu_is_as_busy_as_its_pod_and_idle_without_one() -> None:
    samples = measure({ids()[2]: Use("team", "train-0", "main", 95)})
    (busy,) = [each for each in named(samples, UTIL) if "pod" in each.labels]
    assert busy.value == 95
    assert busy.labels["gpu"] == "2"
    assert (busy.labels["namespace"], busy.labels["pod"]) == ("team", "train-0")
    assert busy.labels["container"] == "main"
    assert [each.value for each in named(samples, ACTIVE)] == [0, 0, 0.95, 0, 0, 0, 0, 0]
    memory = [each.value for each in named(samples, "DCGM_FI_DEV_FB_USED")]
    assert memory[2] > 100_000
    assert sum(memory) == memory[2]


def test_memory_adds_up() -> None:
    samples = measure({ids()[0]: Use("team", "train-0", "main", 10)})
    parts = [
        [each.value for each in named(samples, f"DCGM_FI_DEV_FB_{part}")]
        for part in ("FREE", "USED", "RESERVED")
    ]
    assert [sum(each) for each in zip(*parts, strict=True)] == [183359.0] * 8


def test_energy_is_power_over_time() -> None:
    samples = measure({ids()[0]: Use("team", "train-0", "main", 100)}, seconds=60.0)
    assert named(samples, "DCGM_FI_DEV_POWER_USAGE")[0].value == 1000
    assert [each.value for each in named(samples, ENERGY)[:2]] == [60_000_000, 8_400_000]


def test_errors_are_reported_also_when_they_do_no_harm() -> None:
    samples = measure(faults=[{"gpu": 1, "xid": 79}, {"gpu": 2, "xid": 43}, {"gpu": 3}])
    found = [each.value for each in named(samples, "DCGM_FI_DEV_XID_ERRORS")]
    assert found == [0, 79, 43, 0, 0, 0, 0, 0]


def test_partitions_are_measured_in_the_place_of_their_gpu() -> None:
    fields: dict[str, Any] = {"mig": [{"devices": [0], "profiles": {"1g.23gb": 7}}], "gpus": 2}
    uses = {ids(**fields)[1]: Use("team", "infer-0", "main", 70)}
    samples = measure(uses, **fields)
    active = named(samples, ACTIVE)
    assert len(active) == 8
    (busy,) = [each for each in active if each.value]
    assert busy.value == 0.7
    assert busy.labels["GPU_I_PROFILE"] == "1g.23gb"
    assert busy.labels["GPU_I_ID"] == "1"
    assert busy.labels["UUID"].startswith("GPU-")
    assert busy.labels["pod"] == "infer-0"
    # The driver's own figure does not exist for partitions.
    assert [each.labels["gpu"] for each in named(samples, UTIL)] == ["1"]
    watts = {each.value for each in named(samples, "DCGM_FI_DEV_POWER_USAGE")}
    assert watts == {140.0 + 860.0 * 0.1, 140.0}


def test_names_are_escaped() -> None:
    odd = 'a"b\\c\nd'
    samples = measure({ids()[0]: Use(odd, "p", "main", 1)})
    assert named(samples, UTIL)[0].labels["namespace"] == odd


@pytest.mark.parametrize("level", [0, 1, 50, 100])
def test_figures_stay_within_what_hardware_can_do(level: int) -> None:
    samples = measure({each: Use("team", "p", "main", level) for each in ids()})
    assert all(0 <= each.value <= 1 for each in samples if each.name.endswith("_ACTIVE"))
    assert all(each.value <= 1000 for each in named(samples, "DCGM_FI_DEV_POWER_USAGE"))
    assert all(each.value < 85 for each in samples if each.name.endswith("_TEMP"))
