"""Every package that the code imports is one that pyproject.toml names: what another one happens to bring
along can go with its next version."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parents[1]
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
ELSEWHERE = HERE / "guardian" / "sandbox" / "seller_v1" / "server.py"
"""Runs in an environment of its own, with other versions."""

FILES = sorted(set((HERE / "guardian").rglob("*.py")) - {ELSEWHERE})
DISTRIBUTIONS = packages_distributions()


def named(of: list[str]) -> set[str]:
    """The packages that are asked for, also as an extra of another, and those in step with one of them."""
    wanted = [Requirement(text) for text in of]
    found = {canonicalize_name(name) for one in wanted for name in (one.name, *one.extras)}
    return found | {each for one in wanted for each in in_step(one.name)}


def in_step(name: str) -> Iterator[str]:
    """What this package needs in exactly one version: both come from one place."""
    try:
        needed = requires(name) or ()
    except PackageNotFoundError:  # an extra that is not installed here
        return
    for wanted in map(Requirement, needed):
        if wanted.marker is None and [clause.operator for clause in wanted.specifier] == ["=="]:
            yield canonicalize_name(wanted.name)


SERVING = named(PROJECT["dependencies"])
PLAYING = SERVING | named(PROJECT["optional-dependencies"]["sandbox"])


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for package in {name.split(".")[0] for name in names}:
            if package not in {*sys.stdlib_module_names, "guardian"}:
                yield package


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HERE)))
def test_what_is_imported_is_named(path: Path) -> None:
    allowed = PLAYING if "sandbox" in path.parts else SERVING
    for package in imported(path):
        found = {canonicalize_name(name) for name in DISTRIBUTIONS.get(package, [package])}
        assert found & allowed, f"{package} is not named in pyproject.toml"
