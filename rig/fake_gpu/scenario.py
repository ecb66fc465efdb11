"""What a node has and what is wrong with it, as written in the ConfigMap.

The key `_default` holds for all nodes, a key with a node's name for that one; a field in the
latter replaces the field of the former. Everything is a state, nothing is a command: whoever
reads it late, or twice, comes to the same node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from rig.catalogue import PRODUCTS, Product
from rig.fake_gpu import names, utilisation
from rig.fake_gpu.machine import Machine, build

if TYPE_CHECKING:
    from collections.abc import Mapping

HARMLESS_XIDS: Final = frozenset({13, 31, 43, 45, 68, 109})
"""Errors of an application, not of a GPU: NVIDIA's device plugin ignores these."""
UPGRADE_STATES: Final = (
    "upgrade-required",
    "cordon-required",
    "wait-for-jobs-required",
    "pod-deletion-required",
    "drain-required",
    "pod-restart-required",
    "validation-required",
    "uncordon-required",
    "upgrade-done",
    "upgrade-failed",
    "node-maintenance-required",
    "post-maintenance-required",
)
PAUSED_IN: Final = "pod-restart-required"
"""The step of a driver upgrade in which the driver's users are taken off the node."""


class ScenarioError(ValueError):
    """The ConfigMap holds something that is not a scenario; the message names key and field."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Fault(_Strict):
    """A fault of one GPU.

    Attributes:
        gpu: its index.
        xid: error code that the driver reports; a GPU with a fault that has none just fails.
    """

    gpu: int = Field(ge=0)
    xid: int | None = Field(default=None, gt=0)

    @property
    def disables(self) -> bool:
        """Whether the GPU can no longer be used."""
        return self.xid not in HARMLESS_XIDS


class Partition(_Strict):
    """How some GPUs are partitioned.

    Attributes:
        devices: indexes of the GPUs, or all.
        profiles: number of instances by profile name.
    """

    devices: Literal["all"] | tuple[Annotated[int, Field(ge=0)], ...]
    profiles: dict[str, Annotated[int, Field(gt=0)]]


def _known_product(name: str) -> str:
    if name not in PRODUCTS:
        raise ValueError(f"the catalogue has {', '.join(PRODUCTS)}")
    return name


def _known_state(name: str) -> str:
    if name not in UPGRADE_STATES:
        raise ValueError(f"the states are {', '.join(UPGRADE_STATES)}")
    return name


def _script(text: str) -> str:
    utilisation.parse(text)
    return text


class Scenario(_Strict):
    """One node.

    Attributes:
        product: a name of the catalogue.
        gpus: how many.
        mig: partitions; GPUs that are not named are used whole.
        faults: of GPUs.
        labels: values that labels of the node have instead; null takes a label away.
        driver_upgrade_state: where the gpu-operator's driver upgrade stands.
        crash: any word; whenever it changes, the device plugin dies without a farewell.
        utilisation: of pods that do not say (see `utilisation.py`).
        hostname_label: as dcgm-exporter spells it: `Hostname` up to 4.5, `hostname` since.
    """

    product: Annotated[str, AfterValidator(_known_product)] = "NVIDIA-B200"
    gpus: int = Field(default=8, ge=1, le=16)
    mig: tuple[Partition, ...] = ()
    faults: tuple[Fault, ...] = ()
    labels: dict[str, str | None] = {}
    driver_upgrade_state: Annotated[str, AfterValidator(_known_state)] = "upgrade-done"
    crash: str = ""
    utilisation: Annotated[str, AfterValidator(_script)] = "90"
    hostname_label: Literal["Hostname", "hostname"] = "Hostname"

    @model_validator(mode="after")
    def _fits_together(self) -> Scenario:
        named = {fault.gpu for fault in self.faults}
        named |= {index for each in self.mig if each.devices != "all" for index in each.devices}
        if missing := sorted(index for index in named if index >= self.gpus):
            raise ValueError(f"GPU {missing[0]} of {self.gpus}: the first one is 0")
        self.machine("")
        return self

    @property
    def hardware(self) -> Product:
        """The product."""
        return PRODUCTS[self.product]

    @property
    def broken(self) -> frozenset[int]:
        """Indexes of the GPUs that cannot be used."""
        return frozenset(fault.gpu for fault in self.faults if fault.disables)

    @property
    def xids(self) -> dict[int, int]:
        """Last error code by index of the GPU."""
        return {fault.gpu: fault.xid for fault in self.faults if fault.xid is not None}

    def machine(self, node: str) -> Machine:
        """Return the hardware of a node."""
        partitions: dict[int, dict[str, int]] = {}
        for each in self.mig:
            for index in range(self.gpus) if each.devices == "all" else each.devices:
                partitions[index] = dict(each.profiles)
        return build(node, self.hardware, self.gpus, partitions)


def read(data: Mapping[str, str], node: str) -> Scenario:
    """Return the scenario of a node.

    Args:
        data: of the ConfigMap; empty when there is none.
        node: name of the node.

    Raises:
        ScenarioError: a key does not hold a scenario.
    """
    fields: dict[str, Any] = {}
    for key in (names.EVERY_NODE, node):
        fields |= _fields(key, data.get(key, ""))
    try:
        return Scenario.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in each['loc']) or 'scenario'}: {each['msg']}"
            for each in error.errors()
        )
        raise ScenarioError(f"{node}: {problems}") from None


def _fields(key: str, text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ScenarioError(f"{key}: not YAML: {error}") from None
    if not isinstance(found, dict):
        raise ScenarioError(f"{key}: a mapping is expected, found {type(found).__name__}")
    return found
