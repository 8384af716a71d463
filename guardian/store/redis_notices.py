"""Events for webhooks in Redis: each in its subject's bucket, so that one script writes it with its record.

notices: a hash from `<webhook>/<id>` to the event; hook and dead: per webhook, those that are to be sent, in
the order in which they came, and those that are not.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from guardian.settlement.notice import Notice
from guardian.store.redis_keys import Bucket, Keys
from guardian.store.redis_link import Link, unavailable
from guardian.store.redis_look import pairs
from guardian.store.redis_scripts import DISMISS, NOTIFY, PUT, Script

_encoder, _decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Notice)

Run = Callable[[Script, Bucket, Sequence[str], Sequence[object]], Awaitable[list[Any]]]


class RedisNotices:
    """The part of a store that is about events."""

    def __init__(self, link: Link, keys: Keys, run: Run) -> None:
        self._link = link
        self._keys = keys
        self._run = run

    async def keep(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            bucket = self._keys.of(notice.subject)
            await self._run(NOTIFY, bucket, *told(bucket, (notice,)))

    async def waiting(self, hook: str, limit: int) -> list[Notice]:
        return await self._of([(bucket, bucket.hook(hook)) for bucket in self._keys.buckets], limit)

    async def dead(self, hook: str, limit: int) -> list[Notice]:
        return await self._of([(bucket, bucket.dead(hook)) for bucket in self._keys.buckets], limit)

    async def put(self, notice: Notice) -> None:
        bucket = self._keys.of(notice.subject)
        keys = (bucket.notices, bucket.hook(notice.hook), bucket.dead(notice.hook))
        score = f"{notice.at * 1e6:.0f}"
        await self._run(
            PUT, bucket, keys, (_member(notice), _encoder.encode(notice), "01"[notice.dead], score)
        )

    async def drop(self, notices: Sequence[Notice]) -> None:
        for notice in notices:
            bucket = self._keys.of(notice.subject)
            keys = (bucket.notices, bucket.hook(notice.hook), bucket.dead(notice.hook))
            await self._run(DISMISS, bucket, keys, (_member(notice),))

    async def count(self, hook: str) -> tuple[int, int]:
        buckets = self._keys.buckets
        names = [bucket.hook(hook) for bucket in buckets] + [bucket.dead(hook) for bucket in buckets]
        found = await self._link.ask([("ZCARD", name) for name in names])
        return sum(found[: len(buckets)]), sum(found[len(buckets) :])

    async def hooks(self) -> list[str]:
        found = await self._link.ask([("HKEYS", bucket.notices) for bucket in self._keys.buckets])
        return sorted({member.partition(b"/")[0].decode() for reply in found for member in reply})

    async def _of(self, sets: Sequence[tuple[Bucket, str]], limit: int) -> list[Notice]:
        """By the order of all; a bucket alone may hold the first ones."""
        replies = await self._link.ask([("ZRANGE", name, 0, limit - 1, "WITHSCORES") for _, name in sets])
        ranked = [
            (float(score), bucket, member)
            for (bucket, _), reply in zip(sets, replies, strict=True)
            for member, score in pairs(reply)
        ]
        ranked.sort(key=lambda entry: entry[0])
        asked = [("HGET", bucket.notices, member) for _, bucket, member in ranked[:limit]]
        found = await self._link.ask(asked) if asked else []
        return [_decode(data) for data in found if data is not None]


def told(bucket: Bucket, notices: Sequence[Notice]) -> tuple[list[str], list[object]]:
    """What a script that keeps them is given behind its own keys and values."""
    keys = [bucket.notices, *(bucket.hook(notice.hook) for notice in notices)]
    return keys, [part for notice in notices for part in (_member(notice), _encoder.encode(notice))]


def _member(notice: Notice) -> str:
    return f"{notice.hook}/{notice.id}"


def _decode(data: bytes) -> Notice:
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise unavailable(exc) from exc
