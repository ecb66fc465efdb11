"""The page about a run: its curves are those of the audit log, and it needs nothing but itself."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from rig import users
from rig.demo import charts, facts, samples, summary
from rig.demo.manifests import Tenant
from rig.demo.pods import Pod
from rig.demo.record import Act, Finding, Record, Span
from rig.demo.trail import OPERATOR, Step

if TYPE_CHECKING:
    from pathlib import Path

TENANT_OF = {"acme": "acme", "bolt": "bolt"}
LIFT = [{"op": "remove", "path": "/spec/schedulingGates/0"}]
DONE = {"status": {"phase": "Succeeded"}}
VOID = {"meta"}


def pod(tenant: str, name: str, gpus: int = 8) -> Pod:
    return Pod(tenant, name, name, 0.0, "", "Running", False, gpus, "Job", "")  # noqa: FBT003


def step(at: float, what: str, tenant: str, name: str, user: str = OPERATOR) -> Step:
    body = LIFT if what == facts.RELEASE else DONE if user == users.KWOK else None
    return Step(at, at, user, what, (tenant, name), body)


PODS = [pod("acme", "a"), pod("bolt", "b", 2), pod("bolt", "c", 2), pod("bolt", "loads", 0)]
STEPS = [
    step(1, facts.CREATE, "acme", "a", "tenant-acme"),
    step(1.5, facts.CREATE, "bolt", "b", "tenant-bolt"),
    step(2, facts.RELEASE, "acme", "a"),
    step(2.5, facts.CREATE, "bolt", "c", "tenant-bolt"),
    step(2.7, facts.RELEASE, "bolt", "b"),
    step(9, facts.NOTICE, "acme", "a", users.KWOK),
    step(3, facts.CREATE, "bolt", "loads", "tenant-bolt"),
]


def taken() -> samples.Samples:
    return samples.take(STEPS, PODS, TENANT_OF)


def record() -> Record:
    acts = [Act("Begin & <b>", 0, 4), Act("End", 4, 10)]
    findings = [
        Finding("Begin & <b>", "all is well", "8 < 9", holds=True, at=3),
        Finding("End", "nobody is abroad", "1 pod is", holds=False, at=9),
        Finding("", "the story is told to its end", "no answer", holds=False, at=10),
    ]
    spans = [Span("drift", "node-1 in us-east-1", 2, 5), Span("faults", "8 GPUs lost", 6, 8)]
    return Record(began=0, acts=acts, findings=findings, spans=spans)


class Reader(HTMLParser):
    """Keeps text and tags, and complains of a tag that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def drawn(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - made here


def test_curves_follow_releases_and_ends() -> None:
    found = taken()
    assert found.held == {"acme": [(2, 8), (9, 0)], "bolt": [(2.7, 2)]}
    assert found.waiting == [(1, 1), (1.5, 2), (2, 1), (2.5, 2), (2.7, 1)]
    assert found.releases == {2: 2}


def test_a_page_shows_charts_and_every_expectation() -> None:
    tenants = [Tenant("acme", ("acme",), 6, 4), Tenant("bolt", ("bolt",), 10)]
    read = Reader(summary.page(record(), tenants, taken()))
    assert read.tags.count("svg") == 1 + len(tenants) + 2
    for said in (
        "2 expectations failed",
        "1 Begin & <b>",
        "all is well",
        "8 < 9",
        "nobody is abroad",
        "the story is told to its end: no answer",
        "node-1 in us-east-1",
        "8 GPUs lost",
        "guaranteed 6",
        "with all it may borrow 10",
    ):
        assert said in read.words
    good = Record(began=0, acts=record().acts, findings=record().findings[:1])
    assert "all 1 expectations held" in Reader(summary.page(good, tenants, taken())).words


def test_a_page_needs_no_script_and_no_network() -> None:
    page = summary.page(record(), [Tenant("acme", ("acme",), 6, 4)], taken())
    read = Reader(page)
    assert not {"script", "link", "img", "iframe", "object", "use"} & set(read.tags)
    assert not {"src", "href", "onclick", "onload"} & set(read.attributes)
    assert "://" not in page
    assert "url(" not in page


def test_what_is_borrowed_has_a_colour_of_its_own() -> None:
    axis = charts.Axis(0, 10)
    root = drawn(charts.tenant(axis, [(2, 8), (9, 0)], 6, 10))
    areas = {path.get("fill"): path.get("d", "") for path in root.iter("path")}
    top = {colour: min(heights(d)) for colour, d in areas.items()}
    assert top[charts.BORROWED] < top[charts.OWN]
    within = drawn(charts.tenant(axis, [(2, 6)], 6, 10))
    tops = [min(heights(path.get("d", ""))) for path in within.iter("path")]
    assert tops[0] == tops[1]


def heights(path: str) -> list[float]:
    return [
        float(point.split(",")[1].rstrip("Z")) for point in path.replace("M", "L").split("L")[1:]
    ]


def test_a_curve_keeps_each_value_until_the_next() -> None:
    axis = charts.Axis(0, 10)
    root = drawn(charts.waiting(axis, [(5, 4), (10, 2)]))
    path = next(root.iter("path")).get("d", "")
    xs = [float(point.split(",")[0]) for point in path.replace("M", "L").split("L")[1:]]
    assert xs.count(round(axis.x(5), 1)) == 2
    assert xs.count(round(axis.x(10), 1)) == 4


@pytest.mark.parametrize("found", [samples.Samples(), None])
def test_a_story_that_broke_off_has_a_page_too(
    tmp_path: Path, found: samples.Samples | None
) -> None:
    path = tmp_path / "new" / "page.html"
    if found is None:
        summary.write(path, record(), None)
    else:
        path.parent.mkdir()
        path.write_text(summary.page(Record(began=0), [], found))
    assert "Releases per second" in Reader(path.read_text()).words


@pytest.mark.parametrize("length", [1, 38, 75, 180, 3600])
def test_the_axis_has_some_marks_and_not_too_many(length: int) -> None:
    marks = charts.Axis(100, 100 + length).marks()
    assert 1 <= len(marks) <= 13
    assert marks[0][1] == "0 s"
