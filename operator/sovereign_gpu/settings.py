"""Settings from flags and environment, checked once at start.

Each flag has an environment variable: `--lease-seconds` is `SOVEREIGN_GPU_LEASE_SECONDS`.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sovereign_gpu import __version__
from sovereign_gpu.admission.settings import Settings as Admission
from sovereign_gpu.admission.settings import from_json
from sovereign_gpu.cluster.errors import ConfigurationError

_LOG_LEVELS = ("debug", "info", "warning", "error")
_MOST_IN_FLIGHT = 128
_DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a running operator is told."""

    host: str
    port: int
    kubeconfig: str | None
    lease_namespace: str
    lease_seconds: float
    identity: str
    writes_in_flight: int
    log_level: str
    half_life: float = 168 * 3600.0
    """Seconds in which the memory of past borrowing halves."""
    read_api: tuple[str, int] | None = None
    """Host and port; None: off."""
    pod: str = ""
    """Our own pod in the lease's namespace; empty: none."""
    admission: Admission | None = None
    """What the chart rendered the admission policies with; None: they are not watched."""


def read(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings.

    Raises:
        ConfigurationError: a value cannot be used; the message names flag, found and allowed.
        SystemExit: --help, --version or an unknown flag.
    """
    parser = argparse.ArgumentParser(
        prog="sovereign-gpu operator",
        description="Run the sovereign-gpu operator.",
        allow_abbrev=False,  # a later flag must not change what today's command line means
    )

    def flag(name: str, default: str, text: str) -> None:
        variable = "SOVEREIGN_GPU_" + name.upper().replace("-", "_")
        parser.add_argument(
            f"--{name}",
            default=environment.get(variable, default),
            help=f"{text} (default {default or 'none'}; environment {variable})",
        )

    parser.add_argument("--version", action="version", version=__version__)
    flag("listen", "0.0.0.0:8080", "address of /livez, /readyz and /metrics")
    flag("read-api", "", "address of the read API, with TLS, that answers the commands; empty: off")
    flag("kubeconfig", "", "kubeconfig to use instead of the pod's service account")
    flag("pod", "", "name of the operator's own pod, which is marked while it leads; empty: none")
    flag("lease-namespace", "sovereign-gpu-system", "namespace of the leader lease")
    flag("lease-seconds", "15", "how long a lease holds without renewal; 2 to 300")
    flag("identity", socket.gethostname(), "name of this process in the lease; unique")
    flag("writes-in-flight", "32", f"most requests in flight; 1 to {_MOST_IN_FLIGHT}")
    flag(
        "fair-share-half-life-hours",
        "168",
        "how fast past borrowing is forgotten between tenants; 0.01 to 8760",
    )
    flag("admission", "", "values of the chart's admission policies, as JSON; empty: not watched")
    flag("log-level", "info", "one of " + ", ".join(_LOG_LEVELS))
    found = parser.parse_args(arguments)
    host, port = _address("listen", found.listen)
    return Settings(
        host=host,
        port=port,
        kubeconfig=found.kubeconfig or None,
        lease_namespace=_name("lease-namespace", found.lease_namespace),
        lease_seconds=_number("lease-seconds", found.lease_seconds, 2, 300),
        identity=_word("identity", found.identity),
        writes_in_flight=_whole("writes-in-flight", found.writes_in_flight, 1, _MOST_IN_FLIGHT),
        log_level=_choice("log-level", found.log_level, _LOG_LEVELS),
        half_life=3600
        * _number("fair-share-half-life-hours", found.fair_share_half_life_hours, 0.01, 8760),
        read_api=_address("read-api", found.read_api) if found.read_api else None,
        pod=_name("pod", found.pod) if found.pod else "",
        admission=_admission(found.admission) if found.admission else None,
    )


def _address(name: str, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 <= int(port) <= 65535:  # noqa: PLR2004
        raise ConfigurationError(
            f"--{name}: found {text!r}, allowed HOST:PORT with a port to 65535"
        )
    return host.strip("[]"), int(port)


def _admission(text: str) -> Admission:
    try:
        return from_json(text)
    except ValueError as error:
        raise ConfigurationError(
            f"--admission: found {text[:80]!r}, allowed the values that the chart writes: {error}"
        ) from error


def _word(name: str, text: str) -> str:
    if not text or not text.isprintable() or any(each in " /" for each in text):
        raise ConfigurationError(
            f"--{name}: found {text!r}, allowed a word without spaces and slashes"
        )
    return text


def _name(name: str, text: str) -> str:
    if not _DNS_NAME.fullmatch(text):
        raise ConfigurationError(
            f"--{name}: found {text!r}, allowed a word without spaces: at most 63 lower-case "
            "letters, digits and hyphens, as Kubernetes names it"
        )
    return text


def _whole(name: str, text: str, least: int, most: int) -> int:
    if not text.strip().isdecimal() or not least <= int(text) <= most:
        raise ConfigurationError(
            f"--{name}: found {text!r}, allowed a number from {least} to {most}, a whole one"
        )
    return int(text)


def _number(name: str, text: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise ConfigurationError(
            f"--{name}: found {text!r}, allowed a number from {least} to {most}"
        )
    return value


def _choice(name: str, text: str, choices: Sequence[str]) -> str:
    if text not in choices:
        raise ConfigurationError(f"--{name}: found {text!r}, allowed {', '.join(choices)}")
    return text
