"""The file that tells container runtimes what the names of our devices stand for.

Runtimes that know the Container Device Interface refuse a container whose device they cannot look
up, so the names in the plugin's answers need this file. Where a real one lists device nodes and
driver libraries, this one sets a variable per device, by which a test sees that it was applied.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

from rig.fake_gpu import names

if TYPE_CHECKING:
    from pathlib import Path

    from rig.fake_gpu.machine import Machine

FILE: Final = "fake-nvidia.json"
VERSION: Final = "0.5.0"


def specification(machine: Machine) -> dict[str, Any]:
    """Return the CDI specification of a machine's devices."""
    devices = [each for found in machine.resources().values() for each in found]
    return {
        "cdiVersion": VERSION,
        "kind": names.CDI_KIND,
        "devices": [
            {"name": each.id, "containerEdits": {"env": [f"{_variable(each.id)}=injected"]}}
            for each in devices
        ],
    }


def _variable(identity: str) -> str:
    return "FAKE_GPU_" + identity.replace("-", "_").upper()


def write(machine: Machine, directory: Path) -> None:
    """Write the specification; whoever reads at that moment sees the old or the new one."""
    directory.mkdir(parents=True, exist_ok=True)
    new = directory / f".{FILE}.{os.getpid()}"
    new.write_text(json.dumps(specification(machine), indent=1), encoding="ascii")
    new.replace(directory / FILE)
