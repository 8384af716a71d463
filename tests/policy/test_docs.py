"""Every example in the documentation works: YAML loads and holds its tests, commands run."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from guardian.cli import main
from guardian.policy.cases import run_cases
from guardian.policy.load import parse_policy

ROOT = Path(__file__).parents[2]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(*languages: str) -> list[Any]:
    return [
        pytest.param(match[2], id=f"{path.name}-{number}")
        for path in DOCS
        for number, match in enumerate(FENCE.finditer(path.read_text()))
        if match[1] in languages
    ]


@pytest.mark.parametrize("text", blocks("yaml", "yml"))
def test_a_policy_in_the_docs_loads_and_holds_its_tests(text: str) -> None:
    if not text.startswith("version:"):
        pytest.skip("not a whole policy")
    assert run_cases(parse_policy(text)) == []


@pytest.mark.parametrize("text", blocks("sh", "shell", "bash", "console"))
def test_a_policy_command_in_the_docs_runs(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    for line in text.splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words[:2] == ["guardian", "policy"]:
            assert main(words[1:]) == 0, line
            assert capsys.readouterr().err == ""
