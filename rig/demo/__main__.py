"""The command `python -m rig.demo`."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from rig.binaries import cache_directory
from rig.demo import kept, story
from rig.errors import RigError

NODES = 1250


def main(arguments: list[str] | None = None) -> int:
    """Tell the story; return 0 if every expectation held."""
    parser = argparse.ArgumentParser(prog="python -m rig.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave it running, to look around")
    parser.add_argument("--end", action="store_true", help="end what --keep left running")
    parser.add_argument("--name", default="demo", help="name of the rig (default: demo)")
    parser.add_argument(
        "--nodes",
        type=int,
        default=NODES,
        help=f"GPU nodes in Munich; quotas and workloads shrink with them (default: {NODES})",
    )
    parser.add_argument(
        "--summary", type=Path, help="HTML file with charts (default: below the cache directory)"
    )
    options = parser.parse_args(arguments)
    page = options.summary or cache_directory() / "demos" / f"{options.name}.html"
    signal.signal(signal.SIGTERM, _interrupt)
    # What is kept outlives the terminal: processes inherit a signal that is ignored.
    signal.signal(signal.SIGHUP, signal.SIG_IGN if options.keep else _interrupt)
    try:
        if options.end:
            return kept.end(options.name)
        scale = options.nodes / NODES
        return story.tell(options.name, options.nodes, scale, page.absolute(), keep=options.keep)
    except RigError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    # The way out of Ctrl-C ends what was started; SIGTERM is to take the same.
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
