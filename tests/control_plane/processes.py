"""Operators of which a test can see the log, the pages and the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests

from rig.client import wait_for
from rig.errors import RigError
from rig.product import NAME, NAMESPACE, OperatorProcess

if TYPE_CHECKING:
    from pathlib import Path

    from rig.control_plane import Rig


LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/{NAME}"


class Process(OperatorProcess):
    """One process of the operator."""

    def __init__(self, rig: Rig, log: Path, lease: int) -> None:
        super().__init__(rig, arguments=("--lease-seconds", str(lease)), log=log)
        self.log = log

    def page(self, name: str) -> tuple[int, str]:
        """Return status and text of a page; 0 while nobody listens."""
        try:
            answer = requests.get(self._url(name), timeout=5)
        except requests.RequestException:
            return 0, ""
        return answer.status_code, answer.text.strip()

    def said(self, words: str) -> bool:
        """Whether the log holds these words."""
        return self.log.exists() and words in self.log.read_text()

    def runs(self) -> bool:
        """Whether the process is there."""
        try:
            return self.pid > 0
        except RigError:
            return False

    def ended(self, seconds: float = 30.0) -> int:
        """Wait until the process ends by itself; return its exit code."""
        wait_for(lambda: not self.runs(), seconds, "the operator to end")
        return self.terminate()
