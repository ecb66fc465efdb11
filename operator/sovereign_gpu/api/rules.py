"""One rule, said twice: in CEL for the API server and in Python for everyone else.

The two stand in one object because they must never disagree: a manifest that the models
accept is accepted by the API server, and the reverse. The tests run every example through
both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_snake
from pydantic_core import PydanticCustomError, core_schema

RULES_KEY = "x-kubernetes-validations"
_FOUND = 'found "'


@dataclass(frozen=True, eq=False)
class Extra:
    """Keywords that go into the schema as they are, such as the list type."""

    keywords: Mapping[str, Any]

    def __get_pydantic_json_schema__(
        self, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Add the keywords to what pydantic says."""
        return {**handler(core), **self.keywords}


@dataclass(frozen=True, eq=False)
class Unique:
    """A list without duplicates: a set, or a map when its entries have a key.

    Server-side apply merges such lists by entry, so two people may own one entry each.
    """

    key: str = ""
    """Field that identifies an entry, as the manifest spells it."""

    def check(self, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the entries if none is there twice.

        Raises:
            PydanticCustomError: an entry, or its key, is there twice.
        """
        seen: set[Any] = set()
        attribute = to_snake(self.key)
        for entry in entries:
            identity = getattr(entry, attribute) if attribute else entry
            if identity in seen:
                allowed = f"each {self.key or 'value'} once"
                raise _refusal(found=f'"{identity}" twice', allowed=allowed)
            seen.add(identity)
        return entries

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Check after the entries have been checked."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Say which kind of list it is."""
        kind: dict[str, Any] = {"x-kubernetes-list-type": "map" if self.key else "set"}
        if self.key:
            kind["x-kubernetes-list-map-keys"] = [self.key]
        return {**handler(core), **kind}


@dataclass(frozen=True, eq=False)
class Rule:
    """A check beyond types and bounds, with a message that says found and allowed."""

    cel: str
    """Condition in CEL; `self` is the value."""
    holds: Callable[[Any], bool]
    """The same condition in Python."""
    allowed: str
    """Completes "allowed: ..."."""
    found: str | None = None
    """Completes "found ..." for objects; a string value speaks for itself."""
    hints: Mapping[str, str] = field(default_factory=dict)
    """What to write instead of a value that is often mistaken."""
    at: str = ""
    """For a rule on an object: the field to blame, in the words of the manifest."""

    def keyword(self) -> dict[str, str]:
        """Return the entry of `x-kubernetes-validations`."""
        entry = {"rule": self.cel, "message": f"allowed: {self.allowed}"}
        if self.found is not None:
            entry["message"] = f"found {self.found}, allowed: {self.allowed}"
        else:  # the plain message stays, for readers of the schema and as the fallback
            entry["messageExpression"] = self._message_in_cel()
        if self.at:
            entry["fieldPath"] = f".{self.at}"
        return entry

    def check(self, value: Any) -> Any:
        """Return the value if the rule holds.

        Raises:
            PydanticCustomError: the rule does not hold; the context has found and allowed.
        """
        if self.holds(value):
            return value
        found = self.found if self.found is not None else f'"{value}"'
        hint = self.hints.get(value) if self.found is None else None
        allowed = f"{self.allowed}; {hint}" if hint else self.allowed
        raise _refusal(found=found, allowed=allowed, at=self.at)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Check after the type and the bounds have been checked."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Append the rule to those already there."""
        schema = handler(core)
        return {**schema, RULES_KEY: [*schema.get(RULES_KEY, []), self.keyword()]}

    def _message_in_cel(self) -> str:
        """Spell out the message of each hint: the cost of literals is known to the API server."""
        allowed = f'", allowed: {self.allowed}'
        cases = "".join(
            f"self == {_quoted(wrong)} ? {_quoted(_FOUND + wrong + allowed + '; ' + better)} :\n"
            for wrong, better in self.hints.items()
        )
        return f"{cases}{_quoted(_FOUND)} + self + {_quoted(allowed)}"


def _refusal(*, found: str, allowed: str, at: str = "") -> PydanticCustomError:
    context = {"found": found, "allowed": allowed, "at": at}
    return PydanticCustomError("rule", "found {found}, allowed: {allowed}", context)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
