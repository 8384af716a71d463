"""What sellers asked for before: the prices of a request, the payees of a host. Memory only, per process;
it begins with what the records say was paid lately.

The first demand is believed. What a demand was refused for is not remembered, so that asking again does
not make it right. Nothing that one seller says can push out what is known of another.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urlsplit

from guardian.settlement.record import Settlement
from guardian.wire.demand import Offer

MAX_REQUESTS: Final = 4096
"""Requests whose prices are known; the one longest unasked goes first."""

MAX_HOSTS: Final = 1024
MAX_PRICES, MAX_TOKENS, MAX_PAYEES = 8, 64, 64
"""Of one request, of one host, and of one token there: more are not remembered, and the old ones stay."""

RISES_EVERY_S: Final = 3600.0
"""A price below the limit becomes the one to compare with after this long, and one that falls at once: so
nobody climbs over the limit in small steps within minutes."""

Token = tuple[str, str, str]
"""Network, asset, and scheme where a price is meant: `upto` names a most."""

Name = TypeVar("Name")
Known = TypeVar("Known")


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, as far as demands are compared by it. request: a short name of method and URL."""

    host: str
    request: bytes

    @classmethod
    def of(cls, method: str, url: str) -> "Asked":
        """url: absolute."""
        name = hashlib.blake2b(f"{method} {url}".encode(), digest_size=16).digest()
        return cls(urlsplit(url).netloc, name)


@dataclass(frozen=True, slots=True)
class _Price:
    amount: int
    since: float


class Remembered:
    """Prices and payees."""

    def __init__(self) -> None:
        self._prices: OrderedDict[bytes, dict[Token, _Price]] = OrderedDict()
        self._payees: OrderedDict[str, dict[Token, set[str]]] = OrderedDict()

    def price(self, asked: Asked, offer: Offer) -> int | None:
        """What the same cost before in the same token and scheme, in atomic units."""
        known = self._prices.get(asked.request, {}).get((offer.network, offer.asset, offer.scheme))
        return known.amount if known else None

    def payees(self, asked: Asked, offer: Offer) -> frozenset[str]:
        """Whom the host named before for the same token."""
        return frozenset(self._payees.get(asked.host, {}).get((offer.network, offer.asset, ""), ()))

    def passed(self, asked: Asked, offers: Iterable[Offer], now: float) -> None:
        """These offers were let through. now: Unix seconds."""
        for offer in offers:
            if offer.amount is not None:
                self._priced(asked, (offer.network, offer.asset, offer.scheme), offer.amount, now)
            self._paid_to(asked.host, (offer.network, offer.asset, ""), offer.pay_to)

    def paid(self, record: Settlement) -> None:
        """An agent paid this before the process began."""
        asked = Asked.of(record.verb, record.resource)
        price = (record.network, record.asset, record.scheme)
        self._priced(asked, price, record.amount, record.created_at)
        self._paid_to(asked.host, (record.network, record.asset, ""), record.pay_to)

    def _priced(self, asked: Asked, token: Token, amount: int, now: float) -> None:
        prices = _newest(self._prices, asked.request, MAX_REQUESTS)
        known = prices.get(token)
        if known is None and len(prices) >= MAX_PRICES:
            return
        if known is None or amount < known.amount or now - known.since >= RISES_EVERY_S:
            prices[token] = _Price(amount, now)

    def _paid_to(self, host: str, token: Token, payee: str) -> None:
        tokens = _newest(self._payees, host, MAX_HOSTS)
        if not payee or (token not in tokens and len(tokens) >= MAX_TOKENS):
            return
        payees = tokens.setdefault(token, set())
        if len(payees) < MAX_PAYEES:
            payees.add(payee)


def _newest(kept: OrderedDict[Name, dict[Token, Known]], name: Name, most: int) -> dict[Token, Known]:
    """Those of a request or a host, which is now the newest."""
    found = kept.setdefault(name, {})
    kept.move_to_end(name)
    if len(kept) > most:
        kept.popitem(last=False)
    return found
