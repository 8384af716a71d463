"""What other guardians on the same store say, as it is published: best effort, at most once.

One connection of its own subscribes to all of the store's channels. When it drops, messages may be
missed: whoever listens is told, once at the loss and once when the subscription stands again, and
polls. A connection that is open but silent is found out by a ping.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from guardian.errors import StoreUnavailable

log = logging.getLogger("guardian")

SILENCE_S = 2.0
"""After so long without a word the server is asked for one; as long again, and the line is dead."""

PAUSE_FIRST_S = 0.1
PAUSE_CAP_S = 2.0

Heard = Callable[[bytes], None]


class News:
    """Topics and who listens to them; messages of `sender` itself are passed over."""

    def __init__(self, connect: Callable[[], Any], touched: Callable[[], Awaitable[None]]) -> None:
        """connect: a client for subscribing. touched: awaited when a subscription stands (again)."""
        self._connect = connect
        self._touched = touched
        self._heard: dict[str, list[Heard]] = {}
        self._lost: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._stands = asyncio.Event()
        self._pattern = self._channels = self._fault = ""
        self._sender = b""

    def listen(self, topic: str, heard: Heard) -> None:
        self._heard.setdefault(topic, []).append(heard)

    def lost_touch(self, called: Callable[[], None]) -> None:
        self._lost.append(called)

    async def start(self, pattern: str, channels: str, sender: bytes, limit_s: float) -> None:
        """Subscribe to `channels` + any topic; raises StoreUnavailable when that takes too long.

        pattern: what is subscribed to. Redis holds it literally against the user's permissions, so it
        is the wider one that an operator can know, without the store's id.
        """
        self._pattern, self._channels, self._sender = pattern, channels, sender
        self._task = asyncio.create_task(self._run(), name="guardian-store-news")
        try:
            async with asyncio.timeout(limit_s):
                await self._stands.wait()
        except TimeoutError as exc:
            raise StoreUnavailable(
                f"Redis did not let us subscribe within {limit_s:g} s ({self._fault or 'no answer'})"
            ) from exc

    async def stop(self) -> None:
        task, self._task = self._task, None
        self._stands.clear()
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        pause_s, stood = PAUSE_FIRST_S, False
        while True:
            client = self._connect()
            try:
                async with client.pubsub() as line:
                    await self._subscribe(line)
                    pause_s = PAUSE_FIRST_S
                    await self._touched()
                    self._stands.set()
                    if stood:
                        self._tell_lost()
                    stood = True
                    await self._read(line)
            except Exception as exc:  # whatever it was, this task must not end: nobody would hear it
                self._fault = str(exc)
                log.warning("store: lost touch with the other guardians: %s", exc)
            finally:
                await _let_go(client)
            if self._stands.is_set():
                self._stands.clear()
                self._tell_lost()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_CAP_S)

    async def _subscribe(self, line: Any) -> None:
        await line.psubscribe(self._pattern)
        async with asyncio.timeout(SILENCE_S):
            while (message := await line.get_message(timeout=SILENCE_S)) is None:
                pass
        if message["type"] != "psubscribe":
            raise RedisError("the subscription was not confirmed")

    async def _read(self, line: Any) -> None:
        """Hand out messages until the line is dead."""
        asked = False
        while True:
            message = await line.get_message(timeout=SILENCE_S)
            if message is not None:
                asked = False
                if message["type"] == "pmessage":
                    self._hand_out(message["channel"].decode(), message["data"])
            elif asked:
                raise RedisError("the server has fallen silent")
            else:
                asked = True
                await line.ping()

    def _hand_out(self, channel: str, data: bytes) -> None:
        sender, _, message = data.partition(b" ")
        if sender == self._sender or not channel.startswith(self._channels):
            return
        for heard in self._heard.get(channel.removeprefix(self._channels), ()):
            try:
                heard(message)
            except Exception:  # one listener's fault must not deafen the others
                log.exception("store: a listener failed")

    def _tell_lost(self) -> None:
        for called in self._lost:
            try:
                called()
            except Exception:  # as above
                log.exception("store: a listener failed")


async def _let_go(client: Any) -> None:
    """Close what may already be broken."""
    with suppress(RedisError, OSError):
        await client.aclose()
