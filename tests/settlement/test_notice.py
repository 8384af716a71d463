"""Which moves are news, and in which order."""

import msgspec
import pytest

from guardian.settlement.notice import Kind, kinds_of
from guardian.settlement.record import AGENT, Settlement
from guardian.settlement.states import Answer, Money
from tests.store.conftest import settlement

HASH = "0x" + "cd" * 32


def after(before: Settlement, **changes: object) -> tuple[Kind, ...]:
    return kinds_of(before, msgspec.structs.replace(before, **changes))


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ({"money": Money.PENDING}, {"money": Money.UNRESOLVED}, [Kind.UNRESOLVED]),
        ({"money": Money.UNRESOLVED}, {"money": Money.POLLING}, []),
        ({"money": Money.POLLING}, {"money": Money.CONFIRMED_LATE}, [Kind.CONFIRMED_LATE]),
        (
            {"money": Money.POLLING, "answer": Answer.REFUSED},
            {"money": Money.CONFIRMED_LATE},
            [Kind.CONFIRMED_LATE, Kind.ORPHANED],
        ),
        ({"money": Money.POLLING}, {"money": Money.FAILED_ORPHANED}, [Kind.FAILED]),
        ({"money": Money.PENDING}, {"money": Money.FAILED}, [Kind.FAILED]),
        ({"money": Money.IDLE}, {"money": Money.FAILED, "paid_by": "another"}, []),
        ({"money": Money.PENDING}, {"money": Money.CONFIRMED}, []),
        (
            {"money": Money.PENDING},
            {"money": Money.CONFIRMED, "answer": Answer.ACCEPTED},
            [Kind.DELIVERED],
        ),
        (
            {"money": Money.CONFIRMED, "answer": Answer.ACCEPTED},
            {"money": Money.FAILED},
            [Kind.FAILED, Kind.UNPAID],
        ),
        (
            {"money": Money.POLLING, "plane": AGENT, "vouched": True},
            {"money": Money.FAILED_ORPHANED},
            [Kind.FAILED, Kind.UNPAID],
        ),
        ({"money": Money.CONFIRMED}, {"answer": Answer.ABANDONED}, [Kind.ORPHANED]),
        (
            {"money": Money.CONFIRMED, "answer": Answer.REFUSED},
            {"closed_by": "ann", "refund_transaction": HASH},
            [Kind.REFUNDED],
        ),
        ({"money": Money.CONFIRMED, "answer": Answer.REFUSED}, {"closed_by": "ann"}, [Kind.WRITTEN_OFF]),
        ({"money": Money.FAILED, "paid_by": "another"}, {"answer": Answer.ACCEPTED}, []),
        ({"money": Money.CONFIRMED}, {"chain_proven": True}, []),
    ],
)
def test_what_a_move_is_news_of(was: dict, now: dict, told: list[Kind]) -> None:  # type: ignore[type-arg]
    assert list(after(settlement(**was), **now)) == told
