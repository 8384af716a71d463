"""Durations: a number and its unit, nothing else."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardian.policy.units import parse_duration, show, write_duration


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
