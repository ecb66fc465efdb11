"""Totals are sums over charges, whatever was put in which order."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sovereign_gpu.core.ledger import Charge, Ledger
from sovereign_gpu.core.model import Resources

_charges = st.none() | st.builds(
    Charge,
    tenant=st.sampled_from(("", "acme", "bolt")),
    pool=st.sampled_from(("", "munich")),
    node=st.sampled_from(("", "n1", "n2")),
    demand=st.builds(Resources, st.integers(0, 8), st.integers(0, 2), st.integers(0, 2)),
    bound=st.booleans(),
)


@given(st.lists(st.tuples(st.sampled_from("abcd"), _charges), max_size=20))
def test_totals_are_the_sum_of_the_last_charge_of_each_pod(
    puts: list[tuple[str, Charge | None]],
) -> None:
    ledger, last = Ledger(), dict[str, Charge]()
    for uid, charge in puts:
        assert ledger.put(uid, charge) == last.get(uid)
        last.pop(uid, None)
        if charge is not None:
            last[uid] = charge

    assert ledger.charges == last
    for tenant in ("", "acme", "bolt"):
        mine = [c for c in last.values() if (c.tenant, c.pool) == (tenant, "munich")]
        assert ledger.counted(tenant, "munich") == sum(c.demand.gpus for c in mine)
    reserved: Counter[str] = Counter()
    on_node: Counter[str] = Counter()
    for charge in last.values():
        on_node[charge.node] += charge.demand.gpus
        if not charge.bound:
            reserved[charge.pool] += charge.demand.gpus
    assert ledger.reserved_in == +reserved
    for node in ("n1", "n2"):
        load = ledger.loads.get(node)
        assert (load.gpus if load else 0) == on_node[node]


@given(st.lists(st.tuples(st.sampled_from("abcd"), _charges), max_size=20))
def test_freeing_everything_leaves_nothing(puts: list[tuple[str, Charge | None]]) -> None:
    ledger = Ledger()
    for uid, charge in puts:
        ledger.put(uid, charge)
    for uid in "abcd":
        ledger.put(uid, None)
    assert ledger == Ledger()


def test_asking_creates_no_entry() -> None:
    ledger = Ledger()
    assert ledger.counted("acme", "munich") == 0
    assert not ledger.usage
