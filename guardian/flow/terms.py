"""What sellers asked for last, by what was asked. Memory only.

Two things of it are needed later: a v1 payment does not say in which asset it pays, and the record of a
payment says what its seller had offered where the agent was shown something else.
"""

from dataclasses import dataclass
from typing import Final

import orjson

from guardian.errors import BadPayment
from guardian.flow.newest import Newest
from guardian.flow.paid import PaidExchange
from guardian.upstream.reply import Reply
from guardian.wire.demand import REQUIRED, Demand, Offer, read_demand

REMEMBERED: Final = 1024
"""Requests whose demand is remembered; some kB each."""

MAX_ORIGINAL_CHARS: Final = 4000
"""Of the offers as the seller made them, in the audit trail of a record."""

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Read:
    """A 402 as far as it can be read. fault: it demands something, and cannot be read."""

    demand: Demand | None = None
    fault: BadPayment | None = None

    @property
    def offers(self) -> tuple[Offer, ...]:
        """All of them, none where there is no demand."""
        return self.demand.offers if self.demand else ()


class Terms:
    """The offers of demands by what was asked."""

    def __init__(self) -> None:
        self._offers = Newest[Key, tuple[Offer, ...]](REMEMBERED)
        self._original = Newest[Key, str](REMEMBERED)

    def of(self, exchange: PaidExchange) -> tuple[Offer, ...]:
        """Those of the last demand in a body that answered this request."""
        return self._offers.get(_key(exchange), ())

    def original(self, exchange: PaidExchange) -> str:
        """What the seller had offered for this request; "" where agents were shown just that."""
        written = self._original.get(_key(exchange))
        return f"its seller offered {written}" if written else ""

    def read(self, exchange: PaidExchange, reply: Reply) -> Read:
        """The demand in a 402, which stays to be passed on. Those in a header come back with the payment,
        so that only what a body alone demands is remembered."""
        self._original.pop(_key(exchange), None)
        if not reply.whole:
            return Read(fault=BadPayment("body", "a 402 with a very long body", "send a short demand"))
        body = reply.take()
        if body:
            reply.feed(body)
        try:
            demand = read_demand(reply.headers, body)
        except BadPayment as fault:
            return Read(fault=fault)
        if demand is not None and demand.offers and not any(name == REQUIRED for name, _ in reply.headers):
            self._offers.put(_key(exchange), demand.offers)
        return Read(demand)

    def changed(self, exchange: PaidExchange, demand: Demand) -> None:
        """The agent is shown other offers than these, or in another order."""
        self._original.put(_key(exchange), _written(demand))


def _written(demand: Demand) -> str:
    """The offers in their order, each once: header and body say the same."""
    spot = demand.offers[0].spot
    listed = [
        {
            "scheme": one.scheme,
            "network": one.network_as_sent,
            "asset": one.asset,
            "payTo": one.pay_to,
            "amount": None if one.amount is None else str(one.amount),
        }
        for one in demand.offers
        if one.spot == spot
    ]
    return orjson.dumps(listed).decode()[:MAX_ORIGINAL_CHARS]


def _key(exchange: PaidExchange) -> Key:
    return exchange.route, exchange.method, exchange.url
