"""HTTP in and out for the data port: reading bounded bodies, cleaning headers, knowing who left.

No decisions: a `HttpCall` is what the flows see of a caller.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import orjson
from starlette.types import Message, Receive, Scope, Send

from guardian.facilitator.headers import HOP_BY_HOP
from guardian.flow.parts import Generation

LISTEN_AFTER_S = 0.05
"""How long a caller may have left before anybody looks, unless its answer is due first."""

MAX_BODY_BYTES = 1024 * 1024
"""A signed payment is 1 to 3 kB, with a Solana transaction or large extensions some 20 kB."""

BODY_TIMEOUT_S = 30.0
"""A caller that takes longer to send a payment holds a connection for nothing."""

NEVER_FORWARDED = HOP_BY_HOP | {b"host", b"content-length", b"expect", b"accept-encoding"}
"""The client towards the facilitator sets its own of these."""

OWN_TO_AN_ANSWER = HOP_BY_HOP | {b"content-length", b"content-type", b"content-encoding", b"date", b"server"}

Headers = Sequence[tuple[bytes, bytes]]

LINE = "guardian.line"
"""Scope extension of our own server: the `Line` that this request came on."""


class Line(Protocol):
    """What ASGI's `send` neither says nor does."""

    def stands(self) -> bool:
        """Whether the connection was open at each write of the answer; after it, the server may close it."""

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Call `tell` once the connection is lost before the answer, where that is noticed."""

    def write(self, status: int, headers: Headers, body: bytes) -> bool:
        """Write a whole answer at once; False where it has to be sent part by part."""


class TooLarge(Exception):
    """The body is over the limit."""


class Unfinished(Exception):
    """The caller left, or took too long, before its body was whole."""


def forwarded(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Request headers as they go on: without hop-by-hop ones and those that Connection names."""
    named = {
        name.strip().lower() for key, value in headers if key == b"connection" for name in value.split(b",")
    }
    return [(key, value) for key, value in headers if key not in NEVER_FORWARDED and key not in named]


async def read_body(receive: Receive) -> bytes:
    """The whole request body; raises TooLarge, Unfinished, and TimeoutError after BODY_TIMEOUT_S."""
    message = arrived(receive)
    if message is not None and message["type"] == "http.request" and not message.get("more_body"):
        return _checked(message.get("body", b""))
    async with asyncio.timeout(BODY_TIMEOUT_S):
        return await _read_on(message or await receive(), receive)


def arrived(receive: Receive) -> Message | None:
    """What has come already, as nearly every body has; None where it would have to be waited for."""
    receiving = receive().__await__()
    try:
        next(receiving)
    except StopIteration as ended:
        message: Message = ended.value
        return message
    receiving.close()
    return None


async def _read_on(message: Message, receive: Receive) -> bytes:
    body = bytearray()
    while message["type"] == "http.request":
        body += message.get("body", b"")
        _checked(body)
        if not message.get("more_body"):
            return bytes(body)
        message = await receive()
    raise Unfinished


def _checked(body: bytes | bytearray) -> bytes:
    if len(body) > MAX_BODY_BYTES:
        raise TooLarge
    return bytes(body)


class HttpCall:
    """One caller of /verify or /settle: its bytes, whether it is still there, and its answer."""

    def __init__(
        self,
        body: bytes,
        headers: Headers,
        only: str,
        generation: Generation,
        receive: Receive,
        send: Send,
        line: Line | None = None,
    ) -> None:
        """line: of a server that gives its word on whether the connection is open."""
        self.body = body
        self.headers = headers
        self.only = only
        self.generation = generation
        self.answered = False
        self._left = False
        self._tell: Callable[[], None] | None = None
        self._send = send
        self._line = line
        self._receive = receive
        self._leaving: asyncio.Task[None] | None = None
        self._listening: asyncio.TimerHandle | None = None
        if line is None:
            # Most answers are there before this: a task for each caller costs more than its parsing.
            self._listening = asyncio.get_running_loop().call_later(LISTEN_AFTER_S, self._listen)

    @property
    def gone(self) -> bool:
        """The caller has closed the connection, as far as is known."""
        return self._left or (self._line is not None and not self._line.stands())

    def when_gone(self, tell: Callable[[], None]) -> None:
        """Call `tell` as soon as that is known, until the answer."""
        if self._line is not None:
            self._line.when_lost(tell)
        else:
            self._tell = tell

    def _listen(self) -> None:
        self._leaving = asyncio.get_running_loop().create_task(self._notice_leaving())

    async def _notice_leaving(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left = True
        if self._tell is not None:
            self._tell()

    def _look(self) -> None:
        """Ask a server that says nothing by itself whether the caller left already, and do not wait."""
        if (message := arrived(self._receive)) is not None:
            self._left = message["type"] == "http.disconnect"

    async def answer(self, status: int, headers: Headers, body: bytes) -> bool:
        """Write the answer; True when the connection was open until all of it was written. What was not
        stays to be handed out."""
        if self._line is None and self._leaving is None:
            self._look()
        if self.gone:
            return False
        self.close()
        self.answered = True
        try:
            await write(self._send, status, headers, body, self._line)
        except OSError:
            self._left = True
        return not self.gone

    def close(self) -> None:
        """Stop listening to the caller."""
        if self._listening is not None:
            self._listening.cancel()
        if self._leaving is not None:
            self._leaving.cancel()


async def write(send: Send, status: int, headers: Headers, body: bytes, line: Line | None = None) -> None:
    """One whole JSON answer; of a facilitator's headers those that do not speak of its own body."""
    kept = [(key, value) for key, value in headers if key.lower() not in OWN_TO_AN_ANSWER]
    kept.append((b"content-type", b"application/json"))
    if line is not None and line.write(status, kept, body):
        return
    kept.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": kept})
    await send({"type": "http.response.body", "body": body})


async def write_json(send: Send, status: int, content: object, headers: Headers = ()) -> None:
    """One whole JSON answer from a value."""
    await write(send, status, headers, orjson.dumps(content))


def line_of(scope: Scope) -> Line | None:
    """The line that a request came on; of another server than ours, nothing is known of it."""
    line: Line | None = scope.get("extensions", {}).get(LINE)
    return line


def raw_path(scope: Scope) -> str:
    """The path below this application, as sent (percent-encoding kept)."""
    sent: bytes = scope.get("raw_path") or scope["path"].encode()
    return sent.partition(b"?")[0].decode("latin-1").removeprefix(scope.get("root_path", ""))
