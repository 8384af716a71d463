"""From a policy file to a Policy: reads the file, and says where it is wrong and what cures it.

What is wrong is decided by the models; this file turns their first complaint into a PolicyError with
file, line, column and, for an unknown key, the nearest known one.
"""

import difflib
from pathlib import Path as FilePath
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from guardian.errors import PolicyError
from guardian.policy.model import Policy
from guardian.policy.section import yaml_key
from guardian.policy.tree import MAX_BYTES, Path, Tree, read_tree
from guardian.policy.types import FROM_FILE, Misplaced
from guardian.policy.units import show

_COMPLAINTS: Final = {
    "missing": "is missing; add it",
    "model_type": "must be a mapping of keys; indent its keys below it",
    "dict_type": "must be a mapping of keys; indent its keys below it",
    "model_attributes_type": "must be a mapping of keys; indent its keys below it",
    "tuple_type": "must be a list; start each item with a dash",
}


def load_policy(path: str | FilePath) -> Policy:
    """The policy in a file; raises PolicyError."""
    return parse_policy(read_text(path), str(path))


def parse_policy(text: str, file: str = "<policy>") -> Policy:
    """The policy in a text; `file` is for the errors. Raises PolicyError."""
    return validate(read_tree(text, file))


def read_text(path: str | FilePath) -> str:
    """The text of a policy file, bounded; raises PolicyError."""
    file = str(path)
    try:
        with open(path, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise PolicyError(f"cannot read the policy: {reason.lower()}", file=file) from error
    if len(raw) > MAX_BYTES:
        raise PolicyError(
            f"the file is larger than {MAX_BYTES // 1024} KiB; a policy is far smaller", file=file
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise PolicyError("not UTF-8 text; save it as UTF-8", file=file, line=line, column=1) from error


def validate(tree: Tree) -> Policy:
    """The policy that a tree describes; raises PolicyError."""
    if not isinstance(tree.data, dict):
        raise PolicyError("a policy is a mapping; start with `version: 1`", file=tree.file, line=1, column=1)
    _refuse_other_versions(tree)
    try:
        policy = Policy.model_validate(tree.data, context=FROM_FILE, by_alias=True, by_name=False)
    except ValidationError as error:
        raise _first(error, tree) from error
    _refuse_duplicate_names(tree, "facilitators")
    _refuse_duplicate_names(tree, "routes")
    return policy


def _refuse_other_versions(tree: Tree) -> None:
    """First of all: the complaints about another version's keys would only mislead."""
    version = tree.data.get("version")
    if "version" not in tree.data:
        raise PolicyError("version is missing; start with `version: 1`", file=tree.file, line=1, column=1)
    if type(version) is not int or version != 1:
        raise _error(tree, ("version",), f"version: {show(version)} is not known here; write 1")


def _refuse_duplicate_names(tree: Tree, section: str) -> None:
    """Upper and lower case are one name: they differ in a URL, but not to the person reading it."""
    seen: dict[str, int] = {}
    for index, item in enumerate(tree.data.get(section) or ()):
        name = str(item["name"]).lower()
        if name in seen:
            first = tree.place((section, seen[name], "name"))[0]
            message = f"{section}: {show(item['name'])} is also the name in line {first}; choose another"
            raise _error(tree, (section, index, "name"), message)
        seen[name] = index


def _first(error: ValidationError, tree: Tree) -> PolicyError:
    """The complaint that stands first in the file, which is where a reader begins."""
    found = [_complaint(details, tree) for details in error.errors(include_url=False, include_input=False)]
    return min(found, key=lambda one: (one.line, one.column))


def _complaint(details: ErrorDetails, tree: Tree) -> PolicyError:
    path: Path = details["loc"]
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, Misplaced):
        path = cause.at
    dotted = write_path(path)
    if details["type"] == "extra_forbidden":
        line, column = tree.keys.get(path, tree.place(path))
        message = f"{dotted}: unknown key; {_nearest(path)}"
        return PolicyError(message, file=tree.file, line=line, column=column)
    if details["type"] in _COMPLAINTS:
        return _error(tree, path, f"{dotted} {_COMPLAINTS[details['type']]}")
    said = str(cause) if cause else f"{_found(tree, path)}{details['msg'][:1].lower()}{details['msg'][1:]}"
    return _error(tree, path, f"{dotted}: {said}" if dotted else said)


def _found(tree: Tree, path: Path) -> str:
    """What stands at a path, for the complaints that do not say it themselves."""
    value = tree.data
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return ""
    return "" if isinstance(value, dict | list) else f"{show(value)}: "


def _nearest(path: Path) -> str:
    known = known_keys(path[:-1])
    near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"


def known_keys(path: Path) -> list[str]:
    """The keys that the section at a path has."""
    model: Any = Policy
    for step in path:
        if isinstance(model, type) and issubclass(model, BaseModel):
            fields = {yaml_key(name): field.annotation for name, field in model.model_fields.items()}
            model = fields.get(str(step))
        else:
            model = next((arg for arg in get_args(model) if isinstance(arg, type) and arg is not str), None)
    if isinstance(model, type) and issubclass(model, BaseModel):
        return [yaml_key(name) for name in model.model_fields]
    return []


def write_path(path: Path) -> str:
    """A path as a person writes it: `facilitators[0].url`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _error(tree: Tree, path: Path, message: str) -> PolicyError:
    line, column = tree.place(path)
    return PolicyError(message, file=tree.file, line=line, column=column)
