"""The kopf side: an explicit registry with one thin handler per kind.

`on.event` handlers leave no finalizers and no annotations on users' objects, so GitOps sees no
drift and nothing is undeletable when the operator is gone. What they give up is retries, so a
handler only translates; acting and retrying is the loop's job. kopf loses deletions that happen
while its watch is broken; `resync` lists the few objects every minute and closes that gap.

kopf runs in a thread with an event loop of its own: it takes over the signals of the main thread
and, when it ends, cancels every task of its loop – also writes in flight, if they were there.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import kopf

from sovereign_gpu import names
from sovereign_gpu.cluster.errors import ClusterError
from sovereign_gpu.cluster.session import Api, Credentials
from sovereign_gpu.controller.records import Kind
from sovereign_gpu.controller.registry import Registry

log = logging.getLogger(__name__)

PLURALS: dict[Kind, str] = {
    "GpuPool": "gpupools",
    "TenantQuota": "tenantquotas",
    "DataResidencyPolicy": "dataresidencypolicies",
}
_RESYNC_EVERY = 60.0


Feed = Callable[[Kind, Any, bool], None]
"""Takes kind, body, and whether the object is gone."""


def build(feed: Feed, credentials: Credentials) -> kopf.OperatorRegistry:
    """Return kopf's registry: a login and one handler per kind."""
    served = kopf.OperatorRegistry()

    @kopf.on.login(registry=served)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        # The same way in as our own requests; kopf asks again when the server answers 401.
        return kopf.ConnectionInfo(
            server=credentials.server,
            ca_path=credentials.ca_file,
            ca_data=credentials.ca_data.encode() if credentials.ca_data else None,
            certificate_path=credentials.client_cert_file,
            certificate_data=credentials.client_cert_data,
            private_key_path=credentials.client_key_file,
            private_key_data=credentials.client_key_data,
            scheme="Bearer" if credentials.bearer() else None,
            token=credentials.bearer(),
        )

    for kind, plural in PLURALS.items():
        _serve(served, feed, kind, plural)
    return served


def _serve(served: kopf.OperatorRegistry, feed: Feed, kind: Kind, plural: str) -> None:
    @kopf.on.event(names.GROUP, names.VERSION, plural, registry=served, id=f"read-{plural}")
    async def changed(event: kopf.RawEvent, **_: Any) -> None:
        feed(kind, event["object"], event["type"] == "DELETED")


async def serve(registry: Registry, credentials: Credentials, read: asyncio.Event) -> None:
    """Run kopf in its thread until cancelled; returns or raises when kopf ends by itself.

    It starts once the custom resources were `read`: kopf looks for its kinds at start only, and
    would never serve those whose definitions are applied later.
    """
    await read.wait()
    loop = asyncio.get_running_loop()
    stop = threading.Event()
    ended: asyncio.Future[None] = loop.create_future()

    def feed(kind: Kind, body: Any, gone: bool) -> None:  # noqa: FBT001 – one caller
        loop.call_soon_threadsafe(registry.remove if gone else registry.put, kind, body)

    def work() -> None:
        failure: BaseException | None = None
        try:
            asyncio.run(
                kopf.operator(
                    registry=build(feed, credentials),
                    settings=settings(),
                    clusterwide=True,
                    standalone=True,
                    stop_flag=stop,
                )
            )
        except BaseException as error:  # noqa: BLE001 – carried to the main thread
            failure = error
        loop.call_soon_threadsafe(_conclude, ended, failure)

    thread = threading.Thread(target=work, name="kopf", daemon=True)
    thread.start()
    try:
        await asyncio.shield(ended)
    finally:
        stop.set()


def _conclude(ended: asyncio.Future[None], failure: BaseException | None) -> None:
    if ended.cancelled():
        return
    if failure is None:
        ended.set_result(None)
    else:
        ended.set_exception(failure)


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings for three small kinds: no scanning, no events, no annotations."""
    wanted = kopf.OperatorSettings()
    prefix = names.GROUP
    wanted.scanning.disabled = True
    wanted.posting.enabled = False
    wanted.peering.standalone = True
    wanted.watching.server_timeout = 290
    wanted.watching.client_timeout = 300
    wanted.watching.connect_timeout = 10
    wanted.networking.request_timeout = 30
    wanted.networking.connect_timeout = 5
    # kopf ends the process when these run out; a day of errors is not a reason to stop.
    wanted.networking.error_backoffs = [1, 2, 3, 5, 8, 13, 21, *([30] * 2880)]
    wanted.process.ultimate_exiting_timeout = 10
    wanted.persistence.finalizer = f"{prefix}/finalizer"
    wanted.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=prefix)
    wanted.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=prefix)
    return wanted


async def read_all(api: Api, registry: Registry) -> None:
    """List all three kinds once and make the registry agree with the lists.

    Raises:
        ClusterError: a list failed.
    """
    for kind, plural in PLURALS.items():
        found = await api.get(f"/apis/{names.GROUP}/{names.VERSION}/{plural}")
        registry.replace(kind, found["items"], found["metadata"]["resourceVersion"])


async def read_surely(api: Api, registry: Registry) -> None:
    """Make the registry agree with lists that begin now, however often that has to be tried."""
    while True:
        try:
            await read_all(api, registry)
        except ClusterError as error:
            log.warning("listing the custom resources: %s", error)
            await asyncio.sleep(1.0)
        else:
            return


async def resync(api: Api, registry: Registry, read: asyncio.Event) -> None:
    """List the custom resources now and every minute; sets `read` after the first time."""
    while True:
        try:
            await read_all(api, registry)
            read.set()
        except ClusterError as error:
            log.warning("listing the custom resources: %s", error)
            if not read.is_set():
                await asyncio.sleep(1.0)
                continue
        await asyncio.sleep(_RESYNC_EVERY)
