"""From a policy file to a Policy: the model, the profiles it names, and the laws.

How complaints are worded and placed stands in validate.py; what must agree between sections in
coherence.py; what no policy may say in lawful.py.
"""

from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

from guardian.errors import PolicyError
from guardian.policy.keys import SECTIONS
from guardian.policy.lawful import refuse_unlawful
from guardian.policy.model import Policy
from guardian.policy.profile import Profile, load_profile
from guardian.policy.tree import Path, Tree, read_tree
from guardian.policy.types import Misplaced
from guardian.policy.units import show
from guardian.policy.validate import error_at, read_text, standing, validated, write_path

_NAMED = (("facilitators",), ("routes",), ("classify", "rules"), ("act", "rules"), ("tests",))


def load_policy(path: str | FilePath) -> Policy:
    """The policy in a file; raises PolicyError."""
    return read_policy(path)[0]


def read_policy(path: str | FilePath) -> tuple[Policy, Tree]:
    """The policy in a file, and where in it everything stands; raises PolicyError."""
    tree = read_tree(read_text(path), str(path))
    return validate(tree, FilePath(path).parent), tree


def parse_policy(text: str, file: str = "<policy>") -> Policy:
    """The policy in a text; `file` is for the errors. Raises PolicyError."""
    return validate(read_tree(text, file))


def validate(tree: Tree, beside: FilePath | None = None) -> Policy:
    """The policy that a tree describes; raises PolicyError. beside: directory that may hold `profiles/`."""
    _refuse_said_twice(tree)
    policy = validated(Policy, tree)
    for section in _NAMED:
        _refuse_duplicate_names(tree, section)
    policy = policy.knowing(_profiles(policy, tree, beside))
    try:
        refuse_unlawful(policy)
    except Misplaced as fault:
        at = standing(fault.at, tree)
        raise error_at(tree, at, f"{write_path(at)}: {fault}") from fault
    return policy


def _refuse_said_twice(tree: Tree) -> None:
    """A top-level section is short for the same under `default`: two of them would leave open which holds."""
    default = tree.data.get("default") if isinstance(tree.data, dict) else None
    for key in SECTIONS:
        if isinstance(default, dict) and key in tree.data and key in default:
            first, second = sorted(((key,), ("default", key)), key=lambda path: tree.keys[path])
            line, column = tree.keys[second]
            said = f"{write_path(second)}: says the same as {write_path(first)} in line {tree.keys[first][0]}"
            raise PolicyError(f"{said}; merge the two", file=tree.file, line=line, column=column)


def _refuse_duplicate_names(tree: Tree, section: Path) -> None:
    """Upper and lower case are one name: they differ in a URL, but not to the person reading it."""
    items: Any = tree.data
    for step in section:
        items = items.get(step) or {}
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        name = str(item["name"]).lower()
        if name in seen:
            first = tree.place((*section, seen[name], "name"))[0]
            message = f"{show(item['name'])} is also the name in line {first}; choose another"
            raise error_at(tree, (*section, index, "name"), f"{write_path(section)}: {message}")
        seen[name] = index


def _profiles(policy: Policy, tree: Tree, beside: FilePath | None) -> dict[str, Profile]:
    found: dict[str, Profile] = {}
    for path, name in _profile_names(policy):
        try:
            found[name] = load_profile(name, beside)
        except PolicyError as fault:
            if fault.file:  # the profile is there, and wrong in itself
                raise
            at = standing(path, tree)
            raise error_at(tree, at, f"{write_path(at)}: {fault.message}") from fault
    return found


def _profile_names(policy: Policy) -> Iterator[tuple[Path, str]]:
    """Everywhere that a profile is named."""
    for index, facilitator in enumerate(policy.facilitators):
        if facilitator.profile is not None:
            yield ("facilitators", index, "profile"), facilitator.profile
    for section in ("classify", "act"):
        for index, rule in enumerate(getattr(policy, section).rules):
            for place, name in enumerate(rule.when.profile):
                yield (section, "rules", index, "when", "profile", place), name
