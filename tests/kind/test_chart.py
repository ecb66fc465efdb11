"""The chart on a real cluster: what the operator runs as, and an upgrade under load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rig.errors import RigError
from rig.product import CHART, NAME, NAMESPACE
from tests.kind.world import INTERPRETER, pod

if TYPE_CHECKING:
    from tests.kind.world import World

OPERATOR = ("exec", f"--namespace={NAMESPACE}", "deployment/sovereign-gpu", "--")


def test_the_operator_runs_as_nobody_without_a_shell_and_cannot_write(product: World) -> None:
    exec_ = product.cluster.kubectl
    assert exec_(*OPERATOR, INTERPRETER, "-c", "import os; print(os.getuid())").strip() == "65532"
    with pytest.raises(RigError, match="no such file"):
        exec_(*OPERATOR, "/bin/sh", "-c", "true")
    with pytest.raises(RigError, match="Read-only file system"):
        exec_(*OPERATOR, INTERPRETER, "-c", "open('/opt/app/mine', 'w')")


def test_an_upgrade_keeps_the_queue_and_every_count(world: World) -> None:
    tenant = world.tenant("acme", 8)
    tenant.submit(pod("first", gpus=8))
    first = tenant.running("first")
    tenant.submit(pod("second", gpus=8))
    tenant.told("second", "QuotaExhausted")

    revision = first["metadata"]["uid"]  # any value that no upgrade had before
    world.cluster.helm(
        *("upgrade", NAME, CHART, "--namespace", NAMESPACE, "--reuse-values", "--wait"),
        *("--timeout", "3m", "--set-string", f"podAnnotations.test={revision}"),
    )
    status = tenant.status(lambda found: found["total"]["pendingPods"] == 1)
    assert status["total"]["used"] == 8
    assert tenant.running("first")["metadata"]["uid"] == first["metadata"]["uid"]
    tenant.end("first")
    tenant.running("second")
    tenant.status(lambda found: (found["total"]["used"], found["total"]["pendingPods"]) == (8, 0))
