"""The newest known state of many objects, and which of them changed since last asked.

Level-triggered: between two looks of the controller an object may change ten times, and only its
last state is handed over. A full list is compared with what is known, so objects that vanished
while nobody watched are reported as gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class Store(Generic[T]):
    """Objects of one kind by key (uid of pods, name of others)."""

    def __init__(self, wake: asyncio.Event) -> None:
        """Set `wake` whenever something changed."""
        self._items: dict[str, T] = {}
        self._changes: dict[str, T | None] = {}
        self._wake = wake

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self._items)

    def get(self, key: str) -> T | None:
        """Return one object as last seen."""
        return self._items.get(key)

    def put(self, key: str, item: T) -> None:
        """Take in the newest state of an object."""
        if self._items.get(key) != item:
            self._items[key] = item
            self._changed(key, item)

    def remove(self, key: str) -> None:
        """Note that an object is gone."""
        if self._items.pop(key, None) is not None:
            self._changed(key, None)

    def replace(self, items: Mapping[str, T], *, keep: Collection[str] = ()) -> None:
        """Take in a complete list: what is neither in it nor in `keep` is gone."""
        for key in self._items.keys() - items.keys():
            if key not in keep:
                self.remove(key)
        for key, item in items.items():
            self.put(key, item)

    @property
    def waiting(self) -> int:
        """Return the number of changes that were not handed over yet."""
        return len(self._changes)

    def drain(self, limit: int) -> dict[str, T | None]:
        """Hand over up to `limit` changes, oldest first; None means gone."""
        if len(self._changes) <= limit:
            taken, self._changes = self._changes, {}
            return taken
        return {key: self._changes.pop(key) for key in list(self._changes)[:limit]}

    def _changed(self, key: str, item: T | None) -> None:
        self._changes[key] = item
        self._wake.set()
