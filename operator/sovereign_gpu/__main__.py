"""`sovereign-gpu`: runs the operator."""

from __future__ import annotations

import sys

import uvloop

from sovereign_gpu import app, settings
from sovereign_gpu.cluster.errors import ConfigurationError
from sovereign_gpu.telemetry import logs


def main() -> int:
    """Run until told to stop; 2 for settings that cannot work."""
    try:
        wanted = settings.read(sys.argv[1:])
        logs.configure(wanted.log_level)
        return uvloop.run(app.run(wanted))
    except ConfigurationError as error:
        sys.stderr.write(f"sovereign-gpu: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
