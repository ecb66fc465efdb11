"""One HTML file that tells a run to whoever was not there: charts, and every expectation.

It holds all it shows, runs no script and asks no network.
"""

from __future__ import annotations

import time
from html import escape
from typing import TYPE_CHECKING

from rig.demo import charts, samples
from rig.errors import RigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rig.demo.manifests import Tenant
    from rig.demo.record import Record
    from rig.demo.samples import Samples
    from rig.demo.scene import Scene

_STYLE = """\
body{font:15px/1.5 system-ui,sans-serif;color:#1f2430;max-width:1140px;margin:24px auto;
padding:0 16px}
h1{font-size:24px;margin:0}h2{font-size:17px;margin:28px 0 4px}h3{font-size:15px;margin:18px 0 2px}
svg{width:100%;height:auto;display:block;font-size:11px}p{margin:2px 0 8px;color:#4b5563}
table{border-collapse:collapse;width:100%}td{border-top:1px solid #e5e7eb;padding:4px 8px 4px 0;
vertical-align:top}td:first-child{width:20px}.good{color:#15803d}.bad{color:#dc2626;font-weight:600}
.found{color:#4b5563}b.own{color:#2f6fde}b.borrowed{color:#d97706}
"""
_SOURCE = "All curves are counted from the audit log of the API server."
_COLOURS = "<b class='own'>within its guarantee</b> and <b class='borrowed'>borrowed</b>"


def write(path: Path, record: Record, stage: Scene | None) -> None:
    """Write the page of a run.

    Args:
        path: the file.
        record: what happened.
        stage: where to count from; None if the story did not come so far.
    """
    found, tenants = samples.Samples(), []
    if stage is not None:
        found, tenants = _counted(stage), stage.tenants
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(record, tenants, found), encoding="utf-8")


def _counted(stage: Scene) -> Samples:
    tenant_of = {name: each.name for each in stage.tenants for name in each.namespaces}
    try:
        pods = [*stage.pods(), *stage.departed]
    except RigError:
        # Of a story that broke off because the API server went away the steps are still worth it.
        return samples.Samples()
    stage.trail.read()
    return samples.take(stage.trail.steps, pods, tenant_of)


def page(record: Record, tenants: Sequence[Tenant], found: Samples) -> str:
    """Return the page."""
    ended = max((act.ended for act in record.acts), default=record.began)
    axis = charts.Axis(record.began, ended)
    verdict = (
        f"<b class='bad'>{len(record.failed)} expectations failed</b>, {record.held} held"
        if record.failed
        else f"<b class='good'>all {record.held} expectations held</b>"
    )
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record.began))
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>sovereign-gpu: a demo</title><style>{_STYLE}</style></head><body>",
        "<h1>A GPU cloud for many companies</h1>",
        f"<p>{day}, {ended - record.began:.0f} s; {verdict}. {_SOURCE}</p>",
        charts.timeline(axis, record.acts, record.findings, record.spans),
        *_charts(axis, tenants, found),
        "<h2>Step by step</h2>",
        *_acts(record),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _charts(axis: charts.Axis, tenants: Sequence[Tenant], found: Samples) -> list[str]:
    parts = [
        "<h2>GPUs held by each company</h2>",
        f"<p>{_COLOURS}, from the release of a pod to its end.</p>",
    ]
    for each in tenants:
        parts.append(f"<h3>{escape(each.name)}</h3>")
        curve = found.held.get(each.name, [])
        parts.append(charts.tenant(axis, curve, each.guaranteed, each.allowance))
    parts += ["<h2>GPU pods that wait</h2>", charts.waiting(axis, found.waiting)]
    parts += ["<h2>Releases per second</h2>", charts.rate(axis, found.releases)]
    return parts


def _acts(record: Record) -> list[str]:
    parts = []
    for number, act in enumerate(record.acts, start=1):
        parts.append(f"<h3>{number} {escape(act.title)} <small>{act.seconds:.1f} s</small></h3>")
        rows = [
            f"<tr><td class='{'good' if each.holds else 'bad'}'>{'✔' if each.holds else '✘'}</td>"
            f"<td>{escape(each.what)} <span class='found'>{escape(each.found)}</span></td></tr>"
            for each in record.findings
            if each.act == act.title
        ]
        if rows:
            parts.append(f"<table>{''.join(rows)}</table>")
    loose = [each for each in record.findings if each.act not in {act.title for act in record.acts}]
    parts += [f"<p class='bad'>{escape(each.said)}</p>" for each in loose]
    return parts
