"""Every alert fires when it must and is silent when it must be, by the word of promtool."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from rig import debian

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "charts" / "sovereign-gpu" / "rules" / "alerts.yaml"
RUNBOOKS = ROOT / "docs" / "how-to" / "answer-an-alert.md"

ALERTS: dict[str, dict[str, Any]] = {
    each["alert"]: each for each in yaml.safe_load(RULES.read_text("utf-8"))["groups"][0]["rules"]
}
"""What each is called."""

POD = 'pod="a"'
CASES: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str], str]] = {
    # series that fire, series that do not, labels of the alert, when it is looked at
    "SovereignGpuNoLeader": (
        {f"sovereign_gpu_leader{{{POD}}}": "0x60"},
        {f"sovereign_gpu_leader{{{POD}}}": "1x60"},
        {},
        "5m",
    ),
    "SovereignGpuTwoLeaders": (
        {'sovereign_gpu_leader{pod="a"}': "1x60", 'sovereign_gpu_leader{pod="b"}': "1x60"},
        {'sovereign_gpu_leader{pod="a"}': "1x60", 'sovereign_gpu_leader{pod="b"}': "0x60"},
        {},
        "5m",
    ),
    "SovereignGpuBooksDiffer": (
        {f'sovereign_gpu_self_audit_difference{{name="gpus",{POD}}}': "3x60"},
        {f'sovereign_gpu_self_audit_difference{{name="gpus",{POD}}}': "0x60"},
        {"name": "gpus"},
        "1m",
    ),
    "SovereignGpuBooksNotCompared": (
        {"sovereign_gpu_self_audit_success_timestamp_seconds": "60x60"},
        {"sovereign_gpu_self_audit_success_timestamp_seconds": "0+60x60"},
        {},
        "40m",
    ),
    "SovereignGpuGuardFault": (
        {'sovereign_gpu_guard_faults{kind="K",name="n",fault="Missing"}': "1x60"},
        {"sovereign_gpu_guards_watched": "40x60"},
        {"kind": "K", "object": "n", "fault": "Missing"},
        "1m",
    ),
    "SovereignGpuMarksMoved": (
        {'sovereign_gpu_marks_moved_total{kind="Node"}': "0 0 1x60"},
        {'sovereign_gpu_marks_moved_total{kind="Node"}': "4x60"},
        {"kind": "Node"},
        "4m",
    ),
    "SovereignGpuResidencyViolation": (
        {'sovereign_gpu_residency_violations{policy="eu"}': "2x60"},
        {'sovereign_gpu_residency_violations{policy="eu"}': "0x60"},
        {"policy": "eu"},
        "1m",
    ),
    "SovereignGpuStaticPods": (
        {'sovereign_gpu_pool_static_pods{pool="muc"}': "1x60"},
        {'sovereign_gpu_pool_static_pods{pool="muc"}': "0x60"},
        {"pool": "muc"},
        "1m",
    ),
    "SovereignGpuUnreadableObjects": (
        {'sovereign_gpu_watch_unreadable{name="pods"}': "1x60"},
        {'sovereign_gpu_watch_unreadable{name="pods"}': "0x60"},
        {"name": "pods"},
        "5m",
    ),
    "SovereignGpuWatchSilent": (
        {'sovereign_gpu_watch_last_contact_seconds{name="pods"}': "0+60x60"},
        {'sovereign_gpu_watch_last_contact_seconds{name="pods"}': "60x60"},
        {"name": "pods"},
        "10m",
    ),
    "SovereignGpuReleasesRefused": (
        {'sovereign_gpu_refused_releases_total{tenant="t"}': "0+60x60"},
        {'sovereign_gpu_refused_releases_total{tenant="t"}': "0+1x60"},
        {"tenant": "t"},
        "30m",
    ),
    "SovereignGpuGpusLost": (
        {
            'sovereign_gpu_pool_lost_gpus{pool="muc"}': "16x60",
            'sovereign_gpu_pool_capacity_gpus{pool="muc"}': "160x60",
        },
        {
            'sovereign_gpu_pool_lost_gpus{pool="muc"}': "4x60",
            'sovereign_gpu_pool_capacity_gpus{pool="muc"}': "160x60",
        },
        {"pool": "muc"},
        "30m",
    ),
}


@pytest.fixture(scope="session")
def promtool() -> Path:
    return debian.unpacked("prometheus", print) / "usr" / "bin" / "promtool"


def _run(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *words], capture_output=True, text=True, check=False)  # noqa: S603


def test_every_alert_has_a_case_and_a_runbook() -> None:
    assert CASES.keys() == ALERTS.keys()
    headings = set(re.findall(r"^## (\w+)$", RUNBOOKS.read_text("utf-8"), re.MULTILINE))
    assert headings == ALERTS.keys()
    for alert in ALERTS.values():
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert {"summary", "description"} == alert["annotations"].keys()


def test_the_rules_are_rules(promtool: Path) -> None:
    done = _run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", sorted(ALERTS))
@pytest.mark.parametrize("fires", [True, False], ids=["fires", "is silent"])
def test_an_alert(promtool: Path, tmp_path: Path, alert: str, *, fires: bool) -> None:
    firing, silent, labels, when = CASES[alert]
    states = {"alertname": alert, "alertstate": "firing", **labels, **ALERTS[alert]["labels"]}
    named = ",".join(f'{key}="{value}"' for key, value in states.items())
    series = firing if fires else silent
    query = {
        "expr": f'ALERTS{{alertname="{alert}",alertstate="firing"}}',
        "eval_time": when,
        "exp_samples": [{"labels": f"ALERTS{{{named}}}", "value": 1}] if fires else [],
    }
    test = {
        "rule_files": [str(RULES)],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": k, "values": v} for k, v in series.items()],
                "promql_expr_test": [query],
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(test), "utf-8")
    done = _run(promtool, "test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
