"""`sovereign-gpu render-static`: files that keep our policies from being removed by the API."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path, PurePosixPath
from typing import TextIO

import yaml

from sovereign_gpu.admission.static import configuration, guards
from sovereign_gpu.cli.question import Exit, FailedError

POLICIES = "sovereign-gpu-guards.yaml"
CONFIGURATION = "admission-configuration.yaml"
_HEAD = "# Read by the API server from a file, and changed nowhere else.\n"


def run(options: Namespace, out: TextIO) -> Exit:
    """Write the files and say what to do with them.

    Raises:
        FailedError: they cannot be written, or the path is not absolute.
    """
    directory = PurePosixPath(options.directory)
    if not directory.is_absolute():
        raise FailedError(
            f"--directory: found {options.directory!r}, allowed an absolute path on the machines "
            "of the API servers"
        )
    target = Path(options.out)
    policies = target / "policies"
    try:
        policies.mkdir(parents=True, exist_ok=True)
        manifests = guards(options.maintainer)
        (policies / POLICIES).write_text(
            _HEAD + yaml.safe_dump_all(manifests, sort_keys=False, width=100), encoding="utf-8"
        )
        (target / CONFIGURATION).write_text(
            _HEAD + yaml.safe_dump(configuration(str(directory)), sort_keys=False),
            encoding="utf-8",
        )
    except OSError as error:
        raise FailedError(f"--out: {error.filename}: {error.strerror}") from error
    who = ", ".join(options.maintainer) or "nobody; name the user of Helm with --maintainer"
    out.write(
        f"{policies / POLICIES}: copy to {directory} on every machine with an API server\n"
        f"{target / CONFIGURATION}: the API servers' --admission-control-config-file\n"
        "Kubernetes 1.36 also wants --feature-gates=ManifestBasedAdmissionControlConfig=true.\n"
        f"May change what is guarded: {who}.\n"
    )
    return Exit.OK
