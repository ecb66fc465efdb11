"""The three kinds on a real API server: what is refused, what comes back, what people see."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rig.users import PLATFORM_ADMIN
from sovereign_gpu.api import Condition, InvalidObjectError, parse
from sovereign_gpu.api.parse import KINDS
from sovereign_gpu.api.policystatus import DataResidencyPolicyStatus, Eligible, Violations
from sovereign_gpu.api.poolstatus import GpuPoolStatus, PoolGpuCounts, PoolNodeCounts, PoolProduct
from sovereign_gpu.api.tenantquota import PoolUsage, QuotaTotals, TenantQuotaStatus, Waiting
from sovereign_gpu.core.model import Reason
from tests.api.manifests import (
    EXAMPLES,
    REFUSED,
    ROOT,
    UNKNOWN_FIELDS,
    Refused,
    changed,
    example,
    why,
)
from tests.api.specs import SPECS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rig.client import Client, Response
    from rig.control_plane import Rig
    from sovereign_gpu.api.base import Status

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
READY = Condition(
    type="Ready", status="True", reason="Counted", message="in order", last_transition_time=NOON
)


@pytest.fixture(scope="module", autouse=True)
def definitions(admin: Client) -> Iterator[None]:
    """The generated CRDs, served; gone afterwards unless somebody else had brought them."""
    manifests = [
        yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))
    ]
    paths = [f"{DEFINITIONS}/{manifest['metadata']['name']}" for manifest in manifests]
    ours = [path for path in paths if not admin.get(path).ok]
    for manifest in manifests:
        admin.apply(manifest).must()
    for path, manifest in zip(paths, manifests, strict=True):
        admin.wait(path, is_established)
        admin.wait(admin.collection_path(empty(manifest)), lambda _: True)
    yield
    for path in ours:
        admin.delete(path)
    for path in ours:
        admin.wait_gone(path)


@pytest.fixture
def create(admin: Client) -> Iterator[Callable[[dict[str, Any]], Response]]:
    """Create an object as kubectl does, strictly; it is deleted after the test."""
    made: list[str] = []

    def post(manifest: dict[str, Any]) -> Response:
        path = admin.collection_path(manifest)
        answer = admin.create(path, manifest, fieldValidation="Strict")
        if answer.ok:
            made.append(f"{path}/{manifest['metadata']['name']}")
        return answer

    yield post
    for path in made:
        admin.delete(path)


@pytest.fixture
def kubectl(rig: Rig) -> Callable[..., str]:
    """Run kubectl as the platform admin and return what it prints."""

    def run(*arguments: str) -> str:
        command = [
            str(rig.binaries / "kubectl"),
            f"--kubeconfig={rig.kubeconfig(PLATFORM_ADMIN)}",
            f"--cache-dir={rig.root / 'kubectl-cache'}",
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own kubectl
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def is_established(definition: dict[str, Any]) -> bool:
    conditions = definition["status"]["conditions"]
    return {"Established": "True"}.items() <= {c["type"]: c["status"] for c in conditions}.items()


def empty(definition: dict[str, Any]) -> dict[str, Any]:
    spec = definition["spec"]
    version = f"{spec['group']}/{spec['versions'][0]['name']}"
    return {"apiVersion": version, "kind": spec["names"]["kind"], "metadata": {}}


def dry_run(admin: Client, manifest: dict[str, Any], validation: str = "Strict") -> Response:
    path = admin.collection_path(manifest)
    return admin.create(path, manifest, dryRun="All", fieldValidation=validation)


# --- what is refused ------------------------------------------------------------------------
@pytest.mark.parametrize("row", REFUSED, ids=why)
def test_a_mistake_is_refused_with_the_field_and_what_is_allowed(
    admin: Client, row: Refused
) -> None:
    answer = dry_run(admin, row.manifest())
    assert answer.status == 422, answer.body
    assert row.field in answer.message
    assert row.says in answer.message


@pytest.mark.parametrize("row", UNKNOWN_FIELDS, ids=why)
def test_an_unknown_field_is_refused_under_strict_validation(admin: Client, row: Refused) -> None:
    answer = dry_run(admin, row.manifest())
    assert answer.status == 400, answer.body
    assert f'unknown field "{row.field}"' in answer.message


@pytest.mark.parametrize("row", UNKNOWN_FIELDS, ids=why)
def test_an_unknown_field_is_never_stored(admin: Client, row: Refused) -> None:
    answer = dry_run(admin, row.manifest(), validation="Ignore").must()
    assert answer["spec"] == dry_run(admin, example(row.example)).must()["spec"]


@pytest.mark.parametrize("row", REFUSED, ids=why)
def test_no_update_brings_in_what_creation_refuses(
    admin: Client, create: Callable[[dict[str, Any]], Response], row: Refused
) -> None:
    stored = create(example(row.example)).must()
    update = row.manifest()
    update["metadata"] = stored["metadata"]
    path = admin.object_path(stored)
    answer = admin.replace(path, update, dryRun="All", fieldValidation="Strict")
    assert answer.ok == row.path.startswith("metadata.")  # a name cannot be updated at all


def test_the_status_cannot_be_written_through_the_object(
    create: Callable[[dict[str, Any]], Response],
) -> None:
    manifest = example("gpupool") | {"status": {"gpus": {"capacity": 10_000}}}
    assert create(manifest).must()["status"] == {"observedGeneration": 0}


# --- what comes back ------------------------------------------------------------------------
@pytest.mark.parametrize("stem", EXAMPLES)
def test_an_example_comes_back_as_it_was_written(
    admin: Client, create: Callable[[dict[str, Any]], Response], stem: str
) -> None:
    manifest = example(stem)
    create(manifest).must()
    stored = admin.get(admin.object_path(manifest)).must()
    assert pruned_from(manifest["spec"], stored["spec"]) == []
    assert parse(manifest["kind"], stored).spec == parse(manifest["kind"], manifest).spec


@pytest.mark.parametrize("stem", ["gpupool", "tenantquota", "dataresidencypolicy"])
def test_defaults_are_those_of_the_models_and_visible(
    create: Callable[[dict[str, Any]], Response], stem: str
) -> None:
    manifest = example(stem)
    stored = create(manifest).must()
    ours = parse(manifest["kind"], manifest).spec.wire()
    assert pruned_from(stored["spec"], ours) == []


def test_an_object_that_nobody_has_seen_is_not_taken_for_done(
    create: Callable[[dict[str, Any]], Response],
) -> None:
    stored = create(example("gpupool")).must()
    assert stored["status"]["observedGeneration"] < stored["metadata"]["generation"]


def test_a_location_may_be_corrected(
    admin: Client, create: Callable[[dict[str, Any]], Response]
) -> None:
    path = admin.object_path(create(example("gpupool")).must())
    moved = {"spec": {"location": {"country": "AT", "region": "eu-at-vie"}}}
    assert admin.patch(path, moved).must()["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("stem", "path", "value"),
    [
        ("gpupool", "spec.location.country", "AT"),  # one region in two countries
        ("gpupool-tryout", "spec.location.country", "FR"),  # one selector, so the same nodes
        ("tenantquota", "spec.residencyPolicies", ["another"]),  # one namespace, two tenants
    ],
)
def test_a_contradiction_between_objects_is_stored_for_the_operator_to_report(
    create: Callable[[dict[str, Any]], Response], stem: str, path: str, value: object
) -> None:
    create(example(stem)).must()
    other = changed(example(stem), path, value)
    create(changed(other, "metadata.name", "the-other")).must()


POOL_STATUS = GpuPoolStatus(
    observed_generation=1,
    conditions=(READY,),
    nodes=PoolNodeCounts(enrolled=1250, ready=1248, cordoned=1, unhealthy=1, companions=4),
    gpus=PoolGpuCounts(
        capacity=10000,
        allocatable=9984,
        counted=9000,
        reserved=16,
        foreign=8,
        free=976,
        whole_nodes_free=120,
        largest_gang=960,
    ),
    products=(PoolProduct(product="NVIDIA-B200", nodes=1250, gpus=10000),),
)
TENANT_STATUS = TenantQuotaStatus(
    observed_generation=1,
    conditions=(READY,),
    total=QuotaTotals(
        guaranteed=2000, used=1999, borrowed=12, reserved=7, pending_gpus=64, pending_pods=9
    ),
    pools=(PoolUsage(name="munich-b200", guaranteed=2000, used=1999, reserved=7),),
    waiting=tuple(Waiting(reason=reason, pods=9, gpus=64, message="why") for reason in Reason),
)
POLICY_STATUS = DataResidencyPolicyStatus(
    observed_generation=1,
    conditions=(READY,),
    eligible=Eligible(pools=2, nodes=1254, regions=("eu-de-muc", "RegionOne")),
    violations=Violations(now=0, total=3),
)
with_status = pytest.mark.parametrize(
    ("stem", "status"),
    [
        ("gpupool", POOL_STATUS),
        ("tenantquota", TENANT_STATUS),
        ("dataresidencypolicy", POLICY_STATUS),
    ],
)


@with_status
def test_a_status_comes_back_as_it_was_written(
    admin: Client, create: Callable[[dict[str, Any]], Response], stem: str, status: Status
) -> None:
    path = admin.object_path(create(example(stem)).must())
    admin.patch(f"{path}/status", {"status": status.wire()}, fieldValidation="Strict").must()
    stored = admin.get(path).must()
    assert stored["status"] == status.wire()
    assert parse(stored["kind"], stored).status == status


# --- the two judges agree -------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_the_models_and_the_api_server_accept_the_same(
    admin: Client, kind: Any, data: st.DataObject
) -> None:
    manifest = {
        "apiVersion": "sovereign-gpu.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": "either"},
        "spec": data.draw(SPECS[kind]),
    }
    answer = dry_run(admin, manifest)
    accepted = accepted_by_models(manifest)
    assert answer.ok == (accepted is not None), answer.body
    if accepted is not None:
        assert pruned_from(manifest["spec"], answer.body["spec"]) == []
        assert parse(kind, answer.body).spec == accepted.spec


def accepted_by_models(manifest: dict[str, Any]) -> Any:
    try:
        return parse(manifest["kind"], manifest)
    except InvalidObjectError:
        return None


# --- what people see ------------------------------------------------------------------------
def test_explain_is_a_manual_down_to_the_last_field(kubectl: Callable[..., str]) -> None:
    text = kubectl("explain", "gpupool.spec.nodes.selector.matchExpressions.operator")
    assert "In and NotIn need values" in text
    assert "DoesNotExist" in text


def test_explain_speaks_of_status_too(kubectl: Callable[..., str]) -> None:
    text = kubectl("explain", "tq.status.waiting")
    assert "Why pods wait" in text
    assert "QuotaExhausted" in text


@with_status
def test_the_table_answers_how_full_how_healthy_and_who_waits(
    admin: Client,
    create: Callable[[dict[str, Any]], Response],
    kubectl: Callable[..., str],
    stem: str,
    status: Status,
) -> None:
    manifest = example(stem)
    path = admin.object_path(create(manifest).must())
    admin.patch(f"{path}/status", {"status": status.wire()}).must()
    naming = KINDS[manifest["kind"]].naming
    head, row = kubectl("get", naming.short, manifest["metadata"]["name"]).splitlines()
    shown = [column.name.upper() for column in naming.columns if not column.wide]
    assert head.split() == ["NAME", *shown]
    expected = {
        "gpupool": "munich-b200 True DE eu-de-muc 1250 1248 9984 9000 976",
        "tenantquota": "siemens True 2000 1999 12 64 9 Starting",
        "dataresidencypolicy": 'eu-only True ["EU"] Deny 2 1254 0',
    }
    assert row.split()[:-1] == expected[stem].split()


def test_one_category_shows_all_three_kinds(
    create: Callable[[dict[str, Any]], Response], kubectl: Callable[..., str]
) -> None:
    for stem in ("gpupool", "tenantquota", "dataresidencypolicy"):
        create(example(stem)).must()
    listed = kubectl("get", "sovereign-gpu", "--output=name").split()
    assert set(listed) >= {
        "gpupool.sovereign-gpu.io/munich-b200",
        "tenantquota.sovereign-gpu.io/siemens",
        "dataresidencypolicy.sovereign-gpu.io/eu-only",
    }


def pruned_from(written: Any, stored: Any, path: str = "") -> list[str]:
    """Return the paths that are in one and not, or not the same, in the other."""
    if isinstance(written, dict) and isinstance(stored, dict):
        lost = [f"{path}.{key}" for key in written if key not in stored]
        both = [key for key in written if key in stored]
        return lost + [
            item for key in both for item in pruned_from(written[key], stored[key], f"{path}.{key}")
        ]
    if isinstance(written, list) and isinstance(stored, list) and len(written) == len(stored):
        pairs = enumerate(zip(written, stored, strict=True))
        return [item for i, pair in pairs for item in pruned_from(*pair, f"{path}[{i}]")]
    return [] if written == stored else [path]
