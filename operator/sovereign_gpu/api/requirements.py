"""What a policy asks of a pool beyond its country: predicates over the pool's attributes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sovereign_gpu.api.base import Spec
from sovereign_gpu.api.countrylist import Countries
from sovereign_gpu.api.rules import Unique
from sovereign_gpu.api.sovereignty import Holder, Purpose, Role, SchemeName, Trust

LeastTrust = Annotated[
    Trust,
    Field(
        description=(
            "Least trust that counts: Declared, then Observed, then Verified. An attribute whose "
            "validUntil has passed counts in no case."
        )
    ),
]


class RoleTest(Spec):
    """Who may have a part in running the pool."""

    role: Annotated[
        Role,
        Field(description="The role; a pool for which nobody is named in it is not admitted."),
    ]
    countries: Annotated[
        Countries, Field(description="Where the seat of every company in the role has to be.")
    ]
    parent_countries: Annotated[
        Countries | None,
        Field(
            description=(
                "Where the seat of its ultimate parent has to be; a company without one counts as "
                "its own. Anywhere if omitted."
            )
        ),
    ] = None
    trust: LeastTrust = "Declared"


class CertificationTest(Spec):
    """A certificate or report that the pool must have."""

    scheme: Annotated[SchemeName, Field(description="Scheme, as the pool spells it.")]
    versions: Annotated[
        tuple[SchemeName, ...],
        Field(max_length=16, description="Versions that count; any if empty."),
        Unique(),
    ] = ()
    types: Annotated[
        tuple[SchemeName, ...],
        Field(max_length=16, description="Kinds of report that count; any if empty."),
        Unique(),
    ] = ()
    trust: LeastTrust = "Declared"


class CountriesTest(Spec):
    """Where something has to be."""

    countries: Annotated[
        Countries,
        Field(
            description="Countries that count; every one that the pool names has to be among them."
        ),
    ]
    trust: LeastTrust = "Declared"


class KeysTest(Spec):
    """Who may hold the keys of data at rest, and where."""

    holders: Annotated[
        tuple[Holder, ...],
        Field(max_length=3, description="Holders that count; any if empty."),
        Unique(),
    ] = ()
    countries: Annotated[
        Countries | None, Field(description="Where the keys have to lie; anywhere if omitted.")
    ] = None
    trust: LeastTrust = "Declared"


class EndpointTest(Spec):
    """Where services that the machines talk to have to stand."""

    purpose: Annotated[Purpose, Field(description="What the services are for.")]
    countries: Annotated[Countries, Field(description="Where all of them have to stand.")]
    trust: LeastTrust = "Declared"


class Require(Spec):
    """What is asked of a pool besides its country; all of it must hold."""

    roles: Annotated[
        tuple[RoleTest, ...],
        Field(max_length=5, description="Seats of the companies that run the pool, by role."),
        Unique("role"),
    ] = ()
    certifications: Annotated[
        tuple[CertificationTest, ...],
        Field(max_length=16, description="Certificates that the pool must have, by scheme."),
        Unique("scheme"),
    ] = ()
    support: Annotated[
        CountriesTest | None,
        Field(description="Countries from which alone support may be given."),
    ] = None
    keys: Annotated[
        KeysTest | None, Field(description="Who may hold the keys of data at rest, and where.")
    ] = None
    endpoints: Annotated[
        tuple[EndpointTest, ...],
        Field(max_length=5, description="Where services have to stand, by purpose."),
        Unique("purpose"),
    ] = ()
    control_plane: Annotated[
        CountriesTest | None,
        Field(description="Countries in which API server and store have to run."),
    ] = None
    backup: Annotated[
        CountriesTest | None, Field(description="Countries in which all copies have to lie.")
    ] = None
