"""What can be said of the image without building it: what is pinned, who runs it, what is in it."""

import json
import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.deploy.chart import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
LOCKS = ("image/requirements.txt", "image/build-requirements.txt")


def _pinned(lock: str) -> dict[str, Requirement]:
    lines = (ROOT / lock).read_text().splitlines()
    found = [Requirement(line.rstrip(" \\")) for line in lines if line and line[0] not in "# "]
    return {one.name.lower(): one for one in found}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_is_pinned_by_version_and_hash(lock: str) -> None:
    text = (ROOT / lock).read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    for entry in (each for each in entries if not each.startswith("#")):
        assert re.match(r"\S+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_the_lock_has_every_dependency_in_a_version_that_the_project_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = _pinned(LOCKS[0])
    for wanted in map(Requirement, project["project"]["dependencies"]):
        found = pinned.get(wanted.name.lower().replace("_", "-").replace(".", "-"))
        assert found, f"{wanted}: not in the lock; run make lock"
        [version] = found.specifier
        assert wanted.specifier.contains(version.version), f"{wanted}: run make lock"


def test_the_lock_says_nothing_of_where_it_was_made() -> None:
    for lock in LOCKS:
        text = (ROOT / lock).read_text()
        assert "://" not in text
        assert "index-url" not in text


def test_the_image_is_run_by_a_number_that_is_not_root() -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["10402:10402"]


def test_what_runs_in_the_image_needs_no_shell() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert final.startswith("scratch\n")
    assert not re.findall(r"^RUN ", final, re.MULTILINE)
    for command in re.findall(r"^(?:ENTRYPOINT|CMD|  CMD) (.+)$", final, re.MULTILINE):
        assert all(isinstance(word, str) for word in json.loads(command))


def test_the_base_is_pinned() -> None:
    [base] = re.findall(r"^ARG BASE=(.+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"python:3\.13\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", base)


def test_the_records_are_on_a_volume() -> None:
    [volume] = re.findall(r"^VOLUME (.+)$", DOCKERFILE, re.MULTILINE)
    assert f"GUARDIAN_STORE=sqlite:///{volume}/guardian.db" in DOCKERFILE
