"""What is known of one kind of facilitator, as data: dialect, limits, bills, where else to go.

The files are policies/profiles/<name>.yaml. Models and loading; what follows from a profile is decided
in judge.py (replies) and in the flows (limits, failover).
"""

from pydantic import Field

from guardian.policy.rules import ClassifyRule
from guardian.policy.section import Section
from guardian.policy.types import Count, Name, Sentence


class Source(Section):
    """Where a fact was read, and when. of: `YYYY-MM-DD`."""

    url: str
    of: str


class CatalogueEntry(Section):
    """One reply as this facilitator sends it, and what it means. A test judges every one."""

    operation: str
    status: int = 200
    body: str
    class_: str
    source: Sentence = ""


class Limits(Section):
    """What this facilitator refuses before it looks further."""

    minimum_amount: str = ""
    longest_description: Count | None = None
    needs_payment_id: bool = False
    pace: str = ""


class Profile(Section):
    """One kind of facilitator."""

    version: int
    name: Name
    title: Sentence
    hosts: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    classify: tuple[ClassifyRule, ...] = ()
    catalogue: tuple[CatalogueEntry, ...] = ()
    limits: Limits = Limits()
    failover_to: tuple[Name, ...] = Field(default=())
