"""The store hands over the last state of what changed, and what is gone."""

from __future__ import annotations

import asyncio

import pytest

from sovereign_gpu.cluster.store import Store


@pytest.fixture
def wake() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def store(wake: asyncio.Event) -> Store[int]:
    return Store(wake)


def test_ten_changes_of_one_object_are_one(store: Store[int], wake: asyncio.Event) -> None:
    for state in range(10):
        store.put("a", state)
    assert wake.is_set()
    assert store.drain(10) == {"a": 9}
    assert store.drain(10) == {}
    assert store.get("a") == 9


def test_what_did_not_change_is_no_change(store: Store[int], wake: asyncio.Event) -> None:
    store.put("a", 1)
    store.drain(10)
    wake.clear()
    store.put("a", 1)
    store.remove("unknown")
    assert store.drain(10) == {}
    assert not wake.is_set()


def test_what_is_gone_is_told_as_gone(store: Store[int]) -> None:
    store.put("a", 1)
    store.drain(10)
    store.remove("a")
    assert store.drain(10) == {"a": None}
    assert store.get("a") is None
    assert len(store) == 0


def test_gone_and_back_is_the_new_state(store: Store[int]) -> None:
    store.put("a", 1)
    store.drain(10)
    store.remove("a")
    store.put("a", 1)
    assert store.drain(10) == {"a": 1}


def test_a_list_tells_what_is_new_what_changed_and_what_is_missing(store: Store[int]) -> None:
    for key in "abcd":
        store.put(key, 1)
    store.drain(10)
    store.replace({"a": 1, "b": 2, "e": 5}, keep={"d"})
    assert store.drain(10) == {"c": None, "b": 2, "e": 5}
    assert (len(store), store.get("d")) == (4, 1)


def test_much_is_handed_over_in_parts_oldest_first(store: Store[int]) -> None:
    for number in range(7):
        store.put(str(number), number)
    store.put("0", 100)  # keeps its place
    taken = [list(store.drain(3).items()) for _ in range(4)]
    assert taken == [
        [("0", 100), ("1", 1), ("2", 2)],
        [("3", 3), ("4", 4), ("5", 5)],
        [("6", 6)],
        [],
    ]
