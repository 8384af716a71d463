"""`webhooks:` in a policy: what it takes, and what explain and diff say of it."""

from pathlib import Path

import pytest

from guardian.cli import main
from guardian.errors import PolicyError
from guardian.policy.load import parse_policy
from guardian.settlement.notice import Kind

HEAD = "version: 1\nfacilitators: [{name: main, url: https://f.example}]\nwebhooks:\n"
ONE = "  - {name: ops, url: https://ops.example/x, events: [payment.orphaned], secret: {env: HOOK}}\n"


def test_a_webhook_has_defaults_for_all_but_its_events_and_its_secret() -> None:
    (hook,) = parse_policy(HEAD + ONE).webhooks
    assert (hook.events, hook.timeout_s, hook.attempts) == ((Kind.ORPHANED,), 10.0, 15)
    assert parse_policy(HEAD.partition("webhooks")[0]).webhooks == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ONE + ONE, r"5:.*webhooks\[1\].name.*taken"),
        (ONE.replace("[payment.orphaned]", "[]"), r"webhooks\[0\].events: no event"),
        (ONE.replace("orphaned]", "orphan]"), "payment.orphaned"),
        (ONE.replace("orphaned]", "orphaned, payment.orphaned]"), "twice"),
        (ONE.replace("{env: HOOK}", "whsec_MfKQ9r8GKYqrTwjU"), "never stands in this file"),
        (ONE.replace("https://ops.example/x", "ftp://ops"), r"webhooks\[0\].url"),
        (ONE.replace("https://ops", "https://u:p@ops"), "credentials"),
        (ONE.replace(", secret: {env: HOOK}", ""), "secret is missing"),
        (ONE.replace("name: ops", "name: ops, event: x"), "did you mean events"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said) as refused:
        parse_policy(HEAD + text, file="p.yaml")
    assert "whsec" not in str(refused.value)


def test_explain_and_diff_speak_of_webhooks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(HEAD + ONE)
    new.write_text(HEAD + ONE.replace("orphaned]", "orphaned, circuit.opened]") + ONE.replace("ops,", "b,"))
    assert main(["policy", "explain", str(new)]) == 0
    said = capsys.readouterr().out
    assert "webhooks[0].events" in said
    assert "[payment.orphaned, circuit.opened]" in said
    assert "webhooks[1].attempts" in said
    assert main(["policy", "diff", str(old), str(new)]) == 1
    said = capsys.readouterr().out
    assert "webhook b is new" in said
    assert "webhook ops: events" in said
