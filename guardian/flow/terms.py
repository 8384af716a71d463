"""What sellers of v1 asked for last: a v1 payment does not say in which asset it pays. Memory only."""

from collections import OrderedDict
from typing import Final

from guardian.errors import BadPayment
from guardian.flow.paid import PaidExchange
from guardian.upstream.reply import Reply
from guardian.wire.demand import REQUIRED, Offer, read_demand

REMEMBERED: Final = 1024
"""Requests whose demand is remembered; some kB each."""

Asked = tuple[str, str, str]


class Terms:
    """The offers of demands by what was asked."""

    def __init__(self) -> None:
        self._offers: OrderedDict[Asked, tuple[Offer, ...]] = OrderedDict()

    def of(self, exchange: PaidExchange) -> tuple[Offer, ...]:
        """Those of the last demand in a body that answered this request."""
        return self._offers.get(_asked(exchange), ())

    def read(self, exchange: PaidExchange, demand: Reply, *, needed: bool) -> tuple[Offer, ...]:
        """The offers in a demand, which stays to be passed on; none where it cannot be read. Those in a
        header come back with the payment, so that one is only read where it is `needed` now."""
        in_header = any(name == REQUIRED for name, _ in demand.headers)
        if in_header and not needed:
            return ()
        body = demand.take()
        if body:
            demand.feed(body)
        try:
            found = read_demand(demand.headers, body)
        except BadPayment:
            return ()
        offers = found.offers if found else ()
        if offers and not in_header:
            self._offers[_asked(exchange)] = offers
            self._offers.move_to_end(_asked(exchange))
            if len(self._offers) > REMEMBERED:
                self._offers.popitem(last=False)
        return offers


def _asked(exchange: PaidExchange) -> Asked:
    return exchange.route, exchange.method, exchange.url
