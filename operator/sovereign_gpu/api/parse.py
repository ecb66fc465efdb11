"""From a stored object to a model, once, at the rim.

The API server has checked stored objects, but against the definitions of their day: an
upgrade, a restore or a hand-made definition can leave objects that today's models refuse.
That is a condition on the object, never a crash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, overload

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sovereign_gpu.api.base import Resource
from sovereign_gpu.api.dataresidencypolicy import DataResidencyPolicy
from sovereign_gpu.api.gpupool import GpuPool
from sovereign_gpu.api.tenantquota import TenantQuota

KINDS: dict[str, type[Resource]] = {
    kind.__name__: kind for kind in (GpuPool, TenantQuota, DataResidencyPolicy)
}
_LONGEST_FOUND = 80
_MAX_PROBLEMS = 8


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one field."""

    field: str
    """Path as in the manifest, such as `spec.pools[0].guaranteed`."""
    found: str
    allowed: str

    def __str__(self) -> str:
        """Return one line for a condition message."""
        return f"{self.field}: found {self.found}, allowed: {self.allowed}"


class InvalidObjectError(ValueError):
    """A stored object that cannot be acted on."""

    def __init__(self, kind: str, name: str, problems: tuple[Problem, ...]) -> None:
        """Say all that is wrong, so that it can be corrected in one go."""
        super().__init__(f"{kind} {name}: " + "; ".join(map(str, problems)))
        self.kind = kind
        self.name = name
        self.problems = problems


@overload
def parse(kind: Literal["GpuPool"], body: Mapping[str, Any]) -> GpuPool: ...
@overload
def parse(kind: Literal["TenantQuota"], body: Mapping[str, Any]) -> TenantQuota: ...
@overload
def parse(kind: Literal["DataResidencyPolicy"], body: Mapping[str, Any]) -> DataResidencyPolicy: ...
def parse(kind: str, body: Mapping[str, Any]) -> Resource:
    """Read a stored object.

    A status that cannot be read is treated as absent: the operator is about to write a new
    one, and a bad old one must not keep it from that.

    Args:
        kind: one of the three kinds.
        body: the object as the API server returns it; any mapping, not only a dict.

    Returns:
        The model of the kind.

    Raises:
        InvalidObjectError: metadata or spec is not valid; `problems` has every field.
        KeyError: there is no such kind.
    """
    model = KINDS[kind]
    content = {key: body[key] for key in ("metadata", "spec", "status") if key in body}
    try:
        return model.model_validate(content)
    except ValidationError as error:
        details = error.errors(include_url=False)
    wrong = [detail for detail in details if detail["loc"][:1] != ("status",)]
    if not wrong:
        return model.model_validate({**content, "status": {}})
    problems = tuple(_problem(detail) for detail in wrong[:_MAX_PROBLEMS])
    raise InvalidObjectError(kind, _name(content), problems)


def _name(content: Mapping[str, Any]) -> str:
    metadata = content.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    return _shortened(str(name)) if name else "without a name"


def _problem(detail: ErrorDetails) -> Problem:
    context = detail.get("ctx", {})
    field = _path(detail["loc"])
    match detail["type"]:
        case "rule":
            if context["at"]:
                field = f"{field}.{context['at']}".lstrip(".")
            return Problem(field, context["found"], context["allowed"])
        case "missing":
            return Problem(field, "nothing", "a value; the field is required")
        case "extra_forbidden":
            return Problem(field, "an unknown field", "the fields of this version")
        case "literal_error" | "enum":
            return Problem(field, _shown(detail["input"]), f"one of {context['expected']}")
    return Problem(field, _shown(detail["input"]), _as_requirement(detail["msg"]))


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path.lstrip(".")


def _as_requirement(message: str) -> str:
    """Turn pydantic's "Input should be a valid integer" into "a valid integer"."""
    for start in ("Input should be ", "String should "):
        message = message.removeprefix(start)
    return message


def _shown(value: Any) -> str:
    return _shortened(repr(value) if isinstance(value, str) else str(value))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_FOUND else text[:_LONGEST_FOUND] + "…"
