"""Kubeconfig files as kubectl reads them: several merged, one context chosen.

Of clusters, users and contexts of the same name the first counts; relative paths are meant from
the file that holds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sovereign_gpu.cluster.errors import ConfigurationError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WRONG = (OSError, KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError)


@dataclass(frozen=True, slots=True)
class Part:
    """The settings of one cluster or user."""

    kind: str
    file: Path
    content: Mapping[str, Any]

    def only(self, known: frozenset[str]) -> None:
        """Check that nothing is said that would have to be ignored.

        Raises:
            ConfigurationError: something is.
        """
        odd = sorted(
            key
            for key, value in self.content.items()
            if key not in known and key != "extensions" and value
        )
        if odd:
            raise ConfigurationError(
                f"kubeconfig {self.file}: {self.kind} says {', '.join(odd)}, which is not "
                f"supported; allowed: {', '.join(sorted(known))}"
            )


@dataclass(frozen=True, slots=True)
class Context:
    """A cluster, who we are there, and the namespace we work in."""

    cluster: Part
    user: Part
    namespace: str


def read(files: Sequence[Path], context: str = "") -> Context:
    """Return the named context, or the current one.

    Args:
        files: kubeconfig files; of several, those that do not exist are left out.
        context: its name; empty: `current-context`.

    Raises:
        ConfigurationError: there is none, or a file cannot be used.
    """
    present = [file for file in files if file.exists()] or files[:1]
    configs = [(file, _load(file)) for file in present]
    named = ", ".join(map(str, present))
    chosen = context or next(
        (config["current-context"] for _, config in configs if config.get("current-context")), ""
    )
    if not chosen:
        raise ConfigurationError(f"kubeconfig {named}: current-context is not set")
    try:
        found = _named(configs, "context", chosen).content
        return Context(
            _named(configs, "cluster", found["cluster"]),
            _named(configs, "user", found["user"]),
            found.get("namespace") or "default",
        )
    except _WRONG as error:
        raise _unusable(named, error) from error


def _load(file: Path) -> Mapping[str, Any]:
    try:
        config = yaml.load(file.read_text(), _LOADER)  # noqa: S506 – a safe loader, the quick one
        if not isinstance(config, dict):
            raise TypeError("no mapping")
    except _WRONG as error:
        raise _unusable(str(file), error) from error
    return config


def _unusable(file: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(f"kubeconfig {file} is not usable: {type(error).__name__}: {error}")


def _named(configs: Sequence[tuple[Path, Mapping[str, Any]]], kind: str, name: str) -> Part:
    for file, config in configs:
        for entry in config.get(f"{kind}s") or ():
            if entry["name"] == name:
                return Part(kind, file, entry[kind] or {})
    raise KeyError(f"{kind}s[name={name}]")
