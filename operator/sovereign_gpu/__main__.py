"""`sovereign-gpu`: the operator, or one of the commands of people.

Each loads what it needs and no more: a command answers before the operator's imports were read.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run what the first word says; returns the exit code."""
    if sys.argv[1:2] == ["operator"]:
        from sovereign_gpu import operate  # noqa: PLC0415 – see the module

        return operate.main(sys.argv[2:])
    if sys.argv[1:2] == ["guard"]:
        from sovereign_gpu import guard  # noqa: PLC0415 – see the module

        return guard.main(sys.argv[2:])
    from sovereign_gpu.cli.command import main as answer  # noqa: PLC0415 – see the module

    return answer(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
