"""Whether payments on a network go through just now, by what this process has seen of them.

A network is unhealthy while one of these holds:

- its RPC endpoints cannot be followed (none answers, is current and moves);
- the circuit of every facilitator of the policy is open for settling on it;
- of the payments that were sent in the last WINDOW_S, on both planes, more than TOO_MANY went wrong, and at
  least ENOUGH can be judged: those that the chain has shown, and those that were broadcast and are older
  than `settlement_timeout`. Wrong is what the chain showed later than that, or not yet; and an orphan,
  unless its seller refused with 4xx, which no network makes it do.

A payment that nobody is known to have broadcast (the seller answered 500 before it settled, the payer's
account is empty) says nothing about its network.

What is not known counts as healthy: a network without `rpc` is judged by the rest, and so is a payment
whose chain another replica watches. After WINDOW_S without payments nothing is held against a network any
more, so that it is tried again.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from guardian.facilitator.circuit import OPEN as CIRCUIT_OPEN
from guardian.facilitator.circuit import CircuitKey
from guardian.flow.diagnosis import is_charged_on_4xx
from guardian.flow.live import Live
from guardian.flow.parts import Generation, Parts
from guardian.settlement.record import AGENT, Settlement
from guardian.settlement.states import PAID, UNPAID, Money
from guardian.wire.names import Network

WINDOW_S: Final = 600.0
ENOUGH: Final = 4
"""One or two payments that go wrong are a seller's or a payer's fault as often as the network's."""

TOO_MANY: Final = 0.25
MAX_PAYMENTS: Final = 128
"""Remembered of one network, the newest: beyond it the window is shorter."""

MAX_NETWORKS: Final = 64


@dataclass(slots=True)
class _Sent:
    """One payment. settled_s: how long until the chain showed it, None while it has not; broadcast: somebody
    is known to have sent it to the chain, or a facilitator to have had it from us."""

    at: float
    settled_s: float | None = None
    broadcast: bool = False
    orphan: bool = False


class Health:
    """What the payments of this process tell of their networks."""

    def __init__(self, parts: Parts, leads: Callable[[Network], bool]) -> None:
        """leads: whether this process watches a network."""
        self._parts = parts
        self._leads = leads
        self._began = parts.clock()
        self._sent: dict[Network, OrderedDict[str, _Sent]] = {}

    def moved(self, live: Live, old: Settlement) -> None:
        """A payment has moved; told by Lives."""
        new = live.record
        if new.money is Money.IDLE or new.paid_by:
            return
        sent = self._sent.get(new.network)
        if sent is None:
            if len(self._sent) >= MAX_NETWORKS:
                return
            sent = self._sent[new.network] = OrderedDict()
        if new.money in UNPAID and not new.tainted:  # refused before it was sent: says nothing
            sent.pop(new.key, None)
            return
        one = sent.get(new.key)
        if one is None:
            if old.money in PAID or old.money in UNPAID:
                return  # it was over before
            one = sent[new.key] = _Sent(max(self._began, _sent_at(new)))
            if len(sent) > MAX_PAYMENTS:
                sent.popitem(last=False)
        one.orphan = new.orphan and not is_charged_on_4xx(new)
        one.broadcast = bool(new.hint) or new.plane != AGENT
        if one.settled_s is None and new.money in PAID and (new.chain_proven or not new.watched):
            one.settled_s = self._parts.clock() - one.at

    def fault(self, network: str, generation: Generation) -> str:
        """Why a network is unhealthy; "" where it is not."""
        id = Network(network)
        watcher = self._parts.watchers.get(id)
        if watcher is not None and not watcher.healthy:
            return watcher.fault or "its chain cannot be followed"
        names = [one.name for one in generation.facilitators.all]
        states = {self._parts.circuits.state(CircuitKey(name, network, "settle")) for name in names}
        if states == {CIRCUIT_OPEN}:
            return "every facilitator's circuit is open"
        judged, wrong = self.judged(network, generation)
        if judged >= ENOUGH and wrong > TOO_MANY * judged:
            return f"{wrong} of {judged} payments were late, lost or undelivered"
        return ""

    def networks(self, generation: Generation) -> list[str]:
        """Those of the policy, and others that payments were seen on."""
        return list(dict.fromkeys((*generation.policy.networks, *self._sent)))

    def judged(self, network: str, generation: Generation) -> tuple[int, int]:
        """Of the last payments: how many can be judged, and how many of them went wrong."""
        limit_s = generation.policy.network(network).settlement_timeout_s
        now, leads = self._parts.clock(), self._leads(Network(network))
        judged = wrong = 0
        for one in self._sent.get(Network(network), {}).values():
            age_s = now - one.at
            if age_s > max(WINDOW_S, 2 * limit_s):
                continue
            overdue = age_s > limit_s and one.broadcast and leads
            if one.settled_s is None and not one.orphan and not overdue:
                continue
            judged += 1
            wrong += one.orphan or one.settled_s is None or one.settled_s > limit_s
        return judged, wrong


def _sent_at(record: Settlement) -> float:
    """When it first was more than claimed, by its audit trail."""
    return next((event.at for event in record.events if event.money is not Money.IDLE), record.created_at)
