"""From the bytes of lists and watches to records, one object at a time.

One object that cannot be read must neither blind us to all others nor vanish silently, because a
pod that is not counted is a GPU given away twice. So it is left as it was last understood, named
in `Reader.unreadable` (readiness and metrics show it) and logged once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from sovereign_gpu.cluster.errors import GONE, UncertainError

log = logging.getLogger(__name__)

T = TypeVar("T")


class GoneError(Exception):
    """The server no longer has the changes since our resource version: list again."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What to watch, and how its objects are read."""

    path: str
    lists: TypeAdapter[Any]
    events: TypeAdapter[Any]
    decode: Callable[[Any], T]
    key: Callable[[Any], str]
    field_selector: str = ""

    def query(self, **more: str) -> dict[str, str]:
        """Return the query of a request for this kind."""
        return {**({"fieldSelector": self.field_selector} if self.field_selector else {}), **more}


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list."""

    items: dict[str, T]
    unreadable: dict[str, str]
    """Key -> sentence."""
    version: str
    more: str
    """Token of the next page; empty on the last one."""


@dataclass(frozen=True, slots=True)
class Event(Generic[T]):
    """One line of a watch."""

    type: str
    key: str
    item: T | None
    """None if deleted, a bookmark, or not readable."""
    version: str
    """Resource version to go on from; empty if the line has none."""


class Reader(Generic[T]):
    """Reads objects of one kind and remembers those it could not read."""

    def __init__(self, kind: Kind[T]) -> None:
        self._kind = kind
        self.unreadable: dict[str, str] = {}
        """Key -> sentence, of objects that exist and are not understood."""

    def page(self, content: bytes) -> Page[T]:
        """Read one page of a list.

        Raises:
            UncertainError: it is no list at all.
        """
        try:
            page = self._kind.lists.validate_json(content)
            read = self._record
        except ValidationError:
            page = _loosely(content, "items", "metadata")
            read = self._checked
        items: dict[str, T] = {}
        unreadable: dict[str, str] = {}
        for source in page["items"] or ():
            try:
                key, item = read(source)
            except Exception as error:  # noqa: BLE001 – whatever is wrong with one of many
                unreadable[self._name(source)] = _sentence(source, error)
            else:
                items[key] = item
        meta = page["metadata"]
        return Page(items, unreadable, meta.get("resourceVersion", ""), meta.get("continue", ""))

    def event(self, line: bytes) -> Event[T]:
        """Read one line of a watch.

        Raises:
            GoneError: the server says that our version is too old.
            UncertainError: the server says that something else is wrong, or it is no event.
        """
        try:
            event = self._kind.events.validate_json(line)
            read = self._record
        except ValidationError:
            event = _loosely(line, "type", "object")
            read = self._checked
        kind, source = event["type"], event["object"]
        if kind == "ERROR":
            raise _refusal(line)
        meta = source.get("metadata") if isinstance(source, dict) else None
        version = meta.get("resourceVersion", "") if isinstance(meta, dict) else ""
        if kind == "DELETED":
            key = self._name(source)
            self.unreadable.pop(key, None)
            return Event(kind, key, None, version)
        if kind not in ("ADDED", "MODIFIED"):  # a bookmark, or what a later server invents
            return Event(kind, "", None, version)
        try:
            key, item = read(source)
        except Exception as error:  # noqa: BLE001 – whatever is wrong with one of many
            key = self._name(source)
            self.note(key, _sentence(source, error))
            return Event(kind, key, None, version)
        if self.unreadable:
            self.unreadable.pop(key, None)
        return Event(kind, key, item, version)

    def note(self, key: str, sentence: str) -> None:
        """Remember an object that could not be read; say so once."""
        if self.unreadable.get(key) != sentence:
            self.unreadable[key] = sentence
            log.error("%s: cannot read %s", self._kind.path, sentence)

    def _record(self, source: Any) -> tuple[str, T]:
        return self._kind.key(source), self._kind.decode(source)

    def _checked(self, source: Any) -> tuple[str, T]:
        valid = self._kind.events.validate_python({"type": "", "object": source})
        return self._record(valid["object"])

    def _name(self, source: Any) -> str:
        try:
            return self._kind.key(source)
        except (KeyError, TypeError):
            return f"?{_where(source)}"


def _loosely(content: bytes, *needed: str) -> Any:
    try:
        found = from_json(content)
    except ValueError as error:
        raise UncertainError(f"not JSON: {error}") from error
    if not isinstance(found, dict) or any(name not in found for name in needed):
        raise UncertainError(f"neither list nor event: {content[:100]!r}")
    return found


def _refusal(line: bytes) -> Exception:
    status = from_json(line)["object"]
    if isinstance(status, dict) and status.get("code") == GONE:
        return GoneError()
    said = status.get("message") if isinstance(status, dict) else status
    return UncertainError(f"watch error: {said}")


def _where(source: Any) -> str:
    meta = source.get("metadata") if isinstance(source, dict) else None
    if not isinstance(meta, dict):
        return "an object without metadata"
    return "/".join(str(meta[part]) for part in ("namespace", "name") if part in meta)


def _sentence(source: Any, error: Exception) -> str:
    if isinstance(error, ValidationError):
        # Without the value: it may be anybody's secret.
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"] if part != "object")
        return f"{_where(source)}: {field}: {first['msg']}"
    return f"{_where(source)}: {type(error).__name__}: {error}"
