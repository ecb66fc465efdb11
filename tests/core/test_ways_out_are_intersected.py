"""What namespaces are told about ways out, when several policies hold at once."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_gpu import names
from sovereign_gpu.core import perimeter, residency
from sovereign_gpu.core.perimeter import CLOSED, OPEN, OPENINGS, Egress, Perimeter
from tests.core.build import munich, policy, tenant

EU = Perimeter(registries=frozenset({"b.eu/", "a.eu/"}), openings=frozenset({"LoadBalancer"}))


def test_nothing_is_told_where_nobody_cares() -> None:
    assert perimeter.told([]) == {}
    assert perimeter.told([OPEN, OPEN]) == {}
    assert perimeter.egress([OPEN]) is None
    assert not perimeter.restricts_pods({})


def test_each_policy_has_a_list_of_its_own_and_equal_ones_are_told_once() -> None:
    only_b = Perimeter(registries=frozenset({"b.eu/"}), openings=frozenset(OPENINGS))
    told = perimeter.told([EU, only_b, EU, OPEN])
    assert told == {
        names.REGISTRIES: "a.eu/,b.eu/;b.eu/",
        names.SERVICES: "LoadBalancer",
    }
    assert perimeter.restricts_pods(told)


def test_an_empty_list_is_told_and_allows_nothing() -> None:
    told = perimeter.told([CLOSED])
    assert set(told) == set(names.PERIMETER_ANNOTATIONS)
    assert set(told.values()) == {""}


@pytest.mark.parametrize(
    ("lists", "networks"),
    [
        ([{"192.0.2.0/24"}], ("192.0.2.0/24",)),
        ([{"192.0.2.0/24"}, {"192.0.2.128/25"}], ("192.0.2.128/25",)),
        ([{"192.0.2.128/25"}, {"192.0.2.0/24", "10.0.0.0/8"}], ("192.0.2.128/25",)),
        ([{"10.0.0.0/8"}, {"192.0.2.0/24"}], ()),
        ([{"2001:db8::/32", "10.0.0.0/8"}, {"2001:db8:1::/48"}], ("2001:db8:1::/48",)),
        ([{"::/0"}, {"0.0.0.0/0"}], ()),
        ([set(), {"0.0.0.0/0"}], ()),
        ([{"10.0.0.0/8", "2001:db8::/32"}], ("10.0.0.0/8", "2001:db8::/32")),
    ],
)
def test_a_network_is_allowed_where_every_list_allows_it(
    lists: list[set[str]], networks: tuple[str, ...]
) -> None:
    found = perimeter.egress([Perimeter(networks=frozenset(each)) for each in lists] + [OPEN])
    assert found == Egress(networks, ())


def test_a_namespace_is_reachable_where_every_list_allows_it() -> None:
    some = Perimeter(networks=frozenset(), reachable=frozenset({"ingress", "proxy"}))
    other = Perimeter(networks=frozenset(), reachable=frozenset({"proxy"}))
    assert perimeter.egress([some, other]) == Egress((), ("proxy",))


networks = st.builds(
    lambda start, length: str(ip_network((start, length), strict=False)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 8) | st.integers(24, 32),
)


@given(st.lists(st.sets(networks, max_size=3), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_an_address_passes_exactly_where_it_passes_every_list(
    lists: list[set[str]], number: int
) -> None:
    found = perimeter.egress([Perimeter(networks=frozenset(each)) for each in lists])
    assert found is not None
    address = ip_address(number)
    by_all = all(any(address in ip_network(n) for n in each) for each in lists)
    assert any(address in ip_network(n) for n in found.networks) == by_all


# --- on namespaces -----------------------------------------------------------------------------
def test_policies_in_force_and_those_that_warn_are_told_apart() -> None:
    strict = policy("strict", "DE", perimeter=EU)
    trial = policy("trial", "DE", enforced=False, perimeter=EU)
    policies = {"strict": strict, "trial": trial}
    of_both = residency.namespace_metadata(
        tenant(policies=("strict", "trial")), policies, [munich()]
    )
    assert of_both[names.REGISTRIES] == of_both[names.warn(names.REGISTRIES)] == "a.eu/,b.eu/"
    assert of_both[names.CONTENTS_LABEL] == names.CONTENTS_RESTRICTED
    of_trial = residency.namespace_metadata(tenant(policies=("trial",)), policies, [munich()])
    assert names.REGISTRIES not in of_trial
    assert names.CONTENTS_LABEL not in of_trial
    assert of_trial[names.warn(names.SERVICES)] == "LoadBalancer"


def test_a_policy_that_is_missing_closes_every_way_for_what_is_new() -> None:
    told = residency.namespace_metadata(tenant(policies=("gone",)), {}, [munich()])
    assert {told[key] for key in names.PERIMETER_ANNOTATIONS} == {""}
    assert residency.egress(tenant(policies=("gone",)), {}) is None


def test_where_packets_of_a_tenant_may_go() -> None:
    closed = policy("closed", "DE", perimeter=Perimeter(networks=frozenset({"10.0.0.0/8"})))
    trial = policy("trial", "DE", enforced=False, perimeter=CLOSED)
    policies = {"closed": closed, "trial": trial}
    found = residency.egress(tenant(policies=("closed", "trial")), policies)
    assert found == Egress(("10.0.0.0/8",), ())


def test_every_annotation_has_a_twin_that_warns() -> None:
    twins = {names.warn(key) for key in names.PERIMETER_ANNOTATIONS}
    assert twins < set(names.NAMESPACE_ANNOTATIONS)
    assert not twins & set(names.PERIMETER_ANNOTATIONS)
