"""The audit of dependencies fails on findings, and says so where it could not look."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLEAN = '{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}'
FOUND = (
    '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]},'
    ' {"name": "b", "skip_reason": "not on PyPI"}]}'
)
UNSEEN = '{"dependencies": [{"name": "a", "skip_reason": "not on PyPI"}]}'
UV = """\
#!/bin/sh
case "$*" in
  *freeze*) echo a==1 ;;
  *--version*) {tool} ;;
  *) while [ $# -gt 0 ]; do [ "$1" = --output ] && {report}; shift; done; echo no route to host >&2; exit 1 ;;
esac
"""


def audit(at: Path, report: str | None, *, tool: str = "true", required: bool = False) -> tuple[int, str]:
    """Exit code and words of the audit, with a stand-in for uv."""
    tools = at / "bin"
    tools.mkdir()
    (at / "report.json").write_text(report or "")
    write = f'cp "{at}/report.json" "$2"' if report is not None else "true"
    (tools / "uv").write_text(UV.format(tool=tool, report=write))
    (tools / "uv").chmod(0o755)
    (tools / "python").symlink_to(sys.executable)
    environ = {"PATH": os.environ["PATH"], "VENV": str(at)} | ({"AUDIT": "required"} if required else {})
    done = subprocess.run(
        [ROOT / ".ci" / "audit"], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_nothing_known_passes(tmp_path: Path) -> None:
    assert audit(tmp_path, CLEAN) == (0, "audit: 1 packages, 0 known vulnerabilities\n")


def test_a_known_vulnerability_fails_and_is_named_with_its_cure(tmp_path: Path) -> None:
    code, said = audit(tmp_path, FOUND)
    assert code == 1
    assert "a 1: PYSEC-1 (fixed in: 2)" in said
    assert "b was not looked at: not on PyPI" in said


@pytest.mark.parametrize("report", [UNSEEN, None, "{"])
def test_an_audit_that_saw_nothing_says_why(tmp_path: Path, report: str | None) -> None:
    code, said = audit(tmp_path, report)
    assert code == 0
    assert said.startswith("audit: SKIPPED: the advisory service says nothing: ")


def test_without_the_tool_it_says_so(tmp_path: Path) -> None:
    code, said = audit(tmp_path, CLEAN, tool="echo no network >&2; exit 1")
    assert (code, said) == (0, "audit: SKIPPED: pip-audit cannot be installed here: no network\n")


def test_where_it_is_required_not_looking_is_a_failure(tmp_path: Path) -> None:
    assert audit(tmp_path, None, required=True)[0] == 1
