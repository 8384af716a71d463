"""How a service says "slower", and how many calls it is sent then."""

from typing import Any

import pytest

from guardian.chain.limits import (
    BURST_S,
    LOWEST_PER_S,
    RECOVERY_S,
    RETRY_AFTER_CAP_S,
    Budget,
    is_rate_limit,
    retry_after_s,
    wait_in_error_s,
)

NOW = 1000.0


@pytest.mark.parametrize(
    "error",
    [
        {"code": 429, "message": "Your app has exceeded its compute units per second capacity."},
        {"code": -32005, "message": "daily request count exceeded, request rate limited"},
        {"code": -32005, "message": ""},
        {"code": -32007, "message": "50/second request limit reached - reduce calls per second"},
        {"code": -32012, "message": "credits limited to 6000/sec"},
        {"code": -32016, "message": "over rate limit"},
        {"code": -32029, "message": "Rate limit exceeded"},
        {"code": -32000, "message": "429 Too Many Requests"},
    ],
)
def test_every_way_of_saying_slower_is_understood(error: dict[str, Any]) -> None:
    assert is_rate_limit(error)


@pytest.mark.parametrize(
    "error",
    [
        {"code": -32005, "message": "query returned more than 10000 results"},
        {"code": -32005, "message": "block range limit exceeded"},
        {"code": -32600, "message": "eth_getLogs is limited to a 10,000 range"},
        {"code": -32000, "message": "header not found"},
        None,
        "rate limit",
        {},
    ],
)
def test_a_question_that_asks_for_too_much_is_no_rate_limit(error: object) -> None:
    assert not is_rate_limit(error)


@pytest.mark.parametrize(
    "error",
    [
        {"code": 3, "message": "rate limit exceeded"},
        {"code": -32000, "message": "execution reverted: rate limit exceeded"},
        {"code": -32015, "message": "VM execution error: too many requests"},
    ],
)
def test_a_contract_cannot_silence_an_endpoint_by_the_text_it_reverts_with(error: dict[str, Any]) -> None:
    assert not is_rate_limit(error)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("999999", RETRY_AFTER_CAP_S),
        ("Thu, 01 Jan 1970 00:16:50 GMT", 10.0),
        ("soon", None),
        ("nan", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, NOW) == seconds


def test_the_wait_in_an_error_object_is_read() -> None:
    assert wait_in_error_s({"data": {"rate": {"backoff_seconds": 30}}}) == 30.0
    assert wait_in_error_s({"data": ["rate"]}) is None
    assert wait_in_error_s({"data": {"rate": {"backoff_seconds": "30"}}}) is None


def test_a_budget_bounds_what_is_spent_over_time_and_allows_a_burst() -> None:
    budget = Budget(10)
    budget.spend(100, NOW)
    assert budget.left(NOW) == 0
    assert budget.left(NOW + 1) == 10
    assert budget.left(NOW + 1000) == 10 * BURST_S


def test_a_debt_is_paid_by_waiting() -> None:
    budget = Budget(10)
    budget.spend(120, NOW)
    assert budget.debt_s(NOW) == 2.0
    assert budget.debt_s(NOW + 2) == 0.0


def test_a_limited_endpoint_rests_as_long_as_it_asked() -> None:
    budget = Budget(10)
    budget.limited(NOW, 7.0)
    assert budget.resting_s(NOW) == 7.0
    assert budget.resting_s(NOW + 7) == 0.0


def test_without_a_word_the_rest_grows_with_each_complaint_and_is_forgotten() -> None:
    budget = Budget(10)
    rests = []
    for _ in range(3):
        now = max(NOW, budget.rest_until)
        budget.limited(now, None)
        rests.append(budget.resting_s(now))
    assert rests == [1.0, 2.0, 4.0]
    budget.limited(NOW + 1000, None)
    assert budget.resting_s(NOW + 1000) == 1.0


def test_a_complaint_halves_the_rate_once_and_it_recovers() -> None:
    budget = Budget(64)
    budget.limited(NOW, 1.0)
    budget.limited(NOW, 1.0)
    assert budget.per_s(NOW) == 32
    assert budget.per_s(NOW + RECOVERY_S) == 64
    assert budget.per_s(NOW + 100 * RECOVERY_S) == 64


def test_a_rate_never_falls_to_nothing() -> None:
    budget = Budget(4)
    for _ in range(20):
        budget.limited(max(NOW, budget.rest_until), 0.0)
    assert budget.per_s(NOW) == LOWEST_PER_S
