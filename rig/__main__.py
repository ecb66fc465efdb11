"""The command `python -m rig`: start, look at and end control planes on this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rig import builder, releases
from rig.binaries import DEFAULT_PROFILE, KIND, PROFILES
from rig.control_plane import Rig, default_root
from rig.errors import RigError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.act(options) or 0)
    except RigError as error:
        print(f"rig: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("rig: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rig", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, act, text in (
        ("up", _up, "start a control plane and leave it running"),
        ("status", _status, "show what runs"),
        ("logs", _logs, "show the end of the daemons' logs"),
        ("kubeconfig", _kubeconfig, "print the path of a user's kubeconfig"),
        ("down", _down, "end it; its objects stay on disk"),
        ("reset", _reset, "end it, forget its objects, start it again"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(act=act)
        command.add_argument("--name", default="default", help="which rig (default: default)")
        command.add_argument("--profile", choices=PROFILES, help="of Kubernetes")
        command.add_argument("--binaries", type=Path, help="directory that holds the daemons")
        if name == "up":
            command.add_argument("--no-kwok", action="store_true", help="nodes stay lifeless")
        if name == "logs":
            command.add_argument("daemon", nargs="?", help="one daemon only, or audit")
            command.add_argument("--lines", type=int, default=20)
        if name == "kubeconfig":
            command.add_argument(
                "user", help="platform-admin, auditor, tenant-<name>, system:node:<node>, …"
            )
    _add_binaries(commands)
    return parser


def _add_binaries(commands: Any) -> None:
    text = "build the binaries, or take them from elsewhere"
    command = commands.add_parser("binaries", help=text, description=text)
    command.set_defaults(act=_binaries)
    command.add_argument("--profile", choices=(*PROFILES, KIND), default=DEFAULT_PROFILE)
    command.add_argument(
        "--from-directory",
        type=Path,
        metavar="DIR",
        help="use the binaries in this directory, if their versions are the pinned ones",
    )
    command.add_argument(
        "--download",
        action="append",
        metavar="PRODUCT=URL",
        help="fetch the official release files below these addresses (kubernetes, etcd, kwok, "
        "helm); a URL without product is that of all others",
    )
    command.add_argument(
        "--checksums",
        type=Path,
        metavar="FILE",
        help="sha256sum list that decides, instead of those beside the release files",
    )


def _binaries(options: argparse.Namespace) -> None:
    if options.from_directory is not None:
        releases.from_directory(options.profile, options.from_directory, _say)
    elif options.download:
        addresses = releases.addresses(options.download)
        releases.download(options.profile, addresses, _say, options.checksums)
    else:
        builder.build(options.profile, _say)


def _say(line: str) -> None:
    # Flushed, because a build that says nothing for minutes looks dead in a log.
    print(line, flush=True)


def _rig(options: argparse.Namespace) -> Rig:
    return Rig(
        options.name,
        profile=options.profile or Rig(options.name).status()["profile"],
        binaries=options.binaries,
        kwok=not getattr(options, "no_kwok", False),
    )


def _up(options: argparse.Namespace) -> None:
    rig = _rig(options).up()
    rig.keep()
    _status(options)
    print(f"\n  export KUBECONFIG={rig.kubeconfig('platform-admin')}")
    print(f"  {rig.binaries / 'kubectl'} get namespaces")


def _status(options: argparse.Namespace) -> int:
    status = _rig(options).status()
    print(f"rig {status['name']} (Kubernetes {status['profile']}): {status['phase']}", end="")
    print(f", {status['url']}" if status["url"] else f" {status['message']}".rstrip())
    for each in status["daemons"]:
        print(f"  {each['name']:<24} {each.get('pid', '-'):>8}  {each['state']}")
    print(f"  state in {status['root']}")
    return 0 if status["phase"] == "up" else 3


def _logs(options: argparse.Namespace) -> None:
    logs = _rig(options).logs
    pattern = f"{options.daemon}.log" if options.daemon else "*.log"
    found = [each for each in sorted(logs.glob(pattern)) if options.daemon or each.stem != "audit"]
    if not found:
        raise RigError(f"no {pattern} in {logs}")
    for log in found:
        print(f"==> {log}")
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        print("\n".join(lines[-options.lines :]))


def _kubeconfig(options: argparse.Namespace) -> None:
    print(_rig(options).kubeconfig(options.user))


def _down(options: argparse.Namespace) -> None:
    if default_root(options.name).exists():
        _rig(options).down()
    print(f"rig {options.name} is down")


def _reset(options: argparse.Namespace) -> None:
    rig = _rig(options).reset()
    rig.keep()
    _status(options)


if __name__ == "__main__":
    sys.exit(main())
