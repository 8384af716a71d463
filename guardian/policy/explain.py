"""What is in force and where it came from, what deserves a warning, and the schema. No I/O, no secrets."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from guardian.policy.load import write_path
from guardian.policy.model import ANY_OTHER, SHIPPED, NetworkPolicy, Policy
from guardian.policy.section import Section, yaml_key
from guardian.policy.tree import Path, Tree
from guardian.policy.types import redact_url
from guardian.policy.units import DURATION_PATTERN, write_duration
from guardian.wire.networks import network_of


@dataclass(frozen=True, slots=True)
class Line:
    """One value in force. origin: `file:line`, `shipped for <network>` or `default`."""

    path: str
    value: str
    origin: str


def explain(policy: Policy, tree: Tree) -> list[Line]:
    """Every value in force, in the policy's order; `tree` is what the policy was read from."""
    lines: list[Line] = []
    for name in Policy.model_fields:
        value = getattr(policy, name)
        if name == "networks":
            lines += _networks(policy, tree)
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                lines += _section(item, (name, index), tree, "default")
        elif isinstance(value, Section):
            lines += _section(value, (name,), tree, "default")
        else:
            lines.append(Line(name, str(value), _origin(tree, (name,), "default")))
    return lines


def warnings(policy: Policy) -> list[str]:
    """What is sound and yet deserves a look, one sentence each."""
    found = []
    for id, network in policy.networks.items():
        if network.is_default:
            found.append(f"networks.{id}: no settlement_timeout chosen, 60s is in force; measure and set it")
        if not network.rpc:
            found.append(f"networks.{id}: no rpc, so payments there are not watched; name two endpoints")
    return found


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the policy file, defaults written as the file writes them."""
    schema = Policy.model_json_schema(by_alias=True)
    for section in schema["$defs"].values():
        for field in section.get("properties", {}).values():
            _write_default(field)
    for name, field in schema["properties"].items():
        if isinstance(field.get("default"), dict):
            field["default"] = {}  # each key's own default stands in its section
        field.setdefault("title", name)
    return schema


def _write_default(field: dict[str, Any]) -> None:
    if "default" in field and field.get("pattern") == DURATION_PATTERN:
        field["default"] = write_duration(field["default"])


def _networks(policy: Policy, tree: Tree) -> Iterator[Line]:
    """Those of the file first, then the shipped ones it does not name, then what holds elsewhere."""
    written = {network_of(key): key for key in tree.data.get("networks") or ()}
    for id, network in policy.networks.items():
        elsewhere = f"shipped for {id}" if id in SHIPPED else "default"
        yield from _section(network, ("networks", written.get(network_of(id), id)), tree, elsewhere)
    for id, network in SHIPPED.items():
        if id not in policy.networks:
            yield from _section(network, ("networks", id), tree, f"shipped for {id}")
    yield from _section(ANY_OTHER, ("networks", "(any other)"), tree, "default")


def _section(section: Section, path: Path, tree: Tree, elsewhere: str) -> Iterator[Line]:
    for attribute in type(section).model_fields:
        at = (*path, yaml_key(attribute))
        chosen = attribute in section.model_fields_set if isinstance(section, NetworkPolicy) else False
        origin = _origin(tree, at, elsewhere if chosen else "default")
        yield Line(write_path(at), _value(attribute, getattr(section, attribute)), origin)


def _origin(tree: Tree, path: Path, elsewhere: str) -> str:
    place = tree.values.get(path)
    return f"{tree.file}:{place[0]}" if place else elsewhere


def _value(attribute: str, value: object) -> str:
    if attribute == "rpc" and isinstance(value, tuple):
        return ", ".join(redact_url(url) for url in value) or "none"
    if attribute.endswith("_s") and isinstance(value, float | int):
        return write_duration(value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
