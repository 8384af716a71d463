"""The schema and the reference come from the models, and the shipped copies are current."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from guardian.policy.model import Policy
from guardian.policy.profile import Profile
from guardian.policy.reference import reference
from guardian.policy.schema import json_schema, sections_of

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
