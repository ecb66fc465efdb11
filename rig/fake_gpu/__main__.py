"""The command `python -m rig.fake_gpu`: one part of the stack, on one node, until told to end."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rig.fake_gpu import http, names
from rig.fake_gpu.api import Api
from rig.fake_gpu.control import scenarios
from rig.fake_gpu.device_plugin import NodePlugin
from rig.fake_gpu.exporter import Exporter
from rig.fake_gpu.labeller import Labeller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

    from rig.fake_gpu.scenario import Scenario

PORTS: Final = {"device-plugin": 9401, "labeller": 9402, "exporter": 9400}
HELP: Final = {
    "device-plugin": "offer GPUs to the kubelet of this node",
    "labeller": "write the labels of this node",
    "exporter": "serve metrics of this node, as dcgm-exporter does",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one part; return the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout
    )
    asyncio.run(_until_signalled(_run(options)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rig.fake_gpu", description=__doc__)
    parts = parser.add_subparsers(required=True, dest="part", metavar="part")
    for name, port in PORTS.items():
        part = parts.add_parser(name, help=HELP[name], description=HELP[name])
        node = os.environ.get("NODE_NAME")
        part.add_argument("--node", default=node, required=node is None, help="name of the node")
        namespace = os.environ.get("POD_NAMESPACE", names.CONFIG_MAP)
        part.add_argument("--namespace", default=namespace, help="of the ConfigMap")
        part.add_argument("--config-map", default=names.CONFIG_MAP, help="what nodes have")
        part.add_argument("--kubeconfig", type=Path, help="with a token, outside of a cluster")
        part.add_argument("--host", default="", help="address to listen on; all when omitted")
        part.add_argument("--port", type=int, default=port, help=f"default {port}")
        if name == "device-plugin":
            part.add_argument("--directory", type=Path, default=names.PLUGIN_DIRECTORY)
            part.add_argument("--cdi-directory", type=Path, default=names.CDI_DIRECTORY)
        if name == "exporter":
            part.add_argument("--pod-resources", type=Path, default=names.POD_RESOURCES)
    return parser


async def _run(options: argparse.Namespace) -> None:
    path: Path | None = options.kubeconfig
    api = Api.from_kubeconfig(path) if path else Api.in_cluster()
    async with api:
        follow = scenarios(api, options.namespace, options.config_map, options.node)
        parts = {"device-plugin": _plugin, "labeller": _labeller, "exporter": _exporter}
        await parts[options.part](options, api, follow)


async def _plugin(options: argparse.Namespace, api: Api, follow: AsyncIterator[Scenario]) -> None:
    del api
    plugin = NodePlugin(options.node, options.directory, options.cdi_directory)
    paths = {
        "/healthz": http.probe(lambda: plugin.alive),
        "/readyz": http.probe(lambda: plugin.ready),
    }
    async with http.serve(options.host, options.port, paths):
        await plugin.run(follow)


async def _labeller(options: argparse.Namespace, api: Api, follow: AsyncIterator[Scenario]) -> None:
    labeller = Labeller(api, options.node, int(time.time()))
    paths = {"/healthz": http.probe(lambda: True), "/readyz": http.probe(lambda: labeller.ready)}
    async with http.serve(options.host, options.port, paths):
        await labeller.run(follow)


async def _exporter(options: argparse.Namespace, api: Api, follow: AsyncIterator[Scenario]) -> None:
    exporter = Exporter(api, options.node, options.pod_resources)
    paths = {
        "/healthz": http.probe(lambda: True),
        "/readyz": http.probe(lambda: exporter.ready),
        "/metrics": http.page(exporter.scrape),
    }
    async with http.serve(options.host, options.port, paths):
        await exporter.run(follow)


async def _until_signalled(work: Coroutine[None, None, None]) -> None:
    """Run until done or told to end; the work's own clean-up is waited for."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        logging.getLogger(__name__).info("ended")


if __name__ == "__main__":
    sys.exit(main())
