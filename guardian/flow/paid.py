"""The seam between the agent plane and what is done about payments there.

The plane says HTTP; a `PaidFlow` decides what becomes of a request that pays, or that was told to pay.
"""

from collections.abc import Sequence
from typing import Protocol

from guardian.flow.parts import Generation
from guardian.upstream.reply import Reply

RawHeaders = Sequence[tuple[bytes, bytes]]


class PaidExchange(Protocol):
    """A caller's request to a route, which may be presented to the upstream more than once.

    body: all of it; demand: the upstream's 402, where the request did not pay and was told to: its body
    arrived to the end (`take` it), or is too long to be a demand (not `whole`); generation: the policy in
    force when it came.
    """

    generation: Generation
    body: bytes
    demand: Reply | None

    @property
    def route(self) -> str:
        """The route's name."""

    @property
    def caller(self) -> str:
        """The caller's name, where callers have to show one; else empty."""

    @property
    def method(self) -> str:
        """The request's method."""

    @property
    def url(self) -> str:
        """What is asked of the upstream, absolute."""

    @property
    def headers(self) -> RawHeaders:
        """The caller's end-to-end headers, names in lower case."""

    @property
    def gone(self) -> bool:
        """The caller has closed the connection."""

    async def ask(self, headers: RawHeaders | None = None, *, head_s: float | None = None) -> Reply:
        """Present the request once, over a connection of its own; headers: in place of the caller's;
        head_s: the longest wait for the reply's head.

        Raises NotSent or ReplyLost, also from reading the reply. One reply at a time: asking again, and
        the end of the exchange, drop what was not read of the one before.
        """

    async def answer(self, reply: Reply) -> bool:
        """Pass a reply on to the caller while it arrives; once. True when its end was written to a
        connection that was still open. Raises ReplyLost when it broke off; then the caller saw it break.
        """


class PaidFlow(Protocol):
    """What is done about payments on the agent plane."""

    async def handle(self, exchange: PaidExchange) -> None:
        """Answer the caller. NotSent and ReplyLost may be raised before the answer: 502 or 504.

        Called for a request that carries a payment before anything is sent (`demand` is None), and for
        every 402 to one that carries none and could be kept. Not cancelled when the caller leaves: see
        `gone`.
        """
