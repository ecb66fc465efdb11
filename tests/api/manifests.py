"""The examples that must be accepted and the manifests that must be refused.

One table for both judges: the models (tests/api) and the API server (tests/control_plane). A row
changes one valid example in one place, so that nothing else can be the reason for the refusal.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT = Path(__file__).parents[2]
EXAMPLES = {path.stem: path for path in sorted((ROOT / "examples" / "crds").glob("*.yaml"))}
ABSENT: Final = object()
"""Value of a field that the row takes away."""

POOL = "gpupool-all-fields"
TENANT = "tenantquota-all-fields"
POLICY = "dataresidencypolicy-all-fields"


@dataclass(frozen=True)
class Refused:
    """A valid example, broken in one place."""

    why: str
    example: str
    path: str
    value: Any
    says: str = ""
    """Words of the refusal besides the field."""
    blames: str = ""
    """The field that the refusal names, when it is not the broken one."""

    @property
    def field(self) -> str:
        return self.blames or self.path

    def manifest(self) -> dict[str, Any]:
        return changed(example(self.example), self.path, self.value)


REFUSED = (
    # names
    Refused("name-of-5000-characters", POOL, "metadata.name", "x" * 5000),
    Refused("name-longer-than-a-label", POOL, "metadata.name", "x" * 64, "at most 63"),
    Refused("pool-name-with-a-dot", POOL, "metadata.name", "munich.b200", "DNS label"),
    Refused("tenant-name-longer-than-a-label", TENANT, "metadata.name", "x" * 64, "at most 63"),
    Refused("policy-name-with-a-dot", POLICY, "metadata.name", "eu.only", "DNS label"),
    # where a pool stands
    Refused("pool-without-location", POOL, "spec.location", ABSENT, "Required"),
    Refused("pool-without-country", POOL, "spec.location.country", ABSENT, "Required"),
    Refused("pool-without-region", POOL, "spec.location.region", ABSENT, "Required"),
    Refused("unknown-country", POOL, "spec.location.country", "ZZ", 'found "ZZ", allowed: an ISO'),
    Refused("greece-as-in-eu-texts", POOL, "spec.location.country", "EL", "Greece is GR"),
    Refused("britain-as-in-eu-texts", POOL, "spec.location.country", "UK", "Kingdom is GB"),
    Refused("country-in-small-letters", POOL, "spec.location.country", "de", "in capitals"),
    Refused("country-with-three-letters", POOL, "spec.location.country", "DEU", 'found "DEU"'),
    Refused("country-in-words", POOL, "spec.location.country", "Germany", 'found "Germany"'),
    Refused("a-set-is-no-country", POOL, "spec.location.country", "EU", "not a country"),
    Refused("user-assigned-country", POOL, "spec.location.country", "XK", "user-assigned"),
    Refused("endless-country", POOL, "spec.location.country", "D" * 5000),
    Refused("empty-country", POOL, "spec.location.country", "", 'found ""'),
    Refused("region-with-a-comma", POOL, "spec.location.region", "eu-de-muc,us-east"),
    Refused("region-that-means-all", POOL, "spec.location.region", "*"),
    Refused("region-empty", POOL, "spec.location.region", ""),
    Refused("region-longer-than-a-label", POOL, "spec.location.region", "r" * 64),
    Refused("site-with-a-space", POOL, "spec.location.site", "hall 4"),
    # what a pool says of itself
    Refused(
        "verified-by-nobody",
        POOL,
        "spec.sovereignty.companies[0].verifiedBy",
        ABSENT,
        "found Verified without evidence and verifiedBy",
        "spec.sovereignty.companies[0].trust",
    ),
    Refused(
        "verified-without-evidence",
        POOL,
        "spec.sovereignty.certifications[0].evidence",
        ABSENT,
        "Verified with both",
        "spec.sovereignty.certifications[0].trust",
    ),
    Refused("unknown-trust", POOL, "spec.sovereignty.support.trust", "Sure", '"Declared"'),
    Refused("unknown-role", POOL, "spec.sovereignty.companies[0].roles[0]", "Owner"),
    Refused("lei-too-short", POOL, "spec.sovereignty.companies[0].lei", "529900"),
    Refused("seat-in-words", POOL, "spec.sovereignty.companies[1].country", "Bayern", "found"),
    Refused(
        "parent-in-eu-texts",
        POOL,
        "spec.sovereignty.companies[0].ultimateParent.country",
        "EL",
        "Greece is GR",
    ),
    Refused(
        "day-that-is-none", POOL, "spec.sovereignty.certifications[0].validUntil", "2027-02-30"
    ),
    Refused("digest-too-short", POOL, "spec.sovereignty.certifications[0].evidence.sha256", "00"),
    Refused("evidence-anywhere", POOL, "spec.sovereignty.certifications[0].evidence.uri", "there"),
    Refused("support-from-nowhere", POOL, "spec.sovereignty.support.countries", []),
    Refused("keys-held-by-a-friend", POOL, "spec.sovereignty.keys.holder", "Friend", '"Customer"'),
    Refused("unknown-purpose", POOL, "spec.sovereignty.endpoints[0].purpose", "Fun"),
    Refused(
        "company-twice",
        POOL,
        "spec.sovereignty.companies",
        [{"legalName": "A", "country": "DE", "roles": ["Support"]}] * 2,
    ),
    # what a policy asks of it
    Refused(
        "unknown-version-of-a-set", POLICY, "spec.countries.sets[0]", "EU@1999-01-01", "EU@2020"
    ),
    Refused(
        "role-asked-for-nowhere",
        POLICY,
        "spec.require.roles[0].countries",
        {},
        "empty allow-list",
        "spec.require.roles[0].countries.sets",
    ),
    Refused(
        "role-asked-twice",
        POLICY,
        "spec.require.roles[1].role",
        "CloudOperator",
        blames="spec.require.roles",
    ),
    Refused("scheme-with-a-space", POLICY, "spec.require.certifications[0].scheme", "BSI C5"),
    # ways out
    Refused("registry-without-slash", POLICY, "spec.registries.allowed[0]", "registry.example.eu"),
    Refused("registry-of-no-host", POLICY, "spec.registries.allowed[0]", "library/"),
    Refused("registry-in-capitals", POLICY, "spec.registries.allowed[0]", "Registry.EU/"),
    Refused("registries-that-are-none", POLICY, "spec.registries.allowed", []),
    Refused("unknown-opening", POLICY, "spec.services.allow[0]", "Ingress", '"LoadBalancer"'),
    Refused(
        "network-without-mask", POLICY, "spec.egress.networks[0]", "192.0.2.0", "a network such as"
    ),
    Refused(
        "network-with-host-bits",
        POLICY,
        "spec.egress.networks[0]",
        "192.0.2.1/24",
        "behind the mask",
    ),
    Refused("network-in-words", POLICY, "spec.egress.networks[0]", "internet", "found"),
    Refused(
        "access-from-nowhere",
        POLICY,
        "spec.access.countries",
        {},
        "empty allow-list",
        "spec.access.countries.sets",
    ),
    # which nodes take no pods
    Refused("ready-as-health-rule", POOL, "spec.health.conditions[0].type", "Ready", "but Ready"),
    Refused("condition-with-a-space", POOL, "spec.health.conditions[0].type", "Gpu Hot"),
    Refused("unknown-polarity", POOL, "spec.health.conditions[1].unhealthyStatus", "Bad", '"True"'),
    Refused(
        "condition-twice",
        POOL,
        "spec.health.conditions",
        [{"type": "GpuMemWatch"}, {"type": "GpuMemWatch", "unhealthyStatus": "False"}],
    ),
    Refused(
        "thirty-three-conditions",
        POOL,
        "spec.health.conditions",
        [{"type": f"Trouble{number}"} for number in range(33)],
    ),
    # which nodes a pool has
    Refused("unknown-enrolment", POOL, "spec.nodes.enrolment", "Everything", '"Labelled"'),
    Refused(
        "selector-that-takes-every-node",
        "gpupool-tryout",
        "spec.nodes.selector",
        {},
        "found an empty selector",
    ),
    Refused(
        "selector-enrolment-without-selector",
        "gpupool-tryout",
        "spec.nodes.selector",
        ABSENT,
        "found an empty selector",
    ),
    Refused(
        "label-key-with-a-space",
        POOL,
        "spec.nodes.selector.matchLabels",
        {"gpu product": "NVIDIA-B200"},
        "found a key that no label can have",
    ),
    Refused(
        "label-value-with-a-space",
        POOL,
        "spec.nodes.selector.matchLabels",
        {"product": "NVIDIA B200"},
        blames="spec.nodes.selector.matchLabels.product",
    ),
    Refused(
        "seventeen-labels",
        POOL,
        "spec.nodes.selector.matchLabels",
        {f"label-{number}": "x" for number in range(17)},
    ),
    Refused(
        "in-without-values",
        POOL,
        "spec.nodes.selector.matchExpressions[0].values",
        [],
        "found no values",
    ),
    Refused(
        "exists-with-values",
        POOL,
        "spec.nodes.selector.matchExpressions[1].values",
        ["x"],
        "found values",
    ),
    Refused(
        "value-twice",
        POOL,
        "spec.nodes.selector.matchExpressions[0].values",
        ["8", "8"],
    ),
    Refused(
        "operator-for-numbers",
        POOL,
        "spec.nodes.selector.matchExpressions[0].operator",
        "Gt",
        '"DoesNotExist"',
    ),
    # tenants
    Refused("no-namespaces-field", TENANT, "spec.namespaces", ABSENT, "Required"),
    Refused("no-namespace", TENANT, "spec.namespaces", [], "at least 1"),
    Refused("namespace-twice", TENANT, "spec.namespaces", ["a", "a"], blames="spec.namespaces"),
    Refused("65-namespaces", TENANT, "spec.namespaces", [f"n{n}" for n in range(65)]),
    Refused("namespace-with-a-capital", TENANT, "spec.namespaces[0]", "BMW"),
    Refused("namespace-of-kubernetes", TENANT, "spec.namespaces[1]", "kube-system", "kube-"),
    Refused("no-policies-field", TENANT, "spec.residencyPolicies", ABSENT, "Required"),
    Refused("no-residency-policy", TENANT, "spec.residencyPolicies", [], "at least 1"),
    Refused("policy-twice", TENANT, "spec.residencyPolicies", ["eu-only", "eu-only"]),
    Refused("nine-policies", TENANT, "spec.residencyPolicies", [f"p{n}" for n in range(9)]),
    Refused("policy-with-a-comma", TENANT, "spec.residencyPolicies[0]", "eu-only,anywhere"),
    Refused("negative-gpus", TENANT, "spec.pools[0].guaranteed", -1, "greater than or equal to 0"),
    Refused("half-a-gpu", TENANT, "spec.pools[0].guaranteed", 0.5, "int"),
    Refused("gpus-as-text", TENANT, "spec.pools[0].guaranteed", "8", "int"),
    Refused("more-gpus-than-exist", TENANT, "spec.pools[0].guaranteed", 1_000_001, "1"),
    Refused("no-guarantee", TENANT, "spec.pools[0].guaranteed", ABSENT, "Required"),
    Refused("pool-without-name", TENANT, "spec.pools[0].name", ABSENT, "Required"),
    Refused("pool-name-with-a-slash", TENANT, "spec.pools[0].name", "munich/b200"),
    Refused(
        "pool-twice",
        TENANT,
        "spec.pools",
        [{"name": "munich", "guaranteed": 1}, {"name": "munich", "guaranteed": 2}],
    ),
    Refused(
        "33-pools",
        TENANT,
        "spec.pools",
        [{"name": f"pool-{number}", "guaranteed": 1} for number in range(33)],
    ),
    # policies
    Refused("no-countries", POLICY, "spec.countries", ABSENT, "Required"),
    Refused(
        "empty-allow-list",
        POLICY,
        "spec.countries",
        {"exclude": ["MT"]},
        "found an empty allow-list",
        blames="spec.countries.sets",
    ),
    Refused(
        "empty-lists",
        POLICY,
        "spec.countries",
        {"sets": [], "include": []},
        "found an empty allow-list",
        blames="spec.countries.sets",
    ),
    Refused("unknown-set", POLICY, "spec.countries.sets[0]", "Europe", '"EEA_CH"'),
    Refused("set-twice", POLICY, "spec.countries.sets", ["EU", "EU"]),
    Refused("unknown-country-included", POLICY, "spec.countries.include[1]", "ZZ", 'found "ZZ"'),
    Refused("greece-included-as-EL", POLICY, "spec.countries.include[0]", "EL", "Greece is GR"),
    Refused("britain-excluded-as-UK", POLICY, "spec.countries.exclude[0]", "UK", "Kingdom is GB"),
    Refused("country-twice", POLICY, "spec.countries.include", ["CH", "CH"]),
    Refused("unknown-enforcement", POLICY, "spec.enforcement", "Log", '"Warn"'),
    # who chooses nodes
    Refused("unknown-placement", POOL, "spec.placement.mode", "Spread", '"Pack"'),
    Refused("bare-pods-evicted", POOL, "spec.placement.barePods", "Evict", '"Keep"'),
    # what happens to pods that stand elsewhere
    Refused("unknown-action", POLICY, "spec.onDrift.action", "Delete", '"Alert"'),
    Refused("negative-grace", POLICY, "spec.onDrift.graceSeconds", -1, "0"),
    Refused("grace-of-eight-days", POLICY, "spec.onDrift.graceSeconds", 691200, "604800"),
    Refused("grace-in-words", POLICY, "spec.onDrift.graceSeconds", "300s"),
)


UNKNOWN_FIELDS = (
    Refused("field-of-a-later-version", POOL, "spec.topology", {"levels": []}),
    Refused("misspelt-pool-field", POOL, "spec.location.Country", "DE"),
    Refused("misspelt-share-field", TENANT, "spec.pools[0].guarantee", 8),
    Refused("misspelt-policy-field", POLICY, "spec.countries.excludes", ["FR"]),
)
"""Refused by the models, and by the API server under strict validation (kubectl's default)."""


def example(stem: str) -> dict[str, Any]:
    """Return one manifest of examples/crds."""
    manifest: dict[str, Any] = yaml.safe_load(EXAMPLES[stem].read_text(encoding="utf-8"))
    return manifest


def changed(manifest: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return a copy with one field set, or taken away."""
    result = copy.deepcopy(manifest)
    steps = [int(step) if step.isdigit() else step for step in re.findall(r"[^.\[\]]+", path)]
    target: Any = result
    for step in steps[:-1]:
        target = target[step]
    if value is ABSENT:
        del target[steps[-1]]
    else:
        target[steps[-1]] = value
    return result


def why(row: Refused) -> str:
    """Name of the row in the test report."""
    return row.why
