"""What a pool says of itself beyond its country: who runs it, who could reach it, who vouches.

Every attribute carries how far it can be trusted and where the evidence lies. There is no field
"sovereign": a DataResidencyPolicy asks for single attributes, and each answer has its own reason.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from sovereign_gpu.api.base import Country, Spec
from sovereign_gpu.api.rules import Extra, Rule, Unique

Trust = Literal["Declared", "Observed", "Verified"]
Role = Literal["DataCentreOperator", "CloudOperator", "Support", "HardwareVendor", "SoftwareVendor"]
Purpose = Literal["Telemetry", "Licence", "Registry", "Time", "Names"]
Holder = Literal["Customer", "Provider", "ThirdParty"]

LEI = "^[A-Z0-9]{18}[0-9]{2}$"
SCHEME = "^[A-Za-z0-9]([-A-Za-z0-9_.+]*[A-Za-z0-9])?$"
MAX_SCHEME = 63

SchemeName = Annotated[str, Field(min_length=1, max_length=MAX_SCHEME, pattern=SCHEME)]
Day = Annotated[date, Extra({"maxLength": 10})]
Text = Annotated[str, Field(min_length=1, max_length=256)]

CountryList = Annotated[tuple[Country, ...], Field(min_length=1, max_length=64), Unique()]


class Evidence(Spec):
    """Where the evidence lies, and the digest that shows that it is still the same."""

    uri: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            pattern="^[a-z][a-z0-9+.-]*:[^ ]+$",
            description="Where the document can be read, as a URI.",
        ),
    ]
    sha256: Annotated[
        str,
        Field(
            pattern="^[0-9a-f]{64}$",
            max_length=64,
            description="SHA-256 of the document, in hexadecimal digits.",
        ),
    ]


class Attribute(Spec):
    """Base of every attribute: how far it can be trusted, until when, and why."""

    rules = (
        Rule(
            cel="self.trust != 'Verified' || (has(self.evidence) && has(self.verifiedBy))",
            holds=lambda a: a.trust != "Verified" or bool(a.evidence and a.verified_by),
            found="Verified without evidence and verifiedBy",
            allowed="Verified with both, or Declared or Observed",
            at="trust",
        ),
    )

    trust: Annotated[
        Trust,
        Field(
            description=(
                "How far the attribute can be trusted. Declared: somebody says so. Observed: it "
                "was seen by measuring or by reading settings. Verified: a third party has "
                "confirmed it; needs evidence and verifiedBy."
            )
        ),
    ] = "Declared"
    verified_by: Annotated[
        Text | None, Field(description="Who confirmed it, such as the auditor's name.")
    ] = None
    valid_until: Annotated[
        Day | None,
        Field(
            description=(
                "Last day on which the attribute counts, as YYYY-MM-DD in UTC. Thirty days ahead "
                "the condition Expiring warns; from the day after, policies that ask for it no "
                "longer admit the pool, and running pods are judged as on any other drift."
            )
        ),
    ] = None
    evidence: Annotated[
        Evidence | None, Field(description="Document that the attribute rests on.")
    ] = None


class Parent(Spec):
    """A company that controls another one."""

    legal_name: Annotated[Text, Field(description="Registered name of the company.")]
    lei: Annotated[
        str | None,
        Field(
            pattern=LEI, max_length=20, description="Legal Entity Identifier (ISO 17442), 20 signs."
        ),
    ] = None
    country: Annotated[Country, Field(description="Country of its seat: ISO 3166-1 alpha-2.")]


class Company(Attribute):
    """A company that has a part in running the pool."""

    legal_name: Annotated[Text, Field(description="Registered name of the company.")]
    lei: Annotated[
        str | None,
        Field(
            pattern=LEI, max_length=20, description="Legal Entity Identifier (ISO 17442), 20 signs."
        ),
    ] = None
    country: Annotated[Country, Field(description="Country of its seat: ISO 3166-1 alpha-2.")]
    roles: Annotated[
        tuple[Role, ...],
        Field(
            min_length=1,
            max_length=5,
            description=(
                "What the company does for the pool. DataCentreOperator: runs the building. "
                "CloudOperator: runs cluster and machines. Support: may be called to help. "
                "HardwareVendor, SoftwareVendor: made what runs there."
            ),
        ),
        Unique(),
    ]
    ultimate_parent: Annotated[
        Parent | None,
        Field(
            description=(
                "The company at the top of the group, whose law may reach the data. Leave it out "
                "if nobody controls the company; it then counts as its own parent."
            )
        ),
    ] = None


class Certification(Attribute):
    """A certificate or report on the pool's operation."""

    scheme: Annotated[SchemeName, Field(description="Scheme, such as BSI-C5 or ISO-27001.")]
    version: Annotated[
        SchemeName | None, Field(description="Version of the scheme, such as 2020.")
    ] = None
    type: Annotated[SchemeName | None, Field(description="Kind of report, such as Type2.")] = None
    valid_from: Annotated[
        Day | None, Field(description="First day on which it counts, as YYYY-MM-DD in UTC.")
    ] = None


class Support(Attribute):
    """From where people may reach the machines."""

    countries: Annotated[
        CountryList, Field(description="Countries from which support is given, remote included.")
    ]


class Keys(Attribute):
    """Who holds the keys of data at rest."""

    holder: Annotated[Holder, Field(description="Who can use the keys.")]
    country: Annotated[Country, Field(description="Where the keys lie: ISO 3166-1 alpha-2.")]


class Endpoint(Attribute):
    """Services that the machines talk to."""

    purpose: Annotated[
        Purpose,
        Field(
            description=(
                "What they are for. Telemetry: metrics, logs, traces. Licence: licence servers. "
                "Registry: images. Time: NTP. Names: DNS."
            )
        ),
    ]
    countries: Annotated[CountryList, Field(description="Countries in which they stand.")]
    hosts: Annotated[
        tuple[Text, ...],
        Field(max_length=32, description="Names of the hosts, for reports."),
        Unique(),
    ] = ()


class ControlPlane(Attribute):
    """Where the API server and its store run."""

    country: Annotated[Country, Field(description="Country in which they run.")]


class Backup(Attribute):
    """Where copies of the cluster's state and of volumes lie."""

    countries: Annotated[CountryList, Field(description="Countries in which copies lie.")]


class Sovereignty(Spec):
    """What is said of the pool beyond its country."""

    companies: Annotated[
        tuple[Company, ...],
        Field(
            max_length=32,
            description="Companies that have a part in running the pool, each with its roles.",
        ),
        Unique("legalName"),
    ] = ()
    certifications: Annotated[
        tuple[Certification, ...],
        Field(max_length=32, description="Certificates and reports, one per scheme."),
        Unique("scheme"),
    ] = ()
    support: Annotated[
        Support | None, Field(description="From where people may reach the machines.")
    ] = None
    keys: Annotated[Keys | None, Field(description="Who holds the keys of data at rest.")] = None
    endpoints: Annotated[
        tuple[Endpoint, ...],
        Field(max_length=8, description="Services that the machines talk to, by purpose."),
        Unique("purpose"),
    ] = ()
    control_plane: Annotated[
        ControlPlane | None, Field(description="Where the API server and its store run.")
    ] = None
    backup: Annotated[Backup | None, Field(description="Where copies lie.")] = None
