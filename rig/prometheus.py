"""Settings of a real Prometheus, made from the objects that its operator would read."""

from __future__ import annotations

import re
from typing import Any


def scrape_config(monitor: dict[str, Any]) -> dict[str, Any]:
    """Return the scrape job that the Prometheus operator makes of a ServiceMonitor.

    Only what our chart uses of the kind is known: one endpoint, names of namespaces, labels.
    """
    spec = monitor["spec"]
    (endpoint,) = spec["endpoints"]
    wanted = {
        **{
            f"__meta_kubernetes_service_label_{re.sub('[^A-Za-z0-9_]', '_', key)}": value
            for key, value in spec["selector"]["matchLabels"].items()
        },
        "__meta_kubernetes_endpoint_port_name": endpoint["port"],
    }
    return {
        "job_name": f"{monitor['metadata']['namespace']}/{monitor['metadata']['name']}",
        "honor_labels": endpoint.get("honorLabels", False),
        "scrape_interval": endpoint["interval"],
        "scrape_timeout": endpoint["scrapeTimeout"],
        "metrics_path": endpoint["path"],
        "kubernetes_sd_configs": [
            {"role": "endpoints", "namespaces": {"names": spec["namespaceSelector"]["matchNames"]}}
        ],
        "relabel_configs": [
            {"action": "keep", "source_labels": [label], "regex": re.escape(value)}
            for label, value in wanted.items()
        ]
        + [
            {"source_labels": [f"__meta_kubernetes_{source}"], "target_label": target}
            for source, target in (
                ("namespace", "namespace"),
                ("service_name", "service"),
                ("pod_name", "pod"),
            )
        ],
    }


def value(answer: dict[str, Any]) -> float:
    """Return the one number that a query was answered with.

    Raises:
        ValueError: it was answered with none, or with several.
    """
    (sample,) = answer["data"]["result"]
    return float(sample["value"][1])
