"""One caller that waits for one payment: how long, and when it is its turn to present it. No I/O."""

from guardian.flow.buying import Buying
from guardian.flow.paid import PaidExchange
from guardian.policy.layers import InForce
from guardian.settlement.states import Money

CHECK_S = 0.5
"""How long a departed caller, or a move by another replica, may go unnoticed."""

SHORTEST_WAIT_S = 0.01


class Stay:
    """From the caller's coming to its answer. The hold begins with the first doubt that it lives through:
    a seller may take its time before."""

    def __init__(self, buying: Buying, exchange: PaidExchange, in_force: InForce, now: float) -> None:
        """now: in the loop's seconds, as everywhere here."""
        self.buying = buying
        self.exchange = exchange
        self.in_force = in_force
        self._doubted_at = now
        self._asked = {False: 0, True: 0}

    def is_over(self, now: float) -> bool:
        """Nothing more can be done for this caller now."""
        buying = self.buying
        live, paid = buying.live, buying.live.paid
        if live.record.money is Money.PENDING:
            self._doubted_at = now
        if paid:
            buying.pace.shown_paid(now)
        if self.exchange.gone and (paid or buying.may_send or not buying.is_turn_of(self.exchange)):
            return True
        if buying.goods is not None or live.handing_out.locked():
            return self._left_s(now) <= 0
        if paid:  # it is asked for at least once, however late it is
            return not self._may_ask() or (self._left_s(now) <= 0 and self._asked[True] > 0)
        return self._left_s(now) <= 0

    @property
    def anyone(self) -> bool:
        """Paid and refused, and who asks has shown neither that it paid nor who it is: the refusal may be
        none of its business. Signing shows it, and costs nothing."""
        nameless = not (self.buying.live.record.asker or self.exchange.caller)
        return self.exchange.demand is not None and nameless and self._asked[True] > 0

    def is_next(self, now: float) -> bool:
        """The payment may be presented, or its goods be handed out, for this caller."""
        buying = self.buying
        if buying.live.handing_out.locked() or not buying.is_turn_of(self.exchange):
            return False
        if buying.goods is not None:
            return not self.exchange.gone
        return self._may_ask() and buying.is_due(now)

    def asks(self) -> None:
        """The payment is about to be presented."""
        if not self.buying.may_send:
            self._asked[self.buying.live.paid] += 1

    def wait_s(self, now: float) -> float:
        """Until it is worth looking again, if nothing happens before."""
        due_s = self.buying.pace.next_at - now if self._may_ask() else CHECK_S
        return max(SHORTEST_WAIT_S, min(CHECK_S, self._left_s(now), due_s if due_s > 0 else CHECK_S))

    def _left_s(self, now: float) -> float:
        settle, record = self.in_force.settle, self.buying.live.record
        hold_s = settle.hold_s if record.hint else settle.hold_without_hash_s
        return self._doubted_at + hold_s - now

    def _may_ask(self) -> bool:
        """A few times before the chain shows it paid, and a few times after; not where what presents it is
        sealed with a key that is not ours."""
        buying = self.buying
        asked = self._asked[buying.live.paid]
        return buying.may_send or (buying.kept is not None and asked < self.in_force.retry.attempts)
