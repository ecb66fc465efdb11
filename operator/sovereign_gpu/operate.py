"""`sovereign-gpu operator`: reads the settings and runs the operator."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import uvloop

from sovereign_gpu import app, settings
from sovereign_gpu.cluster.errors import ConfigurationError
from sovereign_gpu.telemetry import logs


def main(arguments: Sequence[str]) -> int:
    """Run until told to stop; 2 for settings that cannot work."""
    try:
        wanted = settings.read(arguments)
        logs.configure(wanted.log_level)
        return uvloop.run(app.run(wanted))
    except ConfigurationError as error:
        sys.stderr.write(f"sovereign-gpu: {error}\n")
        return 2
