"""`sovereign-gpu guard`: keeps the admission policies as the chart installed them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Sequence

import uvloop

from sovereign_gpu import __version__, settings
from sovereign_gpu.admission.settings import Settings as Admission
from sovereign_gpu.cluster.errors import ConfigurationError
from sovereign_gpu.cluster.session import Api, load_credentials
from sovereign_gpu.controller.guards import guards
from sovereign_gpu.controller.repairs import Repairs, described
from sovereign_gpu.telemetry import logs

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Run until told to stop; 2 for settings that cannot work."""
    try:
        wanted = settings.read(arguments)
        logs.configure(wanted.log_level)
        return uvloop.run(_run(wanted, _told(wanted)))
    except ConfigurationError as error:
        sys.stderr.write(f"sovereign-gpu: {error}\n")
        return 2


def _told(wanted: settings.Settings) -> Admission:
    if wanted.admission is None:
        raise ConfigurationError("--admission: found nothing, allowed what the chart writes")
    return wanted.admission


async def _run(wanted: settings.Settings, admission: Admission) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    api = Api(load_credentials(wanted.kubeconfig), user_agent=f"sovereign-gpu-guard/{__version__}")
    async with contextlib.AsyncExitStack() as open_ones:
        open_ones.push_async_callback(api.close)
        repairs = Repairs(api, guards(api, admission, None, asyncio.Event()), admission)
        log.info("keeping %s", described(admission))
        keeping = asyncio.create_task(repairs.run())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((keeping, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopped = stop.is_set()
        for task in (keeping, stopping):
            task.cancel()
        await asyncio.gather(keeping, stopping, return_exceptions=True)
    return 0 if stopped else 1
