"""What is known of facilitators: each shipped reply means what its profile says; faults have a place."""

import contextlib
import dataclasses
import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardian.errors import PolicyError
from guardian.policy import profile as module
from guardian.policy.judge import Judgement, judge
from guardian.policy.profile import (
    NO_PROFILE,
    CatalogueEntry,
    Profile,
    load_profile,
    profile_at,
    shipped_directory,
    shipped_profiles,
)
from guardian.policy.rules import ActPolicy, Alert, ClassifyPolicy, Heard
from guardian.policy.schema import json_schema
from guardian.settlement.verdict import Operation, Outcome

ROOT = Path(__file__).parents[2]
PROFILES = shipped_profiles()
ENTRIES = [(name, entry) for name, profile in PROFILES.items() for entry in profile.catalogue]
NAMED = {
    "x402-python",
    "x402-typescript",
    "x402-go",
    "cdp",
    "x402-org",
    "circle",
    "payai",
    "x402-rs",
    "thirdweb",
    "openfacilitator",
}
SMALLEST = "version: 1\nname: mine\ntitle: Mine\n"


@dataclasses.dataclass(frozen=True)
class Judged:
    """A policy without rules of its own, for one facilitator."""

    profile: Profile
    classify: ClassifyPolicy = dataclasses.field(default_factory=ClassifyPolicy)
    act: ActPolicy = dataclasses.field(default_factory=ActPolicy)

    def profile_of(self, facilitator: str) -> Profile:
        return self.profile


def judged(profile: Profile, entry: CatalogueEntry) -> Judgement:
    heard = Heard(entry.operation, "main", status=entry.status, body=entry.body.encode())
    return judge(Judged(profile), heard)


def entry_id(value: object) -> str:
    if not isinstance(value, CatalogueEntry):
        return str(value)
    return f"{value.operation}-{value.status}-{value.body[:60]}"


def test_every_facilitator_that_is_named_has_a_profile() -> None:
    assert set(PROFILES) >= NAMED


@pytest.mark.parametrize(("name", "entry"), ENTRIES, ids=entry_id)
def test_every_reply_of_a_catalogue_means_what_it_says(name: str, entry: CatalogueEntry) -> None:
    verdict = judged(PROFILES[name], entry).verdict
    assert (verdict.outcome, verdict.alert) == (entry.class_, entry.alert), verdict.rule


@pytest.mark.parametrize("name", PROFILES)
def test_every_rule_of_a_profile_decides_a_reply_of_its_catalogue(name: str) -> None:
    profile = PROFILES[name]
    decided = {judged(profile, entry).verdict.rule for entry in profile.catalogue}
    assert {rule.name for rule in profile.classify} <= decided


@pytest.mark.parametrize("name", PROFILES)
def test_every_fact_has_its_source(name: str) -> None:
    profile = PROFILES[name]
    assert profile.sources
    for entry in profile.catalogue:
        assert entry.verbatim or entry.reading, f"say what {entry.body[:40]!r} was put together from"
    assert not {entry.body for entry in profile.catalogue} & {"{}"}


@pytest.mark.parametrize("name", PROFILES)
def test_what_a_profile_names_exists(name: str) -> None:
    assert set(PROFILES[name].failover_to or ()) <= set(PROFILES)
    assert all(rule.cure for rule in PROFILES[name].classify)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "policies/profiles").glob("*.yaml")), ids=lambda path: path.stem
)
def test_editors_find_the_schema(path: Path) -> None:
    assert path.read_text().startswith("# yaml-language-server: $schema=../profile.schema.json\n")


def test_the_shipped_schema_is_that_of_the_model() -> None:
    written = json.dumps(json_schema(Profile), indent=2, ensure_ascii=True) + "\n"
    assert (ROOT / "policies/profile.schema.json").read_text() == written


def test_every_key_of_a_profile_is_explained() -> None:
    schema = json_schema(Profile)
    sections = [schema, *schema["$defs"].values()]
    for section in sections:
        for key, field in section.get("properties", {}).items():
            assert field.get("description"), f"{section['title']}.{key}"


def test_billing_and_credentials_page_somebody() -> None:
    for name, statuses in {"cdp": {401, 402}, "thirdweb": {401, 402}, "circle": {401}}.items():
        found = [entry for entry in PROFILES[name].catalogue if entry.status in statuses]
        assert {entry.status for entry in found} == statuses
        assert {entry.alert for entry in found} == {Alert.PAGE}


def test_a_payment_bound_to_one_facilitator_goes_nowhere_else() -> None:
    assert PROFILES["circle-gateway"].failover_to == ()
    assert PROFILES["cdp"].failover_to is None


def test_known_limits_stand_in_the_profiles() -> None:
    cdp, payai = PROFILES["cdp"].limits, PROFILES["payai"].limits
    assert cdp.longest_description == 500
    assert cdp.minimum_amount is not None
    assert cdp.minimum_amount.in_atomic(6) == 1000
    assert cdp.pace is not None
    assert cdp.pace.count / cdp.pace.per_s == 50
    assert payai.pace == cdp.pace
    assert PROFILES["circle"].limits.needs_payment_id


def test_an_edge_page_is_transient_only_where_the_edge_is_known() -> None:
    page = Heard(
        Operation.SETTLE, "main", status=503, body=b"<html>503 Service Temporarily Unavailable</html>"
    )
    assert judge(Judged(PROFILES["payai"]), page).verdict.outcome is Outcome.TRANSIENT
    for profile in (NO_PROFILE, PROFILES["cdp"]):
        assert judge(Judged(profile), page).verdict.outcome is Outcome.SETTLEMENT


def test_a_402_is_a_bill_only_where_the_facilitator_sends_bills() -> None:
    bare = Heard(Operation.SETTLE, "main", status=402, body=b'{"error":"payment required"}')
    assert judge(Judged(PROFILES["cdp"]), bare).verdict.alert is Alert.PAGE
    assert judge(Judged(NO_PROFILE), bare).verdict.outcome is Outcome.SETTLEMENT


@pytest.mark.parametrize("name", PROFILES)
def test_a_rule_never_denies_what_shows_a_broadcast(name: str) -> None:
    """Whatever the status: with a hash, or a listed reason that says sent, only the chain decides."""
    bodies = [
        {"success": False, "errorReason": "settlement_pending", "transaction": ""},
        {"success": False, "errorReason": "x", "transaction": "0x" + "12" * 32},
        {"error": "Transaction broadcast but confirmation timed out"},
    ]
    for status in (200, 400, 401, 402, 403, 429, 500, 502, 503):
        for body in bodies:
            if status in (401, 402, 403, 429) and "error" in body:
                continue  # a shut door is no settle that began, whatever words it uses
            heard = Heard(Operation.SETTLE, "main", status=status, body=json.dumps(body).encode())
            assert judge(Judged(PROFILES[name]), heard).verdict.outcome is Outcome.SETTLEMENT


# Loading


def own(tmp_path: Path, text: str, name: str = "mine") -> PolicyError:
    (tmp_path / "profiles").mkdir(exist_ok=True)
    (tmp_path / "profiles" / f"{name}.yaml").write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_profile(name, tmp_path)
    assert caught.value.file == str(tmp_path / "profiles" / f"{name}.yaml")
    return caught.value


def test_a_shipped_profile_is_found_by_its_name() -> None:
    assert load_profile("cdp").title == PROFILES["cdp"].title


def test_a_profile_beside_the_policy_comes_before_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "cdp.yaml").write_text("version: 1\nname: cdp\ntitle: Ours\n")
    assert load_profile("cdp", tmp_path).title == "Ours"
    assert load_profile("payai", tmp_path) == PROFILES["payai"]


def test_an_unknown_name_is_answered_with_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no profile 'circel'; did you mean circle"):
        load_profile("circel")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "acme-pay.yaml").write_text(SMALLEST)
    with pytest.raises(PolicyError, match="did you mean acme-pay"):
        load_profile("acmepay", tmp_path)


@pytest.mark.parametrize("name", ["../profiles/cdp", "/etc/passwd", "", "cdp.yaml", "\0", "cdp\n"])
def test_a_name_leads_to_no_other_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no profile"):
        load_profile(name, tmp_path)


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("version: 2\nname: mine\ntitle: T\n", (1, 10), "write 1"),
        ("name: mine\ntitle: T\n", (1, 1), "version is missing"),
        ("[]", (1, 1), "a profile is a mapping"),
        ("version: 1\ntitle: T\n", (1, 1), "name is missing"),
        (SMALLEST + "clasify: []\n", (4, 1), "did you mean classify?"),
        (SMALLEST + "limits: {longest_descripton: 5}\n", (4, 10), "did you mean longest_description?"),
        (SMALLEST + "limits: {pace: 50}\n", (4, 16), "50 per s"),
        (SMALLEST + "limits: {minimum_amount: 5}\n", (4, 26), "$0.001"),
        (SMALLEST + "hosts: ['https://a.b/']\n", (4, 9), "without scheme"),
        (
            SMALLEST + "sources: [{id: a, kind: docs, of: yesterday, url: 'https://a'}]\n",
            (4, 35),
            "2026-08-20",
        ),
        (SMALLEST + "sources: [{id: a, kind: docs, of: 2026-01-02, url: a}]\n", (4, 52), "https://host/page"),
        (
            SMALLEST + "catalogue: [{operation: settle, body: '', class: sure, source: a}]\n",
            (4, 50),
            "did you mean success?",
        ),
        (SMALLEST + "classify: [{name: a, when: {status: 999}, class: permanent}]\n", (4, 37), "503"),
        ("version: 1\nname: other\ntitle: T\n", (2, 7), "write mine"),
        ("version: 1\nname: mine\ntitle: [\n", None, "not YAML"),
    ],
)
def test_a_fault_is_named_with_its_place_and_cure(
    tmp_path: Path, text: str, place: tuple[int, int] | None, said: str
) -> None:
    error = own(tmp_path, text)
    assert said in error.message
    assert place is None or (error.line, error.column) == place


def test_a_reply_names_a_source_that_stands_above_it(tmp_path: Path) -> None:
    text = (
        SMALLEST + "sources: [{id: page, kind: docs, of: 2026-01-02, url: 'https://a'}]\n"
        "catalogue:\n  - {operation: settle, body: '', class: settlement, source: pag}\n"
    )
    error = own(tmp_path, text)
    assert (error.line, error.column) == (6, 62)
    assert "did you mean page?" in error.message


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            "sources:\n  - {id: a, kind: docs, of: 2026-01-02, url: 'https://a'}\n"
            "  - {id: a, kind: code, of: 2026-01-02, url: 'https://b'}\n",
            (6, 10),
        ),
        (
            "classify:\n  - {name: a, when: {status: 401}, class: permanent}\n"
            "  - {name: a, when: {status: 403}, class: permanent}\n",
            (6, 12),
        ),
    ],
)
def test_nothing_has_the_name_of_another(tmp_path: Path, text: str, place: tuple[int, int]) -> None:
    error = own(tmp_path, SMALLEST + text)
    assert (error.line, error.column) == place
    assert "a second time" in error.message


@pytest.mark.parametrize(
    "when",
    ["{}", "{status: 500}", "{transport: timeout}", "{reason: settlement_pending}", "{history: in_doubt}"],
)
def test_a_profile_may_not_deny_a_broadcast_either(tmp_path: Path, when: str) -> None:
    error = own(tmp_path, SMALLEST + f"classify:\n  - {{name: a, when: {when}, class: permanent}}\n")
    assert error.line == 5
    assert "law" in error.message


def test_an_unreadable_profile_is_named(tmp_path: Path) -> None:
    (tmp_path / "profiles" / "mine.yaml").mkdir(parents=True)
    with pytest.raises(PolicyError, match="cannot read the profile: is a directory"):
        load_profile("mine", tmp_path)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=300))
def test_no_text_crashes_the_loader(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("own")
    (directory / "profiles").mkdir()
    (directory / "profiles" / "mine.yaml").write_text(SMALLEST + text, "utf-8", "surrogatepass")
    with contextlib.suppress(PolicyError):
        assert load_profile("mine", directory).name == "mine"


def test_a_facilitator_is_known_by_its_url() -> None:
    profiles = list(PROFILES.values())
    found = profile_at("https://API.CDP.coinbase.com/platform/v2/x402", profiles)
    assert found is PROFILES["cdp"]
    assert profile_at("http://127.0.0.1:18402", profiles) is None
    assert profile_at("https://api.cdp.coinbase.com.evil.example/", profiles) is None


def test_no_two_profiles_claim_one_host() -> None:
    hosts = [host for profile in PROFILES.values() for host in profile.hosts]
    assert len(hosts) == len(set(hosts))


def test_the_wheel_carries_the_shipped_policies() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert built["force-include"] == {"policies": "guardian/shipped"}


def test_an_installed_guardian_looks_into_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.resources, "files", lambda package: tmp_path / package)
    assert shipped_directory() == tmp_path / "policies"
    (tmp_path / "guardian" / "shipped").mkdir(parents=True)
    assert shipped_directory() == tmp_path / "guardian" / "shipped"
