"""Tests inside a policy: given this reply, expect this; what does not hold is named."""

from guardian.policy.cases import Given, Miss, heard, run_cases
from guardian.policy.load import parse_policy
from guardian.policy.rules import Transport

HEAD = "version: 1\nfacilitators: [{name: main, url: http://h}, {name: other, url: http://i}]\n"
TEXT = (
    HEAD
    + """\
tests:
  - name: holds
    given: {operation: settle, transport: timeout}
    expect: {class: settlement, retry: false, watch: true}
  - name: does not hold
    given: {operation: settle, transport: not_sent}
    expect: {class: settlement, retry: false, failover: true}
"""
)


def test_every_expectation_that_does_not_hold_is_named() -> None:
    assert run_cases(parse_policy(TEXT)) == [
        Miss(1, "does not hold", "class_", "settlement", "transient"),
        Miss(1, "does not hold", "retry", "false", "true"),
    ]


def test_only_what_is_written_is_compared() -> None:
    policy = parse_policy(HEAD + "tests: [{name: a, given: {status: 502, body: x}, expect: {}}]\n")
    assert run_cases(policy) == []


def test_a_reply_is_of_the_first_facilitator_and_status_200_unless_it_says_so() -> None:
    policy = parse_policy(HEAD)
    assert (heard(policy, Given()).facilitator, heard(policy, Given()).status) == ("main", 200)
    asked = heard(policy, Given(facilitator="other", status=503))
    assert (asked.facilitator, asked.status) == ("other", 503)


def test_where_no_reply_came_there_is_no_status_and_no_body() -> None:
    lost = heard(parse_policy(HEAD), Given(transport=Transport.LOST, status=500, body="x", detail="reset"))
    assert (lost.status, lost.body, lost.detail) == (0, b"", "reset")
