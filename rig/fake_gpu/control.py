"""Follows the ConfigMap and says what the node is now."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rig.fake_gpu import scenario
from rig.fake_gpu.scenario import Scenario, ScenarioError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rig.fake_gpu.api import Api

log = logging.getLogger(__name__)


async def scenarios(
    api: Api, namespace: str, config_map: str, node: str
) -> AsyncIterator[Scenario]:
    """Yield the scenario of a node, now and whenever it changes.

    A ConfigMap that cannot be read changes nothing: a slip of the pen must not take the GPUs of a
    whole cluster away. No ConfigMap at all is the default scenario.

    Args:
        api: the API server.
        namespace: of the ConfigMap.
        config_map: its name.
        node: name of the node.
    """
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    current: Scenario | None = None
    async for found in api.follow(path, f"metadata.name={config_map}"):
        data = next((each.get("data") or {} for each in found.values()), {})
        try:
            wanted = scenario.read(data, node)
        except ScenarioError as error:
            log.error("ConfigMap %s/%s ignored: %s", namespace, config_map, error)  # noqa: TRY400
            continue
        if wanted != current:
            log.info("scenario: %s", wanted.model_dump(exclude_defaults=True, by_alias=True))
            current = wanted
            yield wanted
