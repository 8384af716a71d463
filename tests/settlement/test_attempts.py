"""What is kept of attempts: bounded, how it began and how it stands."""

from guardian.settlement.attempts import FIRST_KEPT, LAST_KEPT, Attempt, with_attempts


def attempt(at: float, **changes: object) -> Attempt:
    facts: dict[str, object] = {"at": at, "to": "main", "status": 500, "note": "n", "sha256": "a"}
    return Attempt(**(facts | changes))  # type: ignore[arg-type]


def test_the_same_answer_again_only_counts() -> None:
    (kept,) = with_attempts((attempt(1),), [attempt(2), attempt(3)])
    assert (kept.at, kept.times, kept.last_at) == (1, 3, 3)


def test_another_answer_is_kept_beside() -> None:
    kept = with_attempts((), [attempt(1), attempt(2, status=502), attempt(3)])
    assert [(one.at, one.status, one.times) for one in kept] == [(1, 500, 1), (2, 502, 1), (3, 500, 1)]


def test_the_first_and_the_newest_stay() -> None:
    kept = with_attempts((), [attempt(at, sha256=str(at)) for at in range(100)])
    assert [one.at for one in kept] == [*range(FIRST_KEPT), *range(100 - LAST_KEPT, 100)]
