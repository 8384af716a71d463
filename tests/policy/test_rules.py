"""Matching of rules against attempts."""

import json
import timeit
from typing import Any

import pytest
from pydantic import ValidationError

from guardian.policy.rules import (
    ActPolicy,
    ClassifyPolicy,
    Heard,
    History,
    Transport,
    When,
    has_words,
    read_said,
)
from guardian.policy.types import FROM_FILE
from guardian.settlement.verdict import Operation

SETTLE, VERIFY = Operation.SETTLE, Operation.VERIFY
PAGE = b"<html><head><title>Attention Required! | Cloudflare</title></head></html>"


def when(**keys: Any) -> When:
    return When.model_validate(keys, context=FROM_FILE)


def reply(
    said: object = None, *, status: int = 200, body: bytes | None = None, operation: Operation = SETTLE
) -> Heard:
    text = json.dumps(said).encode() if body is None else body
    return Heard(operation=operation, facilitator="main", network="eip155:8453", status=status, body=text)


def matches(rule: When, heard: Heard, profile: str = "") -> bool:
    return rule.matches(heard, read_said(heard), profile)


REFUSED = reply({"success": False, "errorReason": "vault_closed", "errorMessage": "The Vault  is\nclosed."})


def test_an_empty_when_matches_everything() -> None:
    assert matches(when(), REFUSED)
    assert matches(when(), Heard(operation=VERIFY, transport=Transport.LOST))


@pytest.mark.parametrize(
    ("keys", "yes"),
    [
        ({"facilitator": "main"}, True),
        ({"facilitator": ["other", "main"]}, True),
        ({"facilitator": "other"}, False),
        ({"profile": "shop"}, True),
        ({"profile": "cdp"}, False),
        ({"network": "eip155:8453"}, True),
        ({"network": "base"}, True),
        ({"network": "eip155:*"}, True),
        ({"network": "solana:*"}, False),
        ({"network": "eip155:84532"}, False),
        ({"operation": "settle"}, True),
        ({"operation": ["verify", "settle"]}, True),
        ({"operation": "verify"}, False),
        ({"status": 200}, True),
        ({"status": "2xx"}, True),
        ({"status": [503, "4xx"]}, False),
        ({"body": "json"}, True),
        ({"body": "not_json"}, False),
        ({"reason": "vault_closed"}, True),
        ({"reason": "VAULT_CLOSED"}, False),
        ({"reason": "vault"}, False),
        ({"text": "vault is closed"}, True),
        ({"text": "THE vault*closed"}, True),
        ({"text": "closed*vault"}, False),
        ({"text": ["nothing", "closed."]}, True),
        ({"transport": "reply"}, True),
        ({"transport": ["timeout", "lost"]}, False),
        ({"history": "first"}, True),
        ({"history": "in_doubt"}, False),
        ({"status": 200, "reason": "vault_closed", "text": "vault", "network": "eip155:*"}, True),
        ({"status": 200, "reason": "vault_closed", "text": "other words"}, False),
    ],
)
def test_every_key_must_hold_and_of_a_list_any_entry(keys: dict[str, Any], yes: bool) -> None:
    assert matches(when(**keys), REFUSED, "shop") is yes


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        (b"", {"any", "empty", "not_json"}),
        (b" \n", {"any", "empty", "not_json"}),
        (PAGE, {"any", "html", "not_json"}),
        (b"no healthy upstream", {"any", "not_json"}),
        (b"[1]", {"any", "not_json"}),
        (b'{"error":"x"}', {"any", "json"}),
    ],
)
def test_the_kinds_of_a_body(body: bytes, kinds: set[str]) -> None:
    heard = reply(body=body, status=503)
    found = {kind for kind in ("any", "empty", "html", "json", "not_json") if matches(when(body=kind), heard)}
    assert found == kinds


def test_without_a_reply_nothing_of_a_reply_matches() -> None:
    lost = Heard(operation=SETTLE, transport=Transport.LOST, detail="Connection RESET by peer")
    assert not matches(when(status="5xx"), lost)
    assert not matches(when(body="empty"), lost)
    assert not matches(when(body="not_json"), lost)
    assert not matches(when(reason="vault_closed"), lost)
    assert matches(when(text="connection reset", transport="lost"), lost)


def test_a_page_is_known_by_its_words() -> None:
    assert matches(when(text="attention required*cloudflare"), reply(body=PAGE, status=403))


def test_a_text_is_looked_for_in_every_string_of_the_body() -> None:
    nested = {"error": {"code": -1, "details": [{"note": "vault number nine"}]}}
    assert matches(when(text="vault number"), reply(nested, status=500))


def test_reasons_of_every_dialect_are_known() -> None:
    assert matches(when(reason="vault_closed"), reply({"error": "vault_closed: come back"}, status=500))
    assert matches(when(reason="insufficient_funds"), reply({"error": "insufficient_funds: 0"}, status=500))
    assert matches(when(reason="not_found"), reply({"errorType": "not_found"}, status=404))
    invalid = reply({"isValid": False, "invalidReason": "vault_closed"}, operation=VERIFY)
    assert matches(when(reason="vault_closed"), invalid)


def test_a_reply_that_an_sdk_quotes_is_matched_by_its_inside() -> None:
    inside = json.dumps({"success": False, "errorReason": "vault_closed"})
    quoted = reply({"success": False, "errorReason": f"Facilitator settle failed (503): {inside}"})
    assert matches(when(status=503, reason="vault_closed"), quoted)
    assert not matches(when(status=200), quoted)


def test_the_history_and_the_transport_are_those_of_the_attempt() -> None:
    heard = Heard(operation=SETTLE, transport=Transport.TIMEOUT, history=History.IN_DOUBT)
    assert matches(when(transport="timeout", history=["repeated", "in_doubt"]), heard)


@pytest.mark.parametrize("text", ["a" * 16_384, "ab" * 8_000, "a*b" * 5_000])
def test_no_text_makes_a_glob_slow(text: str) -> None:
    glob = "*".join(["a" * 4] * 30) + "*b*c"
    assert min(timeit.repeat(lambda: has_words(text, glob), number=1, repeat=5)) < 0.005


def test_words_may_not_overlap() -> None:
    assert has_words("abab", "ab*ab")
    assert not has_words("aba", "ab*ba")


@pytest.mark.parametrize("settle", ["transient", "permanent", "unknown", "", None, 3])
def test_a_default_on_settle_other_than_settlement_names_law_1(settle: object) -> None:
    with pytest.raises(ValidationError, match="law 1"):
        ClassifyPolicy.model_validate({"rules": [], "default": {"settle": settle}}, context=FROM_FILE)


@pytest.mark.parametrize("section", [ClassifyPolicy, ActPolicy])
def test_the_schema_asks_editors_for_a_default(section: type[ClassifyPolicy]) -> None:
    assert section.model_json_schema()["required"] == ["default"]


def test_a_rule_cannot_call_a_reply_a_success() -> None:
    rule = {"name": "r", "when": {}, "class": "success"}
    with pytest.raises(ValidationError):
        ClassifyPolicy.model_validate({"rules": [rule], "default": {}}, context=FROM_FILE)
