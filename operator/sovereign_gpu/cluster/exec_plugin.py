"""Credentials from a command that a kubeconfig names (client.authentication.k8s.io).

For people at a terminal, whose kubeconfig comes from their cloud or their login; the operator runs
no commands.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sovereign_gpu.cluster.errors import ConfigurationError

_TIMEOUT = 120.0
"""Seconds; a person may have to log in."""


def run(spec: Mapping[str, Any], folder: Path, cluster: Mapping[str, Any]) -> dict[str, str]:
    """Run the command; return the `status` of its ExecCredential.

    Args:
        spec: the `exec` part of the user.
        folder: where the kubeconfig is; a command with a slash is meant from there.
        cluster: what the command is told of the cluster if it asks for that.

    Raises:
        ConfigurationError: it cannot be run, fails, or answers something else.
    """
    name = str(spec["command"])
    command = str(folder / name) if "/" in name else name
    told: dict[str, Any] = {"interactive": sys.stdin.isatty()}
    if spec.get("provideClusterInfo"):
        told["cluster"] = dict(cluster)
    info = {"apiVersion": spec["apiVersion"], "kind": "ExecCredential", "spec": told}
    environment = {
        **os.environ,
        **{each["name"]: each["value"] for each in spec.get("env") or ()},
        "KUBERNETES_EXEC_INFO": json.dumps(info),
    }
    try:
        done = subprocess.run(  # noqa: S603 – the kubeconfig is the user's own
            [command, *(spec.get("args") or ())],
            env=environment,
            stdout=subprocess.PIPE,
            check=True,
            timeout=_TIMEOUT,
        )
        status: dict[str, str] = json.loads(done.stdout)["status"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        hint = spec.get("installHint") if isinstance(error, FileNotFoundError) else None
        raise ConfigurationError(f"credential plugin {name}: {hint or error}") from error
    if not status or not {"token", "clientCertificateData"} & status.keys():
        raise ConfigurationError(f"credential plugin {name}: it answered without credentials")
    return status
