"""docs/facilitators.md: its table is that of the profiles, and its examples are sound."""

import re
from pathlib import Path

import pytest

from guardian.policy.load import parse_policy
from guardian.policy.profile import Profile, load_profile
from guardian.policy.rules import Alert
from guardian.policy.units import write_amount, write_pace
from guardian.settlement.verdict import Operation
from tests.policy.test_profiles import PROFILES, ROOT, judged

DOCS = ROOT / "docs" / "facilitators.md"


def row(profile: Profile) -> str:
    limits = profile.limits
    known = [
        f"at least {write_amount(limits.minimum_amount)}" if limits.minimum_amount else "",
        f"description up to {limits.longest_description} characters" if limits.longest_description else "",
        "a payment id" if limits.needs_payment_id else "",
        write_pace(limits.pace) if limits.pace else "",
    ]
    pages = sorted({str(entry.status) for entry in profile.catalogue if entry.alert is Alert.PAGE})
    read = {source.kind for source in profile.sources}
    to = "any" if profile.failover_to is None else ", ".join(profile.failover_to) or "none"
    cells = (
        f"`{profile.name}`",
        replies(profile, Operation.SETTLE),
        replies(profile, Operation.VERIFY),
        ", ".join(filter(None, known)) or "none known",
        ", ".join(pages) or "none",
        to,
        ", ".join([max(source.of for source in profile.sources), *sorted(read)]),
    )
    return f"| {' | '.join(cells)} |"


def replies(profile: Profile, operation: Operation) -> str:
    """`400 permanent; 500 settlement, permanent`: the classes that a status was seen to have."""
    found: dict[int, list[str]] = {}
    for entry in sorted(profile.catalogue, key=lambda entry: entry.status):
        if entry.operation is operation:
            classes = found.setdefault(entry.status, [])
            classes += [entry.class_.value] if entry.class_.value not in classes else []
    return "; ".join(f"{status} {', '.join(classes)}" for status, classes in found.items()) or "not listed"


def test_the_documented_table_is_that_of_the_profiles() -> None:
    table = [
        line for line in DOCS.read_text().splitlines() if line.startswith("| `") and line.count("|") == 8
    ]
    assert table == [row(profile) for _, profile in sorted(PROFILES.items())]


def examples(kind: str) -> list[str]:
    found = re.findall(r"^```yaml\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    return [text for text in found if ("\ntitle:" in text) == (kind == "profile")]


@pytest.mark.parametrize("text", examples("policy"))
def test_every_documented_policy_is_sound(text: str) -> None:
    assert parse_policy(text).facilitators


@pytest.mark.parametrize("text", examples("profile"))
def test_every_documented_profile_is_sound(text: str, tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "acme.yaml").write_text(text)
    profile = load_profile("acme", tmp_path)
    for entry in profile.catalogue:
        assert judged(profile, entry).verdict.outcome is entry.class_


def test_the_documents_show_both_kinds_of_file() -> None:
    assert examples("policy")
    assert examples("profile")
