"""Settings of a real Prometheus, made from the objects that its operator would read.

Debian builds Prometheus without discovery by Kubernetes. So what the Prometheus operator and that
discovery do with a ServiceMonitor is done here: find the services by namespace and labels, the
port by its name, the addresses by the endpoints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rig.client import Client


def scrape_config(admin: Client, monitor: dict[str, Any]) -> dict[str, Any]:
    """Return the scrape job of a ServiceMonitor, with the addresses that it finds now.

    Only what our chart uses of the kind is known: one endpoint, names of namespaces, labels.
    """
    spec, metadata = monitor["spec"], monitor["metadata"]
    (endpoint,) = spec["endpoints"]
    return {
        "job_name": f"{metadata['namespace']}/{metadata['name']}",
        "honor_labels": endpoint.get("honorLabels", False),
        "scrape_interval": endpoint["interval"],
        "scrape_timeout": endpoint["scrapeTimeout"],
        "metrics_path": endpoint["path"],
        "static_configs": [
            {"targets": [address], "labels": labels}
            for namespace in spec["namespaceSelector"]["matchNames"]
            for address, labels in _targets(admin, namespace, spec, endpoint["port"])
        ],
    }


def _targets(
    admin: Client, namespace: str, spec: dict[str, Any], port: str
) -> Iterator[tuple[str, dict[str, str]]]:
    selector = ",".join(f"{k}={v}" for k, v in spec["selector"]["matchLabels"].items())
    services = admin.items(f"/api/v1/namespaces/{namespace}/services", labelSelector=selector)
    for service in services:
        name = service["metadata"]["name"]
        slices = admin.items(
            f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
            labelSelector=f"kubernetes.io/service-name={name}",
        )
        for each in slices:
            numbers = [p["port"] for p in each["ports"] or () if p["name"] == port]
            for endpoint in each["endpoints"] or ():
                labels = {"namespace": namespace, "service": name}
                labels["pod"] = endpoint["targetRef"]["name"]
                for number in numbers:
                    yield f"{endpoint['addresses'][0]}:{number}", labels


def value(answer: dict[str, Any]) -> float:
    """Return the one number that a query was answered with.

    Raises:
        ValueError: it was answered with none, or with several.
    """
    (sample,) = answer["data"]["result"]
    return float(sample["value"][1])
