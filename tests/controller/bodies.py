"""Custom resources as the API server sends them."""

from __future__ import annotations

from typing import Any

from sovereign_gpu import names

API = f"{names.GROUP}/{names.VERSION}"


def body(kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    meta = {"name": name, "uid": f"uid-{name}", "resourceVersion": "1", "generation": 1}
    return {"apiVersion": API, "kind": kind, "metadata": {**meta, **metadata}, "spec": spec}


def policy(name: str = "eu-only", **metadata: Any) -> dict[str, Any]:
    return body("DataResidencyPolicy", name, {"countries": {"sets": ["EU"]}}, **metadata)


def quota(name: str, *namespaces: str, **metadata: Any) -> dict[str, Any]:
    spec = {
        "namespaces": list(namespaces),
        "residencyPolicies": ["eu-only"],
        "pools": [{"name": "munich", "guaranteed": 8}],
    }
    return body("TenantQuota", name, spec, **metadata)


def pool(name: str = "munich", **metadata: Any) -> dict[str, Any]:
    return body("GpuPool", name, {"location": {"country": "DE", "region": "eu-de-muc"}}, **metadata)
