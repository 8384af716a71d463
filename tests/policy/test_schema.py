"""The schema and the reference come from the models, and the shipped copies are current."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError

from guardian.policy.model import Policy
from guardian.policy.profile import Profile
from guardian.policy.reference import reference
from guardian.policy.schema import json_schema, sections_of
from guardian.policy.section import yaml_key
from guardian.policy.types import FROM_FILE

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / "policies").rglob("*.yaml"))


@pytest.mark.parametrize(("name", "model"), [("policy", Policy), ("profile", Profile)])
def test_the_shipped_schema_is_current(name: str, model: type[BaseModel]) -> None:
    shipped = json.loads((ROOT / "policies" / f"{name}.schema.json").read_text())
    assert shipped == json_schema(model), f"guardian policy schema > policies/{name}.schema.json"


def test_the_reference_in_the_docs_is_current() -> None:
    in_docs = (ROOT / "docs" / "policy.md").read_text().partition("<!-- reference -->\n")[2]
    assert in_docs.splitlines() == list(reference()), "guardian policy schema --markdown"


@pytest.mark.parametrize(
    "section", [*sections_of(Policy), *sections_of(Profile)], ids=lambda one: one.__name__
)
def test_every_key_says_what_it_does(section: type[BaseModel]) -> None:
    assert section.__doc__
    for name, field in section.model_fields.items():
        assert (field.description or "").endswith((".", "`.", ")")), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_shipped_file_names_its_schema(path: Path) -> None:
    kind = "profile" if path.parent.name == "profiles" else "policy"
    first = path.read_text().splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    named = path.parent / first.partition("=")[2]
    assert named.resolve() == ROOT / "policies" / f"{kind}.schema.json"


def test_defaults_are_written_as_the_file_writes_them() -> None:
    sections = json_schema()["$defs"]
    assert sections["SettlePolicy"]["properties"]["hold"]["default"] == "25s"
    assert sections["PreflightPolicy"]["properties"]["token_domain"]["default"] == "refuse"
    assert sections["FacilitatorPolicy"]["properties"]["weight"]["default"] == 1
    assert "default" not in sections["FacilitatorPolicy"]["properties"]["pace"]
    assert sections["NetworkPolicy"]["additionalProperties"] is False


def test_one_value_may_stand_where_a_list_could() -> None:
    one, many = json_schema()["$defs"]["When"]["properties"]["reason"]["anyOf"]
    assert (one["type"], many["type"], many["items"]) == ("string", "array", one)


_TOKEN = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
_WRITTEN: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 77, 78, 200, 503, 600, 0.5, 1.0, 1001, 10**7, 10**20),
    *("", "x", "1", "on", "yes", "Off", "off", "log", "503", "5xx", "main", "base", "Base", "a\nb"),
    *("25s", "25 s", " 25s ", "25\n", "0s", "0.0ms", "3650d", "1.5m", "25S", "1e3s", "1000000000000000s"),
    *("$1", "$ 1", "$0", "1 atomic", "1atomic", "1,0 atomic", "50 per s", "50/s", "50per s", "0 per s"),
    *("2x", "1.5 x", "0.5x", "eip155:1", "eip155:*", "solana:*", "eip155:08", "a b", "x" * 64, "x" * 301),
    *("http://h", "HTTPS://h/p", "http://h?", "http://u:p@h", "http://h/@a", "ws://h", "wss://h/k?a=b"),
    *(
        "/run/x",
        "KEY",
        "1KEY",
        _TOKEN,
        _TOKEN.lower(),
        "api.example.com",
        "10.0.0.0/8",
        "2026-08-20",
        "verify",
    ),
    *([], ["base"], ["verify"], [503, "5xx"], [None], ["main"] * 65, {}, {"env": "X"}, {"a": 1}),
    *({"env": "X", "file": "/x"}, {"do": "refuse", "mode": "shadow"}, {"do": "off", "mode": "log"}),
)
_NEEDED: dict[str, dict[str, Any]] = {
    "Policy": {"version": 1, "facilitators": [{"name": "main", "url": "http://h"}]},
    "FacilitatorPolicy": {"name": "main", "url": "http://h"},
    "RoutePolicy": {"name": "weather", "upstream": "http://h"},
    "ClassifyPolicy": {"default": {}},
    "ClassifyRule": {"name": "r", "when": {"operation": "verify"}, "class": "transient"},
    "ActPolicy": {"default": {}},
    "ActRule": {"name": "r", "when": {}},
    "Case": {"name": "t", "given": {}, "expect": {}},
    "AuthPolicy": {"bearer": {"env": "X"}},
    "SecretPlace": {"env": "X"},
    "HeaderAuth": {"name": "x-api-key", "value": {"env": "X"}},
    "CdpAuth": {"key_id": {"env": "A"}, "key_secret": {"env": "B"}},
    "CallerKey": {"name": "k", "key": {"env": "X"}},
    "WebhookPolicy": {
        "name": "w",
        "url": "http://h",
        "events": ["payment.unresolved"],
        "secret": {"env": "X"},
    },
    "SpendingRule": {"name": "s", "per_payment": "$1"},
    "Profile": {"version": 1, "name": "p", "title": "t"},
    "Source": {"id": "s", "url": "https://h", "of": "2026-08-20", "kind": "code"},
    "CatalogueEntry": {"operation": "settle", "body": "x", "class": "settlement", "source": "s"},
}


def _takes(section: type[BaseModel], data: dict[str, Any]) -> bool:
    try:
        section.model_validate(data, context=FROM_FILE, by_alias=True, by_name=False)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("root", "section"),
    [
        (root, one)
        for root in (Policy, Profile)
        for one in sections_of(root)
        if one is root or one.__name__ in json_schema(root)["$defs"]
    ],
    ids=lambda one: one.__name__,
)
def test_an_editor_marks_nothing_that_the_loader_takes(
    root: type[BaseModel], section: type[BaseModel]
) -> None:
    """`version` is left out: the loader looks at it before the model does."""
    schema = json_schema(root)
    here = schema if section is root else {"$ref": f"#/$defs/{section.__name__}", "$defs": schema["$defs"]}
    editor = Draft202012Validator(here)
    needed = _NEEDED.get(section.__name__, {})
    assert _takes(section, needed)
    assert editor.is_valid(needed)
    for key in {yaml_key(name) for name in section.model_fields} - {"version"}:
        for value in _WRITTEN:
            data = {**needed, key: value}
            assert editor.is_valid(data) or not _takes(section, data), (key, value)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("Layer", "settlement_timeout", "0s"),
        ("Layer", "settlement_timeout", "25"),
        ("DemandsPolicy", "largest_price_jump", "0.5x"),
        ("FacilitatorPolicy", "pace", "0 per s"),
        ("FacilitatorPolicy", "url", "http://u:p@h"),
        ("FacilitatorPolicy", "url", "h:8402"),
        ("NetworkPolicy", "rpc", ["ftp://h"]),
        ("NetworkPolicy", "finality", 0),
        ("When", "network", "eip155 1"),
        ("When", "reason", "two words"),
        ("When", "text", "ab"),
        ("When", "facilitator", []),
        ("TokenPolicy", "dollar", "true"),
        ("TokenPolicy", "decimals", "6"),
        ("CallerKey", "key", {}),
        ("CallerKey", "key", {"env": "X", "file": "/x"}),
    ],
)
def test_an_editor_marks_what_is_wrong_in_itself(section: str, key: str, value: Any) -> None:
    schema = json_schema()
    property = {"$ref": f"#/$defs/{section}/properties/{key}", "$defs": schema["$defs"]}
    assert not Draft202012Validator(property).is_valid(value)
