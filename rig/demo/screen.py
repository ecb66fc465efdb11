"""What the audience sees: a live table in a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from rig.demo.record import Act, Finding, Record
from rig.errors import RigError

PAUSE_SECONDS = 0.5
PLAIN_EVERY_SECONDS = 5.0
PLAIN_WIDTH = 140
MARKS = {True: ("✔", "green"), False: ("✘", "bold red")}


def _console() -> Console:
    console = Console(highlight=False)
    # Without a terminal there is no width to respect, and cut lines are of no use in a log.
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


@dataclass(slots=True)
class Screen:
    """Prints, and records the acts and what became of each expectation."""

    console: Console = field(default_factory=_console)
    record: Record = field(default_factory=Record)
    _act: str = ""
    _began: float = field(default_factory=time.monotonic)

    def line(self, text: str, style: str = "") -> None:
        """Print one line."""
        self.console.print(Text(f"  {text}", style=style), soft_wrap=True)

    def show(self, table: RenderableType) -> None:
        """Print a table as it is now."""
        self.console.print(table)

    @contextmanager
    def act(self, title: str) -> Iterator[None]:
        """Announce a part of the story and measure it."""
        self.console.print(Text(f"\n{title}", style="bold"))
        began, self._act = time.time(), title
        try:
            yield
        finally:
            self.record.acts.append(Act(title, began, time.time()))
            self.line(f"[{self.record.acts[-1].seconds:.1f} s]", "dim")

    def expect(self, what: str, holds: object, found: str = "", *, quiet: bool = False) -> bool:
        """Note whether an expectation holds; a failed one ends in the exit code.

        Args:
            what: sentence that is true when it holds.
            holds: whether it does.
            found: what was found, said in any case.
            quiet: whether to say nothing when it holds.
        """
        finding = Finding(self._act, what, found, holds=bool(holds), at=time.time())
        self.record.findings.append(finding)
        if not (quiet and holds):
            mark, style = MARKS[finding.holds]
            self.console.print(Text(f"  {mark} ", style=style) + Text(finding.said), soft_wrap=True)
        return finding.holds

    def follow(
        self,
        table: Callable[[], tuple[RenderableType, str]],
        done: Callable[[], object],
        seconds: float,
        what: str,
    ) -> None:
        """Show a table that moves until a condition holds.

        Args:
            table: makes the table and the same as one plain line.
            done: the condition; called twice a second.
            seconds: how long it may take.
            what: what is waited for.

        Raises:
            RigError: it did not hold in time.
        """
        deadline = time.monotonic() + seconds
        for drawn in self._frames(table):
            if done():
                break
            if time.monotonic() > deadline:
                raise RigError(f"waited {seconds:.0f} s in vain for {what}; last seen: {drawn}")
            time.sleep(PAUSE_SECONDS)

    def _frames(self, table: Callable[[], tuple[RenderableType, str]]) -> Iterator[str]:
        if self.console.is_terminal:
            yield from self._moving(table)
        else:
            yield from self._plain(table)

    def _moving(self, table: Callable[[], tuple[RenderableType, str]]) -> Iterator[str]:
        rendered, plain = table()
        with Live(rendered, console=self.console, auto_refresh=False) as live:
            try:
                while True:
                    yield plain
                    rendered, plain = table()
                    live.update(rendered, refresh=True)
            finally:
                live.update(table()[0], refresh=True)

    def _plain(self, table: Callable[[], tuple[RenderableType, str]]) -> Iterator[str]:
        said_at, said = 0.0, ""
        while True:
            plain = table()[1]
            if plain != said and time.monotonic() - said_at > PLAIN_EVERY_SECONDS:
                said_at, said = time.monotonic(), plain
                self.line(f"{said_at - self._began:4.0f} s  {plain}")
            yield plain
