"""Which facilitators may serve a payment, in which order, and when it is their turn.

The order is the policy's; those of equal order share the payments by weight, and each payment finds the
same one of them every time. A facilitator drops out while its circuit admits nothing, or when its own
/supported leaves the payment's kind out; one whose /supported was never read stays in, and where no
one claims the kind the first gets it: unknown networks and schemes still pass (law 7).
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import groupby

from guardian.facilitator.catalogue import Catalogue, HeadersFor, OnFault
from guardian.facilitator.circuit import OPEN, CircuitKey, Circuits
from guardian.facilitator.client import Facilitator, RawHeaders, Reply
from guardian.facilitator.pacing import FREE, Turn, Turns
from guardian.facilitator.supported import as_signer
from guardian.policy.units import Pace


@dataclass(frozen=True, slots=True)
class Member:
    """One facilitator among the others.

    order: lower is asked first; weight: its share among those of equal order; max_settles: at once per
    network; failover_to: names that may be asked after it, None for all.
    """

    facilitator: Facilitator
    order: int = 0
    weight: float = 1.0
    max_settles: int | None = None
    pace: Pace | None = None
    failover_to: tuple[str, ...] | None = None


class Facilitators:
    """All facilitators of a policy, at least one; plain ones stand in the order given.

    `clock` counts seconds; headers_for and on_fault are for asking /supported: see Catalogue.
    """

    def __init__(
        self,
        members: Sequence[Member | Facilitator],
        circuits: Circuits,
        *,
        clock: Callable[[], float],
        headers_for: HeadersFor = lambda facilitator, headers: headers,
        on_fault: OnFault = lambda name, why: None,
    ) -> None:
        self._members = _in_order(members)
        self.all = tuple(member.facilitator for member in self._members)
        self._circuits = circuits
        self._clock = clock
        self._headers_for = headers_for
        self._on_fault = on_fault
        self._by_name = {member.facilitator.name: member for member in self._members}
        groups = groupby(self._members, key=lambda member: member.order)
        self._groups = [tuple(group) for _, group in groups]
        self._turns = {name: Turns(clock) for name in self._by_name}
        self._catalogue = Catalogue(
            self.all, self._dead, clock=clock, headers_for=headers_for, on_fault=on_fault
        )
        self._known = self._catalogue.known
        self._set_limits()

    def named(self, name: str) -> Facilitator | None:
        """The one of this name, if there is one."""
        member = self._by_name.get(name)
        return member.facilitator if member else None

    def candidates(
        self,
        network: str,
        scheme: str,
        operation: str,
        *,
        x402_version: int | None = None,
        key: str = "",
        only: str = "",
    ) -> list[Facilitator]:
        """Those that may be asked now, in order; empty when every fitting circuit is open.

        network: CAIP-2 where known, v1 names in /supported are translated. x402_version: None for any.
        key: of the payment, by which equals share; without it they stand as the policy lists them.
        only: the name of the one facilitator that this is bound to, whatever it claims to support.
        """
        fitting: Sequence[Facilitator]
        if only:
            fitting = [named] if (named := self.named(only)) else []
        elif len(self.all) == 1:  # where no one claims the kind the first gets it
            fitting = self.all
        else:
            ranked = self._ranked(key)
            fitting = [one for one in ranked if self._may_serve(one, network, scheme, x402_version)]
            fitting = fitting or self.all[:1]
        may_admit = self._circuits.may_admit
        return [one for one in fitting if may_admit(CircuitKey(one.name, network, operation))]

    def failover(self, from_name: str) -> frozenset[str]:
        """Who else may be asked after this one provably executed nothing."""
        member = self._by_name.get(from_name)
        if member is not None and member.failover_to is not None:
            return frozenset(member.failover_to) & self._by_name.keys() - {from_name}
        return frozenset(self._by_name) - {from_name}

    def turn(self, facilitator: Facilitator, network: str, operation: str, deadline: float) -> Turn:
        """`async with` it around one request: waits for the facilitator's pace and cap.

        deadline: in the clock's seconds, for the waiting alone; one that is past asks only whether it
        could go at once. Raises NotSent when the turn does not come in time.
        """
        turns = self._turns.get(facilitator.name)
        return turns.turn(network, operation, deadline) if turns is not None else FREE

    @property
    def silent(self) -> dict[str, str]:
        """Those that could not be reached when they were last asked for /supported, and why."""
        return {name: one.fault for name, one in self._known.items() if one.silent_since is not None}

    def claimed(self, network: str, scheme: str, x402_version: int | None = None) -> bool | None:
        """Whether any facilitator lists the kind; None while one that might has never said."""
        unsaid = False
        for known in self._known.values():
            if known.supported is None:
                unsaid = True
            elif known.supported.serves(network, scheme, x402_version):
                return True
        return None if unsaid else False

    def signing_as(self, address: str) -> str:
        """The name of the first facilitator that signs with this address; "" where none says so.

        A Solana transaction names its fee payer, an upto payment its facilitator: nobody else can settle it.
        """
        signer = as_signer(address)
        found = (
            name for name, one in self._known.items() if one.supported and signer in one.supported.signers
        )
        return next(found, "")

    async def supported(self, headers: RawHeaders = (), *, timeout_s: float = 10.0) -> Reply:
        """Every facilitator's /supported in one, without the rails that are dead everywhere.

        Without one good answer, now or before: the first facilitator's reply as it is, or its error.
        Raises NotSent or ReplyLost.
        """
        return await self._catalogue.answer(headers, timeout_s)

    async def start(self) -> None:
        """Read every /supported, briefly, and keep them fresh in the background. Idempotent."""
        await self._catalogue.start()

    async def stop(self) -> None:
        """End the background's work; connections stay, and requests under way end as they would."""
        await self._catalogue.stop()

    async def close(self) -> None:
        """Stop, and close every facilitator's connections."""
        await self._catalogue.stop()
        self._catalogue.abandon()
        await asyncio.gather(*(facilitator.close() for facilitator in self.all))

    def replaced(
        self, members: Sequence[Member | Facilitator]
    ) -> "tuple[Facilitators, tuple[Facilitator, ...]]":
        """These members from now on, and the clients to close once their requests have ended.

        A facilitator of the same name and URL keeps its client, what it said of itself, its circuits and
        its queues; the circuits of the others are forgotten. Then start the new one and stop this one.
        """
        given = [self._kept(member) for member in _in_order(members)]
        new = Facilitators(
            given,
            self._circuits,
            clock=self._clock,
            headers_for=self._headers_for,
            on_fault=self._on_fault,
        )
        for kept in set(self.all) & set(new.all):
            new._known[kept.name] = self._known[kept.name]
            new._turns[kept.name] = self._turns[kept.name]
        new._set_limits()
        for gone in set(self.all) - set(new.all):
            self._circuits.forget(gone.name)
        mentioned = [*self.all, *(member.facilitator for member in _in_order(members))]
        return new, tuple(dict.fromkeys(one for one in mentioned if one not in new.all))

    def _kept(self, member: Member) -> Member:
        old = self.named(member.facilitator.name)
        same = old is not None and old.url == member.facilitator.url
        return replace(member, facilitator=old) if same and old else member

    def _set_limits(self) -> None:
        for name, member in self._by_name.items():
            self._turns[name].set(member.max_settles, member.pace)

    def _ranked(self, key: str) -> Sequence[Facilitator]:
        """Rendezvous hashing: a facilitator that drops out, or comes, moves no payment of the others."""
        if not key or len(self._groups) == len(self.all):
            return self.all
        return [
            member.facilitator
            for group in self._groups
            for member in sorted(group, key=lambda member: _share(member, key), reverse=True)
        ]

    def _may_serve(
        self, facilitator: Facilitator, network: str, scheme: str, x402_version: int | None
    ) -> bool:
        supported = self._known[facilitator.name].supported
        return supported is None or supported.serves(network, scheme, x402_version)

    def _dead(self) -> frozenset[tuple[str, str]]:
        """Facilitators and networks whose circuit for settles is open, with no trial due: while no seller
        offers a rail, nothing but the time would revive it."""
        states = self._circuits.states().items()
        found = (key for key, state in states if state == OPEN and key.operation == "settle")
        return frozenset((key.facilitator, key.network) for key in found if not self._circuits.may_admit(key))


def _in_order(members: Sequence[Member | Facilitator]) -> list[Member]:
    given = [
        one if isinstance(one, Member) else Member(one, order=position)
        for position, one in enumerate(members)
    ]
    return sorted(given, key=lambda member: member.order)


def _share(member: Member, key: str) -> float:
    """Weighted rendezvous hashing: the highest gets the payment, each as often as its weight says."""
    name, whole = member.facilitator.name.encode(), key.encode(errors="surrogatepass")
    digest = blake2b(name + b"\0" + whole, digest_size=8).digest()
    # 52 bits and a half are exact in a float, and neither 0 nor 1.
    return -member.weight / math.log(((int.from_bytes(digest) >> 12) + 0.5) / 2**52)
