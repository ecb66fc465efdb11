"""What the three kinds share: frozen models, names, counts, countries and conditions.

Spec models refuse unknown fields: a field that this version does not know may be the one that
keeps data in the country, so reading on without it would be the wrong kind of lenient. Status
models and metadata ignore them, since nothing is decided by them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import core_schema

from sovereign_gpu.api.rules import RULES_KEY, Extra, Rule, Unique
from sovereign_gpu.core.countries import HINTS, ISO_COUNTRIES

DNS_LABEL = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
LABEL_VALUE = "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
MAX_LABEL = 63
MAX_GPUS = 1_000_000
"""No fleet is larger; a slip of the finger is."""


class Model(BaseModel):
    """Base of every part of a manifest: camelCase outside, snake_case inside, frozen."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, frozen=True
    )
    rules: ClassVar[tuple[Rule, ...]] = ()
    """Rules over several fields of this object."""

    @model_validator(mode="after")
    def _follow_rules(self) -> Self:
        for rule in type(self).rules:
            rule.check(self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Add the rules of the class to its schema."""
        schema = handler(core)
        if cls.rules:
            target = handler.resolve_ref_schema(schema)
            target[RULES_KEY] = [rule.keyword() for rule in cls.rules]
        return schema

    def wire(self) -> dict[str, Any]:
        """Return the JSON object that the API server stores, without fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Spec(Model):
    """Base of what users write."""

    model_config = ConfigDict(extra="forbid")


class Status(Model):
    """Base of what the operator reports."""

    model_config = ConfigDict(extra="ignore")


class ObjectMeta(Model):
    """The part of the metadata that the operator reads."""

    model_config = ConfigDict(extra="ignore")

    name: str
    uid: str = ""
    generation: int = 0
    resource_version: str = ""


def seconds(moment: datetime) -> str:
    """Return a moment as Kubernetes writes it: RFC 3339 in UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Count = Annotated[int, Field(strict=True, ge=0, le=2**53), Extra({"format": "int64"})]
"""How many; never negative."""

ObjectName = Annotated[str, Field(min_length=1, max_length=63, pattern=DNS_LABEL)]
"""Name of an object of ours or of a namespace: a DNS label, so it is also a label value."""

LabelText = Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL_VALUE)]
"""A label value that is not empty: no comma, no asterisk, no space."""


def _in_cel(codes: frozenset[str]) -> str:
    words = [f"'{code}'" for code in sorted(codes)]
    lines = [", ".join(words[start : start + 12]) for start in range(0, len(words), 12)]
    return "self in [\n  " + ",\n  ".join(lines) + "]"


Country = Annotated[
    str,
    Field(max_length=64),  # longer than a code, so that "Germany" gets our answer
    Rule(
        cel=_in_cel(ISO_COUNTRIES),
        holds=ISO_COUNTRIES.__contains__,
        allowed="an ISO 3166-1 alpha-2 country code in capitals, such as DE or FR",
        hints=HINTS,
    ),
]
"""An ISO 3166-1 alpha-2 code. Nothing else: EL and UK are answered with a hint."""


class Condition(Status):
    """One aspect of the state of the object, in the shape that all of Kubernetes uses."""

    type: Annotated[
        str,
        Field(
            max_length=316,
            pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
            description="Name of the aspect, such as Ready; there is one entry for each.",
        ),
    ]
    status: Annotated[
        Literal["True", "False", "Unknown"],
        Field(description="Whether the condition holds; Unknown until it has been examined."),
    ]
    observed_generation: Annotated[
        Count | None,
        Field(description="The metadata.generation that the condition was set upon."),
    ] = None
    last_transition_time: Annotated[
        AwareDatetime,
        PlainSerializer(seconds),
        Field(description="When the status last changed from one value to another."),
    ]
    reason: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            description="One CamelCase word for programs: why the status is what it is.",
        ),
    ]
    message: Annotated[
        str,
        Field(max_length=32768, description="The same for people, with names and numbers."),
    ] = ""


Conditions = Annotated[
    tuple[Condition, ...],
    Field(max_length=32),
    Unique("type"),
]

ObservedGeneration = Annotated[
    Count,
    Field(
        description=(
            "The metadata.generation that this status describes. While it is lower than "
            "metadata.generation, the operator has not yet acted on the last change of spec."
        )
    ),
]


@dataclass(frozen=True)
class Column:
    """A printer column of `kubectl get`."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False
    """Shown with `-o wide` only."""


@dataclass(frozen=True)
class Naming:
    """How a kind is called in URLs and on the command line, and what `kubectl get` shows."""

    plural: str
    singular: str
    short: str
    columns: tuple[Column, ...]


def _is_dns_label(name: str) -> bool:
    return len(name) <= MAX_LABEL and re.fullmatch(DNS_LABEL, name) is not None


_NAME_RULE = Rule(
    cel=f"self.metadata.name.size() <= 63 && self.metadata.name.matches('{DNS_LABEL}')",
    holds=lambda resource: _is_dns_label(resource.metadata.name),
    found="a name that cannot be a label",
    allowed=(
        "a DNS label of at most 63 characters (a to z, 0 to 9 and -), as the name becomes a label"
    ),
    at="metadata.name",
)


class Resource(Model):
    """Base of the three kinds."""

    model_config = ConfigDict(extra="ignore")
    naming: ClassVar[Naming]
    rules: ClassVar[tuple[Rule, ...]] = (_NAME_RULE,)

    metadata: ObjectMeta

    @property
    def name(self) -> str:
        """The name of the object."""
        return self.metadata.name
