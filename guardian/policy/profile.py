"""What is known of one kind of facilitator, as data: dialect, limits, bills, where else to go.

The files are policies/profiles/<name>.yaml, in a wheel guardian/shipped/profiles; an operator's own stand
in `profiles/` beside the policy file and come before the shipped ones. Models and loading; what follows
from a profile is decided in judge.py (replies) and in the flows (limits, failover).
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from guardian.errors import PolicyError
from guardian.policy.cases import HttpStatus
from guardian.policy.lawful import Unlawful, refuse_unlawful_profile
from guardian.policy.rules import Alert, ClassifyRule
from guardian.policy.section import Section
from guardian.policy.tree import read_tree
from guardian.policy.types import (
    AmountValue,
    Count,
    Flag,
    Misplaced,
    Name,
    PaceValue,
    Sentence,
    Written,
    nearest,
)
from guardian.policy.units import show
from guardian.policy.validate import error_at, read_text, validated, write_path
from guardian.settlement.verdict import Operation, Outcome

MAX_PROFILES: Final = 256
"""Files looked at in one directory; an operator has a handful."""

_DAY = re.compile(r"20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", re.ASCII)
_HOST = re.compile(r"(?!-)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){1,8}", re.ASCII)


def _day(value: object) -> str:
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        raise ValueError(f"{show(value)} is not a day; write it like 2026-08-20")
    return value


def _host(value: object) -> str:
    if not isinstance(value, str) or not _HOST.fullmatch(value):
        raise ValueError(f"{show(value)} is not a host; write it in lower case, without scheme, port or path")
    return value


def _address(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("https://") or not value.isprintable():
        raise ValueError(f"{show(value)} is not an address to read; write it like https://host/page")
    return value


def _body(value: object) -> str:
    if not isinstance(value, str) or len(value) > 8192:
        raise ValueError(f"{show(value)} is not a body; quote it, or write it as a block after |")
    return value


Day = Annotated[
    str, BeforeValidator(_day), WithJsonSchema({"type": "string", "pattern": f"^{_DAY.pattern}$"})
]
Host = Annotated[
    str, BeforeValidator(_host), WithJsonSchema({"type": "string", "pattern": f"^{_HOST.pattern}$"})
]
Address = Annotated[
    str,
    BeforeValidator(_address),
    WithJsonSchema({"type": "string", "format": "uri", "pattern": "^https://"}),
]
Body = Annotated[str, BeforeValidator(_body), WithJsonSchema({"type": "string", "maxLength": 8192})]


class Source(Section):
    """Where a fact was read, and when."""

    id: Name = Field(description="What the catalogue calls it.")
    url: Address = Field(description="The page, file or thread.")
    of: Day = Field(description="The day of that version, or the day it was read: `2026-08-20`.")
    kind: Literal["code", "docs", "issue", "measured"] = Field(
        description="How sure it is: code that was read, a vendor's page, a report, or run and seen."
    )


class CatalogueEntry(Section):
    """One reply as this facilitator sends it, and what it means. A test judges every one."""

    operation: Operation = Field(description="What was asked: verify or settle.")
    status: HttpStatus = Field(default=200, description="The HTTP status of the reply.")
    body: Body = Field(description="The body, as it stands in the source; 0x... stays 0x....")
    verbatim: Flag = Field(
        default=True, description="false: put together from a schema or a description of the reply."
    )
    class_: Outcome = Field(description="What it means for the money: the class it must be given.")
    alert: Alert = Field(default=Alert.OFF, description="Who must be told of it.")
    source: Name = Field(description="The id of the source it was read in.")
    reading: Sentence = Field(default="", description="Why it means that, where it is not plain.")


class Limits(Section):
    """What this facilitator refuses before it looks further. The policy's own values come first."""

    minimum_amount: Annotated[AmountValue | None, Written] = Field(
        default=None, description="The least it settles, `$0.001` or `1000 atomic`; default: none known."
    )
    longest_description: Annotated[Count | None, Written] = Field(
        default=None, description="Characters that `description` may have; default: no limit known."
    )
    needs_payment_id: Flag = Field(
        default=False,
        description="Without a payment-identifier extension a repeat may be taken for a new charge.",
    )
    pace: Annotated[PaceValue | None, Written] = Field(
        default=None, description="Requests that it takes, like `50 per s`; default: no limit known."
    )


class Profile(Section):
    """One kind of facilitator: what a name under `profile:` of the policy stands for."""

    version: Literal[1] = Field(description="The version of this format: 1.")
    name: Name = Field(description="The name that a policy uses; the file is called `<name>.yaml`.")
    title: Sentence = Field(description="What it is, in a few words.")
    hosts: tuple[Host, ...] = Field(
        default=(), max_length=32, description="Where it answers, to know it by its URL."
    )
    sources: tuple[Source, ...] = Field(
        default=(), max_length=64, description="Where all this was read, and when."
    )
    classify: tuple[ClassifyRule, ...] = Field(
        default=(),
        max_length=64,
        description="What its statuses and texts mean where it has a dialect of its own; the policy's "
        "rules come before, the built-in classification after them.",
    )
    catalogue: tuple[CatalogueEntry, ...] = Field(
        default=(), max_length=256, description="Its replies, word for word, each with its class."
    )
    limits: Limits = Field(default=Limits(), description="What it refuses before it looks further.")
    failover_to: Annotated[tuple[Name, ...] | None, Written] = Field(
        default=None,
        max_length=64,
        description="Profiles that take the same signed payment, `[]` for none; default: any.",
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        known = [source.id for source in self.sources]
        _refuse_second(known, "sources", "id")
        _refuse_second([rule.name for rule in self.classify], "classify", "name")
        for index, entry in enumerate(self.catalogue):
            if entry.source not in known:
                message = f"no source {show(entry.source)}; {nearest(entry.source, known)}"
                raise Misplaced(("catalogue", index, "source"), message)
        return self


def _refuse_second(names: list[str], section: str, key: str) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise Misplaced((section, index, key), f"{show(name)} stands here a second time; choose another")


NO_PROFILE: Final = Profile.model_construct(version=1, name="", title="")
"""Nothing is known of the facilitator beyond the protocol."""


def load_profile(name: str, beside: Path | None = None) -> Profile:
    """The profile of a name: from `profiles/` in the directory `beside`, else a shipped one.

    Raises PolicyError: for an unknown name without a place, else with the place in the profile's file.
    """
    own = _files(beside / "profiles") if beside else {}
    if name in own:
        return read_profile(own[name])
    shipped = shipped_profiles()
    if name in shipped:
        return shipped[name]
    raise PolicyError(f"no profile {show(name)}; {nearest(name, sorted({*own, *shipped}))}")


@lru_cache(maxsize=1)
def shipped_profiles() -> dict[str, Profile]:
    """The profiles that come with the guardian, by name."""
    return {name: read_profile(path) for name, path in _files(shipped_directory() / "profiles").items()}


def shipped_directory() -> Path:
    """Where the shipped policies are: in the package when installed, else beside it in the checkout."""
    package = Path(str(resources.files("guardian")))
    packed = package / "shipped"
    return packed if packed.is_dir() else package.parent / "policies"


def profile_at(url: str, profiles: Iterable[Profile]) -> Profile | None:
    """The profile whose host a facilitator's URL has, to be proposed where the policy names none."""
    host = (urlsplit(url).hostname or "").lower()
    return next((profile for profile in profiles if host in profile.hosts), None)


def read_profile(path: Path) -> Profile:
    """The profile in a file; raises PolicyError with file, line and column."""
    tree = read_tree(read_text(path, "profile"), str(path))
    profile = validated(Profile, tree, "profile")
    if profile.name != path.stem:
        message = f"name: {show(profile.name)} is not the name of the file; write {path.stem}"
        raise error_at(tree, ("name",), message)
    try:
        refuse_unlawful_profile(profile)
    except Unlawful as fault:
        raise error_at(tree, fault.at, f"{write_path(fault.at)}: {fault}") from fault
    return profile


def _files(directory: Path) -> dict[str, Path]:
    """Profile files by name. Only listed files are opened, so that a name cannot lead elsewhere."""
    try:
        found = sorted(directory.glob("*.yaml"))[:MAX_PROFILES]
    except OSError:
        return {}
    return {path.stem: path for path in found}
