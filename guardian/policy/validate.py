"""From a tree to a frozen model of any kind of policy file, or a PolicyError that a person can act on.

What is wrong is decided by the models; this file turns their first complaint into a PolicyError with
file, line, column and, for an unknown key, the nearest known one. No policy rule stands here.
"""

import difflib
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from guardian.errors import PolicyError
from guardian.policy.places import Places
from guardian.policy.section import yaml_key
from guardian.policy.tree import MAX_BYTES, MAX_DEPTH, Path, Tree
from guardian.policy.types import FROM_FILE, Misplaced, nearest
from guardian.policy.units import show

Root = TypeVar("Root", bound=BaseModel)

_KEY_SHOWN: Final = 100  # the longest sound key is a network's id or a token's address

_MAPPING: Final = "must be a mapping of keys; indent its keys below it"
_COMPLAINTS: Final = {
    "missing": "is missing; add it",
    "model_type": _MAPPING,
    "dict_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "tuple_type": "must be a list; start each item with a dash, or put it in [ ]",
}
_CURES: Final = {
    "string_type": "is not a text; put it in quotes",
    "bool_type": "is neither true nor false",
    "bool_parsing": "is neither true nor false",
    "int_type": "is not a whole number",
    "int_parsing": "is not a whole number; write it without quotes, fraction or unit",
    "int_from_float": "is not a whole number; write it without quotes, fraction or unit",
    "greater_than": "is too small; write more than {gt:.15g}",
    "greater_than_equal": "is too small; write {ge:.15g} or more",
    "less_than_equal": "is too large; write {le:.15g} or less",
    "string_too_long": "is too long; write at most {max_length} characters",
    "too_long": "has too many items; write at most {max_length}",
    "too_short": "names nothing; write {min_length} item at least, or leave the key out",
}
"""Complaints of pydantic's own, by type, in the words of this project."""


def read_text(path: str | FilePath, kind: str = "policy") -> str:
    """The text of a policy or profile file, bounded; raises PolicyError."""
    file = str(path)
    try:
        with open(path, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise PolicyError(f"cannot read the {kind}: {reason.lower()}", file=file) from error
    if len(raw) > MAX_BYTES:
        raise PolicyError(
            f"the file is larger than {MAX_BYTES // 1024} KiB; a {kind} is far smaller", file=file
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise PolicyError("not UTF-8 text; save it as UTF-8", file=file, line=line, column=1) from error


def validated(model: type[Root], tree: Tree, kind: str = "policy") -> Root:
    """The model that a tree describes; raises PolicyError."""
    if not isinstance(tree.data, dict):
        raise PolicyError(f"a {kind} is a mapping; start with `version: 1`", file=tree.file, line=1, column=1)
    _refuse_other_versions(tree)
    try:
        return model.model_validate(tree.data, context=FROM_FILE, by_alias=True, by_name=False)
    except ValidationError as error:
        raise _first(error, model, tree) from error


def known_keys(model: Any, path: Path) -> list[str]:
    """The keys that the section at a path has."""
    for step in path:
        sections = list(_sections(model))
        if sections and (fields := _fields(sections[0])) and str(step) in fields:
            model = fields[str(step)]
        elif sections and not get_args(model):
            return []
    return next((list(_fields(section)) for section in _sections(model)), [])


def _fields(section: type[BaseModel]) -> dict[str, Any]:
    """Annotations by key, those of the section itself before those of every layer."""
    own = [name for name in section.model_fields if name in section.__annotations__]
    names = dict.fromkeys((*own, *section.model_fields))
    return {yaml_key(name): section.model_fields[name].annotation for name in names}


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models inside an annotation: of an optional value, of a list's items, of a mapping's values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)


def write_path(path: Path) -> str:
    """A path as a person writes it: `facilitators[0].url`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{_key(step)}" for step in path).removeprefix(
        "."
    )


def _key(key: str) -> str:
    return key if key.isprintable() and len(key) <= _KEY_SHOWN else show(key)


def error_at(tree: Tree, path: Path, message: str) -> PolicyError:
    """A complaint about what stands at a path."""
    line, column = tree.place(path)
    return PolicyError(message, file=tree.file, line=line, column=column)


def _refuse_other_versions(tree: Tree) -> None:
    """First of all: the complaints about another version's keys would only mislead."""
    version = tree.data.get("version")
    if "version" not in tree.data:
        cure = "start with `version: 1`"
        if near := next((key for key in tree.data if nearest(key, ["version"]).startswith("did")), None):
            line, column = tree.keys[(near,)]
            message = f"{write_path((near,))}: unknown key; did you mean version?"
            raise PolicyError(message, file=tree.file, line=line, column=column)
        raise PolicyError(f"version is missing; {cure}", file=tree.file, line=1, column=1)
    if type(version) is not int or version != 1:
        cure = "write 1, without quotes" if version == "1" else "write 1"
        raise error_at(tree, ("version",), f"version: {show(version)} is not known here; {cure}")


def _first(error: ValidationError, model: type[BaseModel], tree: Tree) -> PolicyError:
    """The complaint that stands first in the file, which is where a reader begins.

    A missing key comes after an unknown one of the same section: it is the one that was misspelt.
    """
    details = error.errors(include_url=False, include_input=False)
    unknown = {one["loc"] for one in details if one["type"] == "extra_forbidden"}
    missing = {one["loc"] for one in details if one["type"] == "missing"}
    misspelt = {path[:-1] for path in unknown}
    misplaced = {path[-1]: path for path in missing if any(path[-1] == one[-1] for one in unknown)}
    told = [
        _unknown(one["loc"], model, tree, misplaced) if one["loc"] in unknown else _complaint(one, tree)
        for one in details
        if one["type"] != "missing" or (one["loc"][:-1] not in misspelt and one["loc"][-1] not in misplaced)
    ]
    return min(told, key=lambda one: (one.line, one.column))


def _unknown(path: Path, model: type[BaseModel], tree: Tree, misplaced: dict[str | int, Path]) -> PolicyError:
    line, column = tree.keys.get(path, tree.place(path))
    if path[-1] in misplaced:
        cure = f"it is missing in {write_path(misplaced[path[-1]][:-1])}: check how far it is indented"
    else:
        cure = _nearest_key(str(path[-1]), known_keys(model, path[:-1]), _homes(model))
    message = f"{write_path(path)}: unknown key; {cure}"
    return PolicyError(message, file=tree.file, line=line, column=column)


def _nearest_key(key: str, known: list[str], homes: dict[str, str]) -> str:
    """The cure for a key that its section does not know: one of its own that is almost the same, else one of
    another section, else its own that is the nearest."""
    cure = nearest(key, known, cutoff=0.8)
    if cure.startswith("did"):
        return cure
    if key in homes:
        return f"it belongs in {homes[key]}; {cure}"
    if meant := next(iter(difflib.get_close_matches(key, list(homes), n=1, cutoff=0.8)), ""):
        return f"did you mean {meant}? It belongs in {homes[meant]}"
    return nearest(key, known)


def _homes(model: Any) -> dict[str, str]:
    """Every key below the top, with the uppermost section that knows it."""
    homes: dict[str, str] = {}
    level: list[tuple[str, Any]] = [("", model)]
    for _ in range(MAX_DEPTH):
        inner = []
        for path, annotation in level:
            for section in _sections(annotation):
                fields = _fields(section)
                if path:
                    homes = dict.fromkeys(fields, path) | homes
                inner += [(f"{path}.{name}".removeprefix("."), one) for name, one in fields.items()]
        level = inner
    return homes


def _complaint(details: ErrorDetails, tree: Tree) -> PolicyError:
    path: Path = details["loc"]
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, Misplaced):
        path = Places(tree).written(cause.at)
    if details["type"] == "missing":
        return error_at(tree, path, f"{write_path(path)} {_COMPLAINTS['missing']}")
    path = standing(path, tree)
    found, dotted = _found(tree, path), write_path(path)
    if found is None and not isinstance(cause, Misplaced):
        return error_at(tree, path, f"{dotted}: nothing stands here; {_nothing(details['type'])}")
    if details["type"] in _COMPLAINTS:
        return error_at(tree, path, f"{dotted} {_COMPLAINTS[details['type']]}")
    said = str(cause) if cause else _said(details, found)
    return error_at(tree, path, f"{dotted}: {said}" if dotted else said)


def standing(path: Path, tree: Tree) -> Path:
    """As much of a path as stands in the file: one value may stand where a list could."""
    while path and path not in tree.values:
        path = path[:-1]
    return path


def _nothing(kind: str) -> str:
    if kind in _COMPLAINTS:
        cure = _COMPLAINTS[kind].partition("; ")[2]
        return f"{cure}, or leave the key out"
    return "write a value, or leave the key out"


def _said(details: ErrorDetails, found: Any) -> str:
    """A complaint of pydantic's own, for the reader of a policy file."""
    context = details.get("ctx", {})
    if details["type"] in ("literal_error", "enum"):
        known = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        near = nearest(str(found), known)
        return f"{show(found)} is none of {', '.join(known)}" + (
            f"; {near}" if near.startswith("did") else ""
        )
    cure = _CURES.get(details["type"])
    if cure is None:
        return f"{details['msg'][:1].lower()}{details['msg'][1:]}; found {show(found)}"
    return f"{show(found)} {cure.format(**context)}"


def _found(tree: Tree, path: Path) -> Any:
    """What stands at a path."""
    value = tree.data
    for step in path:
        value = value[step]
    return value
