"""Random lives of a cluster until the steps of the bar are done: `python -m bench.ledger_steps`.

The same drive as in `tests/core`, only longer. Prints what was done and how many decisions broke
a quota, a capacity or a constraint, or were forgotten; any of these ends the command with 1 and
the seed that repeats it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

from tests.core.driver import Drive
from tests.core.oracle import ViolationError

RESULTS = Path(__file__).parent / "results" / "ledger_steps.json"
STEPS = 100_000
_LIFE = 500
"""Steps after which a cluster ends, nothing may be left, and the next begins."""


def main() -> int:
    """Drive, count, print a table and a JSON line."""
    parser = argparse.ArgumentParser(prog="python -m bench.ledger_steps", description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    violations = done = 0
    began = time.perf_counter()
    seed = options.seed
    while done < options.steps:
        drive = Drive(seed)
        try:
            drive.run(_LIFE)
            drive.finish()
        except ViolationError as violation:
            violations += 1
            notes = "; ".join(getattr(violation, "__notes__", ()))
            print(f"seed {seed}: {violation} ({notes})", file=sys.stderr)
        counts += drive.counts
        done += _LIFE
        seed += 1
    seconds = time.perf_counter() - began
    figures = {
        "steps": done,
        "lives": seed - options.seed,
        "decisions": counts.pop("decisions"),
        "violations": violations,
        "seconds": round(seconds, 1),
    }
    for name, value in {**figures, **counts}.items():
        print(f"  {name:<24}{value:>12}")
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps({**figures, "by step": counts}) + "\n", encoding="utf-8")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
