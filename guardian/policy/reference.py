"""The key-by-key reference as Markdown, from the same models as the JSON Schema. No I/O."""

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from guardian.policy.checks import CheckPolicy
from guardian.policy.model import Policy
from guardian.policy.schema import json_schema, sections_of, written_default
from guardian.policy.section import yaml_key
from guardian.policy.units import AMOUNT_PATTERN, DELAY_PATTERN, DURATION_PATTERN, PACE_PATTERN, TIMES_PATTERN

_TITLES = {
    "Policy": "The policy file",
    "Layer": "Every layer",
    "FacilitatorPolicy": "`facilitators`",
    "NetworkPolicy": "`networks`",
    "TokenPolicy": "`networks.<id>.tokens`",
    "RoutePolicy": "`routes`",
    "SettlePolicy": "`settle`",
    "CircuitPolicy": "`circuit`",
    "RetryPolicy": "`retry`",
    "PreflightPolicy": "`preflight`",
    "DemandsPolicy": "`demands`",
    "OffersPolicy": "`offers`",
    "AuthPolicy": "`facilitators.auth`",
    "SecretPlace": "Where a secret stands",
    "HeaderAuth": "`facilitators.auth.header`",
    "CdpAuth": "`facilitators.auth.cdp`",
    "CallersPolicy": "`callers`",
    "CallerKey": "`callers.keys`",
    "WebhookPolicy": "`webhooks`",
    "SpendingPolicy": "`spending`",
    "SpendingRule": "`spending.rules`",
    "About": "`spending.rules.for`",
    "ClassifyPolicy": "`classify`",
    "ClassifyRule": "`classify.rules`",
    "ClassifyDefault": "`classify.default`",
    "When": "`classify.rules.when`",
    "ActPolicy": "`act`",
    "ActRule": "`act.rules`",
    "Action": "`act.default`",
    "WhenClass": "`act.rules.when`",
    "Case": "`tests`",
    "Given": "`tests.given`",
    "Expect": "`tests.expect`",
    "Profile": "The profile file",
    "CatalogueEntry": "`catalogue`",
    "Source": "`sources`",
    "Limits": "`limits`",
}
_PATTERNS = {
    DELAY_PATTERN: "[duration](#durations-amounts-and-paces)",
    DURATION_PATTERN: "[duration](#durations-amounts-and-paces)",
    AMOUNT_PATTERN: "[amount](#durations-amounts-and-paces)",
    PACE_PATTERN: "[pace](#durations-amounts-and-paces)",
    TIMES_PATTERN: "factor, like `2x`",
}


def reference(model: type[BaseModel] = Policy) -> Iterator[str]:
    """Markdown lines: a table of keys for each section."""
    schema, sections = json_schema(model), list(sections_of(model))
    for section in sections:
        if section is CheckPolicy:
            continue  # told with the kind of value
        part = schema if section is model else schema["$defs"][section.__name__]
        also = next((base for base in section.__bases__ if base in sections), None)
        yield f"### {_title(section.__name__)}"
        yield ""
        yield " ".join((section.__doc__ or "").split())
        if also is not None:
            title = _title(also.__name__)
            yield f"Also takes the keys of [{title[0].lower()}{title[1:]}](#{_anchor(title)})."
        yield ""
        yield "| key | value | default | what it does |"
        yield "|---|---|---|---|"
        for attribute, field in section.model_fields.items():
            if also is None or attribute not in also.model_fields:
                yield _row(attribute, field, part["properties"][yaml_key(attribute)], schema)
        yield ""


def _row(attribute: str, field: FieldInfo, part: dict[str, Any], schema: dict[str, Any]) -> str:
    default = "required" if field.is_required() else _default(attribute, field)
    cells = (f"`{yaml_key(attribute)}`", _kind(part, schema), default, field.description or "")
    return "| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in cells) + " |"


def _default(attribute: str, field: FieldInfo) -> str:
    default = written_default(attribute, field.default)
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, float):
        return f"`{default:g}`"
    return "" if default is None else f"`{default}`"


def _kind(part: dict[str, Any], schema: dict[str, Any]) -> str:
    """What kind of value a key takes, in words."""
    if "$ref" in part:
        name = part["$ref"].rpartition("/")[2]
        found = schema["$defs"][name]
        return _kind(found, schema) if "enum" in found else _link(name)
    if "enum" in part or "const" in part:
        return ", ".join(f"`{one}`" for one in part.get("enum", [part.get("const")]))
    if "anyOf" in part:
        return _any(part["anyOf"], schema)
    if part.get("pattern") in _PATTERNS:
        return _PATTERNS[part["pattern"]]
    if part["type"] == "array":
        return f"list of {_kind(part['items'], schema)}"
    if part["type"] == "object":
        inner = part.get("additionalProperties")
        return f"mapping of {_kind(inner, schema)}" if isinstance(inner, dict) else "mapping"
    if part.get("format") == "uri":
        return "URL"
    return {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true`, `false`"}[
        part["type"]
    ]


def _any(kinds: list[dict[str, Any]], schema: dict[str, Any]) -> str:
    if kinds[0] == {"type": "boolean"}:
        return _kind(kinds[0], schema)
    if any("do" in kind.get("properties", {}) for kind in kinds):
        return "`off`, `warn`, `refuse`, or `{do: refuse, mode: shadow}`"
    if len(kinds) == 2 and kinds[1].get("items") == kinds[0]:
        return f"{_kind(kinds[0], schema)}, or a list of them"
    return " or ".join(_kind(kind, schema) for kind in kinds)


def _link(name: str) -> str:
    return f"[mapping](#{_anchor(_title(name))})"


def _title(name: str) -> str:
    return _TITLES.get(name, name)


def _anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-")
