"""Durations, amounts and paces: a number and its unit, nothing else."""

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardian.policy.units import (
    Amount,
    Pace,
    parse_amount,
    parse_duration,
    parse_pace,
    show,
    write_amount,
    write_duration,
    write_pace,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("25s", 25),
        ("1.5s", 1.5),
        ("2m", 120),
        ("1h", 3600),
        ("90d", 90 * 86400),
        (" 3 s ", 3),
    ],
)
def test_a_duration_is_a_number_and_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("bare", ["25", 25, 25.0, "0"])
def test_a_bare_number_is_an_error_that_shows_the_cure(bare: object) -> None:
    with pytest.raises(ValueError, match=r"has no unit; write \d+(\.0)?s if that is what you mean"):
        parse_duration(bare)


@pytest.mark.parametrize(
    "bad", ["", "s", "-1s", "1 week", "1S", "1e3s", "٣s", None, True, [], {}, "nan", "9" * 12 + "d"]
)
def test_what_is_no_duration_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_duration(bad)


def test_an_unknown_unit_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="ms, s, m, h, d"):
        parse_duration("5sec")


@given(st.integers(0, 10**9))
def test_a_written_duration_reads_back_as_itself(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(write_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@given(st.text(max_size=200) | st.integers() | st.none() | st.floats())
def test_an_error_shows_any_value_on_one_short_line(value: object) -> None:
    assert len(show(value)) <= 400
    assert show(value).isprintable()


@given(st.text(max_size=30) | st.integers() | st.floats())
def test_whatever_is_written_is_a_duration_or_a_value_error(value: object) -> None:
    with contextlib.suppress(ValueError):
        assert parse_duration(value) >= 0


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("$0.001", Amount(dollars=Decimal("0.001"))),
        ("$5", Amount(dollars=Decimal(5))),
        (" 1000 atomic ", Amount(atomic=1000)),
        ("0 atomic", Amount(atomic=0)),
    ],
)
def test_an_amount_is_dollars_or_atomic_units(text: str, amount: Amount) -> None:
    assert parse_amount(text) == amount
    assert parse_amount(write_amount(amount)) == amount


@pytest.mark.parametrize(
    "bad",
    [
        1000,
        0.001,
        "1000",
        "0.001",
        "$",
        "$-1",
        "$1e3",
        "1.5 atomic",
        "1 USDC",
        "$1 atomic",
        "٣ atomic",
        None,
        True,
        [],
        "9" * 78 + " atomic",
    ],
)
def test_what_is_no_amount_is_refused_with_the_cure(bad: object) -> None:
    with pytest.raises(ValueError, match=r"\$0.001|check the number"):
        parse_amount(bad)


@pytest.mark.parametrize(
    ("amount", "decimals", "atomic"),
    [
        ("$0.001", 6, 1000),
        ("$0.001", 18, 10**15),
        ("$0.0000001", 6, 1),  # rounded up: less than a unit is still more than nothing
        ("$0.001", None, None),  # not a dollar token
        ("7 atomic", None, 7),
        ("7 atomic", 6, 7),
    ],
)
def test_an_amount_counts_in_the_tokens_smallest_unit(
    amount: str, decimals: int | None, atomic: int | None
) -> None:
    assert parse_amount(amount).in_atomic(decimals) == atomic


@pytest.mark.parametrize(
    ("text", "pace"),
    [
        ("50 per s", Pace(50, 1)),
        ("600 per m", Pace(600, 60)),
        ("7per h", Pace(7, 3600)),
        ("50/s", Pace(50, 1)),
    ],
)
def test_a_pace_is_a_number_per_unit_of_time(text: str, pace: Pace) -> None:
    assert parse_pace(text) == pace
    assert parse_pace(write_pace(pace)) == pace


@pytest.mark.parametrize(
    "bad", ["50", 50, "0 per s", "50 per day", "1.5 per s", "per s", "-1 per s", None, True]
)
def test_what_is_no_pace_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match=r"50 per s|write 1 or more"):
        parse_pace(bad)


@given(st.text(max_size=30) | st.integers() | st.floats())
def test_whatever_is_written_is_an_amount_and_a_pace_or_a_value_error(value: object) -> None:
    with contextlib.suppress(ValueError):
        assert parse_amount(value)
    with contextlib.suppress(ValueError):
        assert parse_pace(value).count
