"""`guardian classify`: one reply from stdin, judged by what the options name."""

import io
import json
import sys
from pathlib import Path

import pytest

from guardian.cli import main

POLICY = """
version: 1
facilitators:
  - {name: main, url: "http://127.0.0.1:1", profile: payai}
  - {name: backup, url: "http://127.0.0.1:2"}
classify:
  rules:
    - {name: hint, when: {operation: settle, reason: vault_closed}, class: transient, mode: shadow}
    - name: vault
      when: {operation: settle, facilitator: main, text: vault is closed, network: "eip155:*"}
      class: permanent
      cure: Open it.
  default: {settle: settlement}
act:
  rules:
    - {name: tell, when: {class: permanent}, alert: page}
  default: {}
"""
VAULT = b'{"success":false,"errorReason":"vault_closed","errorMessage":"The vault is closed"}'
PAGE = b"<html><title>503 Service Temporarily Unavailable</title></html>"


class Console:
    """Runs the command on a reply."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def run(self, body: bytes, *options: str, operation: str = "settle") -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body)))
        code = main(["classify", "--operation", operation, *options])
        return (code, *self._capsys.readouterr())

    def json(self, body: bytes, *options: str, operation: str = "settle") -> dict[str, object]:
        code, out, err = self.run(body, *options, "--json", operation=operation)
        assert (code, err) == (0, "")
        told: dict[str, object] = json.loads(out)
        return told


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    return Console(monkeypatch, capsys)


@pytest.fixture
def policy(tmp_path: Path) -> str:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    return str(file)


def test_without_a_policy_the_built_in_classification_is_told_with_its_action(console: Console) -> None:
    told = console.json(VAULT)
    assert (told["class"], told["rule"], told["reason"]) == ("settlement", "unlisted", "vault_closed")
    assert (told["retry"], told["failover"], told["watch"], told["answer"]) == (False, False, True, "pending")


def test_the_rules_of_a_policy_decide_and_shadows_are_told(console: Console, policy: str) -> None:
    told = console.json(VAULT, "--policy", policy, "--network", "eip155:8453")
    assert (told["class"], told["rule"], told["cure"]) == ("permanent", "vault", "Open it.")
    assert (told["action"], told["alert"]) == ("tell", "page")
    assert told["shadows"] == ["classify hint: transient"]


def test_facilitator_and_history_count(console: Console, policy: str) -> None:
    options = ("--policy", policy, "--network", "eip155:8453")
    assert console.json(VAULT, *options, "--facilitator", "backup")["class"] == "settlement"
    assert console.json(VAULT, *options, "--history", "in_doubt")["rule"] == "taint"


def test_a_profile_is_the_facilitators_or_the_one_named(console: Console, policy: str) -> None:
    page = ("--status", "503")
    assert console.json(PAGE, *page)["class"] == "settlement"
    assert console.json(PAGE, *page, "--profile", "payai")["class"] == "transient"
    assert console.json(PAGE, *page, "--policy", policy)["class"] == "transient"
    assert console.json(PAGE, *page, "--policy", policy, "--facilitator", "backup")["class"] == "settlement"


def test_without_a_reply_nothing_is_read(console: Console) -> None:
    told = console.json(VAULT, "--transport", "timeout")
    assert (told["class"], told["rule"], told["circuit"]) == ("settlement", "reply_lost", "neutral")
    assert console.json(VAULT, "--transport", "not_sent", operation="verify")["class"] == "transient"


def test_a_person_reads_words(console: Console, policy: str) -> None:
    code, out, _ = console.run(VAULT, "--policy", policy, "--network", "eip155:8453")
    lines = dict(line.split(":", 1) for line in out.splitlines())
    assert (code, lines["retry"].strip(), lines["class"].strip()) == (0, "no", "permanent")
    assert "transaction" not in lines


@pytest.mark.parametrize(
    "options",
    [
        ("--transport", "pigeon"),
        ("--history", "long"),
        ("--profile", "nobody"),
        ("--facilitator", "main"),
        ("--policy", "none.yaml"),
    ],
)
def test_what_is_not_known_is_one_line_and_exit_code_2(console: Console, options: tuple[str, str]) -> None:
    code, out, err = console.run(VAULT, *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert options[0] in err or options[1] in err


def test_an_unknown_facilitator_is_told_with_the_known_ones(console: Console, policy: str) -> None:
    code, _, err = console.run(VAULT, "--policy", policy, "--facilitator", "spare")
    assert code == 2
    assert "known: main, backup" in err
