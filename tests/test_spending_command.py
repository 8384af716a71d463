"""`guardian spending` and `guardian approvals` tell the running guardian, and print what it says."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from guardian.cli import main
from guardian.commands import source

STOP = {"by": "ann", "reason": "a runaway", "at": 1_772_368_200.0}
BUDGET = {
    "rule": "day",
    "limit": "per_day",
    "whose": "",
    "network": "eip155:8453",
    "asset": "0xa",
    "window": "2026-03-01",
    "counted": "10000",
}
WAITING = {
    "id": "apr_1",
    "state": "asked",
    "amount": "10000",
    "asset": "0xa",
    "network": "eip155:8453",
    "pay_to": "0xb",
    "caller": "key:research",
    "rule": "big",
    "url": "http://shop/x",
    "until": 1_772_368_200.0,
}

Says = Callable[[Any], list[tuple[str, Any]]]


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> Says:
    """Says what the operations API answers; gives what it was asked."""
    asked: list[tuple[str, Any]] = []

    def says(answer: Any) -> list[tuple[str, Any]]:
        def from_operations(base: str, path: str, content: object = None) -> Any:
            asked.append((path, content))
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(source, "_from_operations", from_operations)
        return asked

    return says


def test_show_prints_budgets_and_the_switch(operations: Says, capsys: pytest.CaptureFixture[str]) -> None:
    asked = operations({"budgets": [BUDGET], "stopped": STOP, "stopped_by_policy": True})
    assert main(["spending", "show"]) == 0
    assert asked == [("/api/spending", None)]
    said = capsys.readouterr().out
    assert "per_day" in said
    assert "10000" in said
    assert "stopped by ann at 2026-03-01T12:30:00Z: a runaway\n" in said
    assert "stopped by the policy (spending.stop)\n" in said


def test_stop_and_resume_tell_it_who(operations: Says, capsys: pytest.CaptureFixture[str]) -> None:
    asked = operations({"stopped": STOP})
    assert main(["spending", "stop", "--by", "ann", "--reason", "a runaway"]) == 0
    assert asked[-1] == ("/api/spending/stop", {"by": "ann", "reason": "a runaway"})
    operations({"budgets": [], "stopped": None, "stopped_by_policy": False})
    assert main(["spending", "resume", "--by", "ann"]) == 0
    assert asked[-1] == ("/api/spending/resume", {"by": "ann"})
    assert capsys.readouterr().out.endswith("not stopped\n")


def test_approvals_are_listed_approved_and_denied(
    operations: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    operations({"approvals": [WAITING]})
    assert main(["approvals", "list"]) == 0
    assert "apr_1" in capsys.readouterr().out
    asked = operations(WAITING | {"state": "approved"})
    assert main(["approvals", "approve", "apr_1", "--by", "ann", "--lasts", "10m"]) == 0
    assert asked[-1] == ("/api/approvals/apr_1/approve", {"by": "ann", "note": "", "lasts_s": 600.0})
    assert capsys.readouterr().out == "apr_1: approved until 2026-03-01T12:30:00Z\n"
    assert main(["approvals", "deny", "apr_1", "--by", "ann", "--note", "no", "--json"]) == 0
    assert asked[-1] == ("/api/approvals/apr_1/deny", {"by": "ann", "note": "no"})
    assert json.loads(capsys.readouterr().out)["id"] == "apr_1"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["approvals", "approve", "apr_9", "--by", "ann"], "there is no approval 'apr_9'"),
        (["approvals", "approve", "apr_9", "--by", "ann", "--lasts", "9"], "--lasts: '9' has no unit"),
        (["spending", "show"], "knows no spending"),
        (["spending", "stop", "--by", "ann"], "knows no spending"),
        (["spending", "stop"], "--by"),
    ],
)
def test_what_cannot_be_done_says_why(
    operations: Says, capsys: pytest.CaptureFixture[str], command: list[str], said: str
) -> None:
    operations(None)
    assert main(command) == 2
    assert said in capsys.readouterr().err


def test_where_no_guardian_runs_nothing_is_stopped(
    operations: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    operations(source.NobodyListens())
    for command in (["spending", "stop", "--by", "ann"], ["approvals", "list"]):
        assert main(command) == 2
        assert "start guardian serve" in capsys.readouterr().err
