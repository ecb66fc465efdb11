"""The story, act by act."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rig import product, users
from rig.control_plane import Rig
from rig.demo import (
    cheats,
    commands,
    crowd,
    drift,
    facts,
    faults,
    kept,
    lending,
    narrowed,
    outage,
    scene,
    summary,
    verdict,
)
from rig.demo.pods import one
from rig.demo.screen import Screen
from rig.demo.table import Board
from rig.demo.trail import Trail
from rig.errors import RigError

if TYPE_CHECKING:
    from pathlib import Path

    from rig.demo.outage import Outage
    from rig.demo.scene import Scene

_LAST_LINES = 12
ENDING = 10
"""Pods that end while the operator runs, so that others take their place; fewer when fewer wait."""


def tell(name: str, nodes: int, scale: float, page: Path, *, keep: bool) -> int:
    """Tell the whole story.

    Args:
        name: of the rig; nothing of that name may run.
        nodes: GPU nodes at home.
        scale: share of the full size.
        page: file for the summary.
        keep: whether to leave everything running at the end.

    Returns:
        0 if every expectation held, otherwise 1.

    Raises:
        RigError: it could not even begin.
    """
    screen = Screen()
    kept.refuse_second(name)
    began = time.monotonic()
    rig = Rig(name)
    rig.binaries  # noqa: B018 - says what is missing, and how to build it
    rig.destroy()
    stage: Scene | None = None
    told = stays = False
    try:
        try:
            stage = _raise_curtain(rig, screen, nodes, scale)
            _play(stage)
            told = True
        except RigError as error:
            screen.expect("the story is told to its end", holds=False, found=str(error))
            _last_words(rig, screen)
        summary.write(page, screen.record, stage)
        stays = keep and told
    finally:
        if not stays:
            _clear(rig, stage)
    code = _close(screen, time.monotonic() - began, page)
    if stage is not None and stays:
        kept.keep(stage)
    return code


def _raise_curtain(rig: Rig, screen: Screen, nodes: int, scale: float) -> Scene:
    with screen.act("A control plane of plain processes"):
        rig.up()
        screen.line(f"{len(rig.pids())} processes, API server at {rig.url}")
    admin = rig.client(users.PLATFORM_ADMIN)
    return scene.Scene(
        rig=rig,
        screen=screen,
        size=nodes,
        scale=scale,
        admin=admin,
        board=Board(admin, title="GPUs by tenant, as its TenantQuota says"),
        trail=Trail(rig.audit_log),
        operator=product.OperatorProcess(rig),
    )


def _play(stage: Scene) -> None:
    with stage.screen.act("A hall in Munich, and machines outside the EU"):
        scene.build_halls(stage)
    with stage.screen.act("helm install, examples/industrial-ai-cloud, operator"):
        product.install(stage.rig)
        scene.found_cloud(stage)
        stage.operator.start()
        scene.wait_marked(stage)
    _lend(stage)
    _drift(stage)
    _break(stage)
    with stage.screen.act("A policy is narrowed by mistake, under all running pods"):
        narrowed.narrow(stage)
    _make_room(stage)
    with stage.screen.act("The operator is stopped"):
        gap = outage.begin(stage)
        outage.live_on(stage, gap)
        outage.kinds_are_readable(stage)
    _cheat(stage, "The same again while no operator runs", again=True)
    _drain(stage, gap)
    with stage.screen.act("What happened, counted from the API server and its audit log"):
        verdict.deliver(stage, gap)


def _lend(stage: Scene) -> None:
    screen = stage.screen
    with screen.act("Three companies ask for more than they have; what the fourth leaves is lent"):
        lending.lend(stage)
        _show_table(stage)
    with screen.act("The fourth wakes up, and asks for what it is guaranteed"):
        lending.ask_back(stage)
    with screen.act("Pods of borrowers end, and the guarantee comes back"):
        lending.give_back(stage)
        _show_table(stage)
        verdict.filled(stage)


def _show_table(stage: Scene) -> None:
    # In a terminal it stands there already.
    if not stage.screen.console.is_terminal:
        stage.screen.show(stage.board.draw()[0])


def _drift(stage: Scene) -> None:
    with stage.screen.act("A node turns out to stand abroad, under running pods"):
        move = drift.move_abroad(stage)
        drift.announce(stage, move)
    _cheat(stage, "Cheating, while the notices run")
    with stage.screen.act("The notices are over"):
        drift.see_evicted(stage, move)
        drift.bring_home(stage, move)


def _break(stage: Scene) -> None:
    screen = stage.screen
    with screen.act("Machines fail, under running pods"):
        broken = faults.strike(stage)
        faults.make_room(stage, broken)
    with screen.act("What people see when they ask"):
        commands.show(stage)
    with screen.act("The machines are well again"):
        faults.recover(stage, broken)


def _make_room(stage: Scene) -> None:
    with stage.screen.act("Some pods end, the next ones start"):
        tenant = stage.tenants[0]
        pods = [each for each in stage.pods() if each.namespace in tenant.namespaces]
        waiting = sum(each.gated and each.owner == "Job" for each in pods)
        running = [each for each in pods if each.running and each.owner == "Job"]
        ending = running[: min(ENDING, waiting)]
        wanted = crowd.bindings(stage) + len(ending)
        first = len(stage.trail.steps)
        crowd.end_some(stage, tenant, ending)
        crowd.follow_bound(stage, wanted)
        after = facts.handover(stage.trail.steps[first:], {each.key for each in ending})
        stage.screen.line(
            f"{len(ending)} pods of {tenant.name} ended, and as many that waited took their "
            f"places, the last of them {after:.1f} s after the last end"
        )
        verdict.everybody_knows_why(stage)


def _cheat(stage: Scene, title: str, *, again: bool = False) -> None:
    with stage.screen.act(title):
        own = stage.tenants[0].namespaces
        pods = [each for each in stage.pods() if each.namespace in own]
        who = cheats.gather(
            stage,
            waiting=one([each for each in pods if each.gated], "waiting pod to cheat with"),
            running=one([each for each in pods if each.running and not each.notice], "running pod"),
        )
        tried = cheats.catalogue(who)
        refused = 0
        for cheat in tried:
            answer = cheat.act()
            found = f"{answer.status} {cheat.rule}: {cheats.short(cheat, answer)}"
            held = cheats.refused(cheat, answer)
            refused += stage.screen.expect(cheat.what, held, found, quiet=again)
        stage.screen.line(f"{refused} of {len(tried)} refused, each by the rule meant for it")
        left = [each for each in stage.pods() if each.name.startswith(cheats.PREFIX)]
        stage.screen.expect("no pod of a cheater exists", not left)


def _drain(stage: Scene, gap: Outage) -> None:
    with stage.screen.act("The operator starts again, and the queue drains"):
        wanted = crowd.bindings(stage) + len(gap.owed)
        began = time.monotonic()
        gap.ended = time.time()
        stage.operator.start()
        ready = time.monotonic() - began
        stage.screen.record.span("outage", "no operator", gap.began)
        crowd.follow_bound(stage, wanted)
        stage.screen.line(
            f"ready after {ready:.1f} s; {len(gap.owed)} pods that were owed a place are bound "
            f"{time.monotonic() - began:.1f} s after the start"
        )
        verdict.drained(stage)


def _last_words(rig: Rig, screen: Screen) -> None:
    """Show how the operator's log ends: it goes with the rig."""
    log = rig.logs / "operator.log"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    for line in lines[-_LAST_LINES:]:
        screen.line(f"operator: {line}", "dim")


def _clear(rig: Rig, stage: Scene | None) -> None:
    if stage is not None:
        # It may have ended long ago, by plan or not.
        stage.operator.__exit__()
    rig.destroy()


def _close(screen: Screen, seconds: float, page: Path) -> int:
    screen.line("")
    record = screen.record
    for act in record.acts:
        screen.line(f"{act.seconds:6.1f} s  {act.title}", "dim")
    total = f"{seconds:.0f} s in all; {record.held} expectations held"
    screen.line(f"{total}, {len(record.failed)} failed", "bold")
    for failed in record.failed:
        screen.line(f"FAILED: {failed}", "bold red")
    screen.line(f"with charts, in a browser: {page.as_uri()}")
    return 1 if record.failed else 0
