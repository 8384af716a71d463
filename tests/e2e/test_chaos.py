"""Replicas on one Redis while everything around them fails, in small: `bench/chaos.py` does it at length."""

from collections.abc import Callable
from pathlib import Path

import pytest

from guardian.sandbox.chaos.schedule import plan
from guardian.sandbox.chaos.trial import Outcome, Terms, run
from guardian.sandbox.node import SandboxError

pytestmark = pytest.mark.e2e

SECONDS = 15.0


@pytest.fixture
def trial(tmp_path: Path) -> Callable[[Terms], Outcome]:
    def try_out(terms: Terms) -> Outcome:
        print(terms)
        try:
            outcome = run(terms, tmp_path, print)
        except SandboxError as missing:
            pytest.skip(f"no sandbox here: {missing}")
        for name, figure in outcome.table:
            print(f"{name:<60} {figure}")
        return outcome

    return try_out


def test_no_fault_around_two_replicas_loses_or_doubles_a_payment(trial: Callable[[Terms], Outcome]) -> None:
    outcome = trial(Terms(seed=7, seconds=SECONDS, replicas=2, store="redis", per_s=4.0, kill_every_s=3.0))
    assert outcome.judgement.violations == []
    assert {"kill", "misbehave"} <= outcome.done, "the trial shows nothing"


def test_a_seed_gives_one_schedule_and_a_longer_run_begins_like_a_shorter_one() -> None:
    first, again, longer = (
        plan(5, seconds, replicas=3, facilitators=2, store="sentinel") for seconds in (60, 60, 90)
    )
    assert first == again == longer[: len(first)]
    assert first != plan(6, 60, replicas=3, facilitators=2, store="sentinel")
