"""What may stand in the ConfigMap, what it means, and what is said about slips of the pen."""

from __future__ import annotations

import pytest

from rig.catalogue import PRODUCTS
from rig.fake_gpu import mig, scenario, utilisation
from rig.fake_gpu.machine import build
from rig.fake_gpu.scenario import ScenarioError


def read(default: str = "", node: str = "") -> scenario.Scenario:
    return scenario.read({"_default": default, "dgx-0": node}, "dgx-0")


def test_no_configuration_at_all_is_a_whole_dgx_b200() -> None:
    found = scenario.read({}, "dgx-0")
    assert (found.product, found.gpus, found.broken) == ("NVIDIA-B200", 8, frozenset())
    assert list(found.machine("dgx-0").resources()) == ["nvidia.com/gpu"]


def test_a_node_differs_from_the_others_in_what_its_own_key_says() -> None:
    found = read("gpus: 4\nfaults: [{gpu: 1}]", "faults: [{gpu: 3, xid: 79}]")
    assert found.gpus == 4
    assert found.broken == {3}
    assert found.xids == {3: 79}
    assert scenario.read({"_default": "gpus: 4", "dgx-1": "gpus: 2"}, "dgx-0").gpus == 4


def test_errors_of_applications_leave_a_gpu_usable() -> None:
    found = read("faults: [{gpu: 0, xid: 43}, {gpu: 1, xid: 79}, {gpu: 2}]")
    assert found.broken == {1, 2}
    assert found.xids == {0: 43, 1: 79}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpus: [", "not YAML"),
        ("- 1", "a mapping is expected, found list"),
        ("gpu: 8", "gpu: Extra inputs are not permitted"),
        ("gpus: 0", "gpus: "),
        ("product: NVIDIA-B201", "the catalogue has NVIDIA-B200"),
        ("faults: [{gpu: 8}]", "GPU 8 of 8: the first one is 0"),
        ("faults: [{gpu: 1, xid: 0}]", "faults.0.xid"),
        ("mig: [{devices: [9], profiles: {1g.23gb: 1}}]", "GPU 9 of 8"),
        ("mig: [{devices: [0], profiles: {1g.10gb: 1}}]", "it has 1g.23gb, 1g.23gb+me"),
        ("mig: [{devices: all, profiles: {1g.23gb: 8}}]", "a GPU holds 7 at most"),
        ("mig: [{devices: all, profiles: {4g.90gb: 1, 3g.90gb: 1, 1g.23gb: 1}}]", "8/7"),
        ("mig: [{devices: all, profiles: {3g.90gb: 2, 1g.23gb: 1}}]", "9/8"),
        ("product: NVIDIA-L40S\nmig: [{devices: all, profiles: {1g: 1}}]", "it has none"),
        ("driverUpgradeState: done", "driverUpgradeState"),
        ("utilisation: lots", "'lots' is not LEVEL"),
        ("hostnameLabel: host", "hostnameLabel"),
    ],
)
def test_a_slip_of_the_pen_is_named(text: str, said: str) -> None:
    with pytest.raises(ScenarioError) as error:
        read(text)
    assert said in str(error.value)


def test_every_profile_fits_as_often_as_it_says_and_no_more() -> None:
    for product, profiles in mig.PROFILES.items():
        for profile in profiles.values():
            made = mig.partition(PRODUCTS[product], {profile.name: profile.at_most})
            assert made == (profile,) * profile.at_most
            with pytest.raises(ValueError, match=f"{profile.at_most} at most"):
                mig.partition(PRODUCTS[product], {profile.name: profile.at_most + 1})


def test_profiles_have_the_names_of_the_driver() -> None:
    assert list(mig.PROFILES["NVIDIA-B200"]) == [
        *("1g.23gb", "1g.23gb+me", "1g.45gb", "2g.45gb", "3g.90gb", "4g.90gb", "7g.180gb")
    ]
    assert list(mig.PROFILES["NVIDIA-H200"]) == [
        *("1g.18gb", "1g.18gb+me", "1g.35gb", "2g.35gb", "3g.71gb", "4g.71gb", "7g.141gb")
    ]
    assert list(mig.PROFILES["NVIDIA-H100-80GB-HBM3"]) == [
        *("1g.10gb", "1g.10gb+me", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
    ]


def test_no_two_devices_anywhere_have_the_same_identity() -> None:
    product = PRODUCTS["NVIDIA-B200"]
    layout = {index: {"1g.23gb": 7} for index in range(4)}
    machines = [build(name, product, 16, layout) for name in ("dgx-0", "dgx-1", "dgx-11")]
    devices = [each for one in machines for found in one.resources().values() for each in found]
    assert len({each.id for each in devices}) == len(devices) == 3 * (12 + 28)
    assert all(len(each.id) <= 63 for each in devices)
    buses = [gpu.pci_bus_id for gpu in machines[0].gpus]
    assert len(set(buses)) == 16
    assert [gpu.numa for gpu in machines[0].gpus] == [0] * 8 + [1] * 8


def test_a_partition_keeps_its_identity_while_its_gpu_keeps_its_layout() -> None:
    product = PRODUCTS["NVIDIA-B200"]
    one = build("dgx-0", product, 8, {3: {"2g.45gb": 3}})
    other = build("dgx-0", product, 8, {3: {"2g.45gb": 3}, 0: {"1g.23gb": 7}})
    assert one.gpus[3] == other.gpus[3]


@pytest.mark.parametrize(
    ("text", "age", "low", "high"),
    [
        ("95", 0, 95, 95),
        ("95", 10**7, 95, 95),
        ("95@600,0", 599.9, 95, 95),
        ("95@600,0", 600, 0, 0),
        ("0@30, 80-95@60, 5", 30, 80, 95),
        ("0@30, 80-95@60, 5", 90, 5, 5),
        ("0-100", 77, 0, 100),
    ],
)
def test_a_script_says_how_busy_a_pod_is_at_any_age(
    text: str, age: float, low: int, high: int
) -> None:
    script = utilisation.parse(text)
    levels = {script.level(age, f"GPU-{number}") for number in range(200)}
    assert low <= min(levels) <= max(levels) <= high
    if low < high:
        assert len(levels) > 5
        assert script.level(age, "GPU-0") == script.level(age, "GPU-0")
        assert len({script.level(age + 15 * n, "GPU-0") for n in range(9)}) > 1


@pytest.mark.parametrize("text", ["", "101", "9-5", "50@60", "50,60", "-1", "50@x,0", "5,"])
def test_what_is_no_script_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="utilisation"):
        utilisation.parse(text)
