"""A list of countries, as policies write it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sovereign_gpu.api.base import Country, Spec
from sovereign_gpu.api.rules import Rule, Unique
from sovereign_gpu.core import countries

SetName = Literal[
    "EU",
    "EEA",
    "EEA_CH",
    "ADEQUATE",
    "EU@2020-02-01",
    "EEA@2020-02-01",
    "EEA_CH@2020-02-01",
    "ADEQUATE@2021-12-17",
    "ADEQUATE@2026-01-26",
]


class Countries(Spec):
    """The countries that are allowed: sets, and include, without exclude."""

    rules = (
        Rule(
            cel=(
                "(has(self.sets) && self.sets.size() > 0) ||\n"
                "(has(self.include) && self.include.size() > 0)"
            ),
            holds=lambda c: bool(c.sets or c.include),
            found="an empty allow-list in countries",
            allowed="at least one entry in sets or include, such as sets: [EU]",
            at="sets",
        ),
    )

    sets: Annotated[
        tuple[SetName, ...],
        Field(
            max_length=8,
            description=(
                "Sets of countries. EU: the 27 member states as of 2020-02-01. EEA: these, "
                "Iceland, Liechtenstein and Norway. EEA_CH: these and Switzerland. ADEQUATE: "
                "countries with a decision under Article 45 GDPR, none of them in the EU. A name "
                "alone means the newest version that the operator knows; with a day, such as "
                "EU@2020-02-01, always the same countries. Territories with a code of their own "
                "(such as RE or AX) are in no set: use include."
            ),
        ),
        Unique(),
    ] = ()
    include: Annotated[
        tuple[Country, ...],
        Field(
            max_length=249,
            description="Countries allowed besides the sets: ISO 3166-1 alpha-2 codes.",
        ),
        Unique(),
    ] = ()
    exclude: Annotated[
        tuple[Country, ...],
        Field(
            max_length=249,
            description=(
                "Countries not allowed, whatever sets and include say: ISO 3166-1 alpha-2 codes."
            ),
        ),
        Unique(),
    ] = ()

    def resolved(self) -> frozenset[str]:
        """Return the codes of the allowed countries; empty if everything is excluded."""
        return countries.resolve(self.sets, self.include, self.exclude)
