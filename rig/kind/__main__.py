"""The command `python -m rig.kind`: create the cluster, look at it, take it down."""

from __future__ import annotations

import argparse
import sys

from rig.errors import RigError
from rig.kind.cluster import Cluster


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser(prog="rig.kind", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, act, text in (
        ("up", _up, "create the cluster of kind-config.yaml, or leave a ready one alone"),
        ("down", _down, "delete it, and take back what the machine was changed for it"),
    ):
        commands.add_parser(name, help=text, description=text).set_defaults(act=act)
    options = parser.parse_args(arguments)
    try:
        options.act()
    except RigError as error:
        print(f"kind: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("kind: interrupted", file=sys.stderr)
        return 130
    return 0


def _up() -> None:
    cluster = Cluster()
    cluster.up(_say)
    print(f"\n  export KUBECONFIG={cluster.kubeconfig}")
    print(f"  {cluster.binaries / 'kubectl'} get nodes")


def _down() -> None:
    Cluster().down(_say)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
