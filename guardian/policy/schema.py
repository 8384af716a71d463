"""The JSON Schema of policy and profile files, for editors, with defaults as the files write them. No I/O."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from guardian.policy.checks import CheckPolicy
from guardian.policy.model import Policy
from guardian.policy.section import Section, yaml_key
from guardian.policy.units import Amount, Pace, Times
from guardian.policy.words import words

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(model: type[BaseModel] = Policy) -> dict[str, Any]:
    """The JSON Schema of a kind of file; a key's text and default are those of the model's field."""
    schema = model.model_json_schema(by_alias=True)
    by_name = {section.__name__: section for section in sections_of(model)}
    for name, part in [(model.__name__, schema), *schema.get("$defs", {}).items()]:
        if name not in by_name:
            continue  # an enum
        for attribute, field in by_name[name].model_fields.items():
            _tidy(part["properties"][yaml_key(attribute)], attribute, field)
    return {"$schema": DIALECT, **schema}


def sections_of(model: Any) -> Iterator[type[BaseModel]]:
    """A model and all those inside it, each once, in the order they are met."""
    seen: dict[type[BaseModel], None] = {}
    _collect(model, seen)
    yield from seen


def _collect(annotation: Any, seen: dict[type[BaseModel], None]) -> None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation in seen:
            return
        seen[annotation] = None
        for field in annotation.model_fields.values():
            _collect(field.annotation, seen)
    for inner in get_args(annotation):
        _collect(inner, seen)


def _tidy(part: dict[str, Any], attribute: str, field: FieldInfo) -> None:
    """Without the titles that repeat the key, without `null`, which no file may write, and with the
    default as a file writes it."""
    part.pop("title", None)
    if "anyOf" in part and {"type": "null"} in part["anyOf"]:
        kinds = [one for one in part.pop("anyOf") if one != {"type": "null"}]
        part.update(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})
    part.pop("default", None)
    if not field.is_required() and (default := written_default(attribute, field.default)) is not None:
        part["default"] = default


def written_default(attribute: str, default: Any) -> Any:
    """A default as JSON; None where there is none to write: a section's keys have their own."""
    if default is None or default == () or default == {} or default == "":
        return None
    if isinstance(default, CheckPolicy | Amount | Pace | Times) or attribute.endswith("_s"):
        return words(attribute, default)
    if isinstance(default, Section):
        return None
    return default
