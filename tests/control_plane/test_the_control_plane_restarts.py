"""The whole control plane goes away and comes back; the operator stays and finds its way.

On a control plane of its own: an API server that has just started refuses everybody for a moment,
which no other test should have to excuse.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

import pytest

from rig import product
from rig.control_plane import Rig
from rig.nodes import create_nodes
from rig.users import PLATFORM_ADMIN
from tests.control_plane.cluster import NOWHERE, Cluster, pod
from tests.control_plane.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONG_LEASE = 120
"""Seconds; the lease outlasts the outage, so that it is the watches that are tested."""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A control plane with the chart; pods are bound there and run nowhere."""
    profile = os.environ.get("SOVEREIGN_GPU_PROFILE", "1.36")
    with Rig("restart", root=tmp_path / "rig", profile=profile, kwok=False) as made:
        product.install(made)
        yield made


def test_a_restart_of_the_control_plane_ends_nothing(rig: Rig, tmp_path: Path) -> None:
    nodes = create_nodes(rig, 1, region=NOWHERE)
    operator = Process(rig, tmp_path / "operator.log", LONG_LEASE)
    with operator:
        pid = operator.pid
        site = Cluster(rig, rig.client(PLATFORM_ADMIN), operator, deque(nodes)).site()
        pool, policy = site.pool(), site.policy()
        tenant = site.tenant("acme", {pool: 2}, [policy])
        site.submit(tenant, pod("before"))
        site.bound(tenant, "before")
        rig.down()
        rig.up()

        # Pods and nodes are watched by us, custom resources by kopf; both have to come back.
        site.submit(tenant, pod("after"))
        site.bound(tenant, "after", 60)
        site.submit(tenant, pod("later"))
        site.quota(tenant.name, [tenant.namespace], {pool: 4}, [policy])
        site.bound(tenant, "later", 45)
        assert operator.pid == pid
        assert operator.page("readyz") == (200, "ok")
    assert not operator.said('"exception"')
