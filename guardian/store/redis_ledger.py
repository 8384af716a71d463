"""The ledger of the shared store: budgets, holds and papers, all in the first bucket, so that one script
moves them together, and none is written once that bucket is not what it was.

Amounts are decimal texts there, because the server counts in floats; each budget keeps what was ever held
and ever released, so that the script only adds and compares. What is over is told by the server's clock,
where that is the earlier one: a replica whose own is wrong makes nobody forget what was counted today.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from guardian.errors import StoreUnavailable
from guardian.store.ledger import FOREVER, LISTED, MAX_PAPERS, TRIM, Ask, Budget, Hold, Outcome, Swap, encoded
from guardian.store.redis_keys import Bucket
from guardian.store.redis_link import Link
from guardian.store.redis_look import pairs
from guardian.store.redis_scripts import STAMP, Script

AHEAD_S = 86400
"""A hold from farther in the future is of a clock that is wrong: its budgets are not those of today."""

FAR_AHEAD = "this machine's clock is more than a day ahead of that of Redis; set it right"

log = logging.getLogger("guardian")

Run = Callable[[Script, Sequence[str], Sequence[object]], Awaitable[list[Any]]]

_BOOKS = (
    STAMP
    + """
-- KEYS: stamp budgets ends holds unsettled papers. A hold is kept as `token ask`; what ends_at orders is
-- named b, h or p and its name.
local budgets, ends, holds, unsettled, papers = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local DIGITS, CARRY = 14, 1e14
local function plus(a, b)
  local parts, carry, i, j = {}, 0, #a, #b
  while i > 0 or j > 0 or carry > 0 do
    local x = i > 0 and tonumber(string.sub(a, math.max(1, i - DIGITS + 1), i)) or 0
    local y = j > 0 and tonumber(string.sub(b, math.max(1, j - DIGITS + 1), j)) or 0
    local sum = x + y + carry
    carry = sum >= CARRY and 1 or 0
    table.insert(parts, 1, string.format('%014.0f', sum - carry * CARRY))
    i, j = i - DIGITS, j - DIGITS
  end
  local text = string.gsub(table.concat(parts), '^0+', '')
  return text == '' and '0' or text
end
local function above(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end
local function sums_of(budget)
  local text = redis.call('HGET', budgets, budget)
  if not text then return nil end
  local space = string.find(text, ' ', 1, true)
  return {string.sub(text, 1, space - 1), string.sub(text, space + 1)}
end
local function put_sums(budget, held, released)
  redis.call('HSET', budgets, budget, held .. ' ' .. released)
end
local function put_paper(name, text)
  if text == '' then
    redis.call('HDEL', papers, name)
    redis.call('ZREM', ends, 'p' .. name)
  else
    redis.call('HSET', papers, name, text)
  end
end
local function drop_hold(key)
  redis.call('HDEL', holds, key)
  redis.call('ZREM', unsettled, key)
  redis.call('ZREM', ends, 'h' .. key)
end
local function trim(now, limit)
  local here = redis.call('TIME')[1]
  if tonumber(here) < tonumber(now) then now = here end
  for _, over in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', '(' .. now, 'LIMIT', 0, limit)) do
    local kind, name = string.sub(over, 1, 1), string.sub(over, 2)
    if kind == 'h' then drop_hold(name) end
    if kind == 'b' then redis.call('HDEL', budgets, name) end
    if kind == 'p' then redis.call('HDEL', papers, name) end
    redis.call('ZREM', ends, over)
  end
end
"""
)

HOLD = Script(
    _BOOKS
    + """
-- ARGV: stamp key token at ends_at ask trim ahead
local key, token = ARGV[2], ARGV[3]
if tonumber(ARGV[4]) > tonumber(redis.call('TIME')[1]) + tonumber(ARGV[8]) then return {'ahead'} end
local ask = cjson.decode(ARGV[6])
local held = redis.call('HGET', holds, key)
for _, swap in ipairs(ask.swaps) do
  if (swap.old == swap.new or not held) and (redis.call('HGET', papers, swap.name) or '') ~= swap.old then
    return {'changed', swap.name}
  end
end
if held then
  local space = string.find(held, ' ', 1, true)
  if (cjson.decode(string.sub(held, space + 1)).of or '') ~= ask.of then return {'changed', key} end
  redis.call('HSET', holds, key, token .. string.sub(held, space))
  redis.call('ZADD', unsettled, 'XX', ARGV[4], key)
  return {'held'}
end
for place, line in ipairs(ask.lines) do
  local sums = sums_of(line.budget) or {'0', '0'}
  if above(plus(sums[1], line.amount), plus(line.limit, sums[2])) then
    return {'over', tostring(place - 1), sums[1], sums[2]}
  end
end
redis.call('HSET', holds, key, token .. ' ' .. ARGV[6])
redis.call('ZADD', unsettled, ARGV[4], key)
redis.call('ZADD', ends, ARGV[5], 'h' .. key)
for _, line in ipairs(ask.lines) do
  local sums = sums_of(line.budget) or {'0', '0'}
  put_sums(line.budget, plus(sums[1], line.amount), sums[2])
  redis.call('ZADD', ends, string.format('%.6f', line.ends_at), 'b' .. line.budget)
end
for _, swap in ipairs(ask.swaps) do
  if swap.old ~= swap.new then put_paper(swap.name, swap.new) end
end
trim(ARGV[4], ARGV[7])
return {'held'}
"""
)

RELEASE = Script(
    _BOOKS
    + """
-- ARGV: stamp key token
local held = redis.call('HGET', holds, ARGV[2])
local space = held and string.find(held, ' ', 1, true)
if not held or string.sub(held, 1, space - 1) ~= ARGV[3] then return {'gone'} end
local ask = cjson.decode(string.sub(held, space + 1))
for _, line in ipairs(ask.lines) do
  local sums = sums_of(line.budget)
  if sums then put_sums(line.budget, sums[1], plus(sums[2], line.amount)) end
end
for _, swap in ipairs(ask.swaps) do
  if swap.old ~= swap.new and (redis.call('HGET', papers, swap.name) or '') == swap.new then
    put_paper(swap.name, swap.old)
  end
end
drop_hold(ARGV[2])
return {'done'}
"""
)

SWAP = Script(
    _BOOKS
    + """
-- ARGV: stamp name old new ends_at most ('' for any number) now trim. One that is as it should become was
-- changed by this very step.
local name, old, new = ARGV[2], ARGV[3], ARGV[4]
trim(ARGV[7], ARGV[8])
local is = redis.call('HGET', papers, name) or ''
if is ~= new or new == old then
  if is ~= old then return {'changed'} end
  local most = tonumber(ARGV[6])
  if old == '' and most and redis.call('HLEN', papers) >= most then return {'full'} end
end
if new ~= '' then redis.call('ZADD', ends, ARGV[5], 'p' .. name) end
put_paper(name, new)
return {'done'}
"""
)


class RedisLedger:
    """A ledger in a bucket of a store. run: a script, with the stamp of the bucket before its values."""

    def __init__(self, link: Link, bucket: Bucket, run: Run) -> None:
        self._link = link
        self._run = run
        self._ahead = False
        names = ("budgets", "ends", "holds", "unsettled", "papers")
        self._budgets, self._ends, self._holds, self._unsettled, self._papers = self._keys = tuple(
            bucket.ledger(name) for name in names
        )

    async def hold(self, ask: Ask) -> Outcome:
        values = (ask.key, ask.token, repr(ask.at), repr(ask.ends_at), encoded(ask), TRIM, AHEAD_S)
        said, *more = await self._run(HOLD, self._keys, values)
        if said == b"ahead":
            if not self._ahead:
                log.error("nothing can be counted: %s", FAR_AHEAD)
            self._ahead = True
            raise StoreUnavailable(FAR_AHEAD)
        self._ahead = False
        if said == b"over":
            return Outcome(over=int(more[0]), counted=int(more[1]) - int(more[2]))
        return Outcome(held=said == b"held", changed=more[0].decode() if more else "")

    async def release(self, key: str, token: str) -> bool:
        (said,) = await self._run(RELEASE, self._keys, (key, token))
        return bool(said == b"done")

    async def standing(self, key: str) -> Hold | None:
        asked = [("HGET", self._holds, key), ("ZSCORE", self._unsettled, key)]
        held, at = await self._link.ask(asked)
        return _hold(key, held, at) if held is not None else None

    async def unsettled(self, limit: int) -> list[Hold]:
        (reply,) = await self._link.ask([("ZRANGE", self._unsettled, 0, limit - 1, "WITHSCORES")])
        found = list(pairs(reply))
        held = await self._link.ask([("HGET", self._holds, key) for key, _ in found])
        both = zip(found, held, strict=True)
        return [_hold(key.decode(), one, at) for (key, at), one in both if one is not None]

    async def settle(self, key: str) -> None:
        await self._link.ask([("ZREM", self._unsettled, key)])

    async def budgets(self) -> list[Budget]:
        (found,) = await self._link.ask([("HGETALL", self._budgets)])
        names = sorted(found)
        ends = await self._link.ask([("ZSCORE", self._ends, b"b" + name) for name in names])
        budgets = []
        for name, end in zip(names, ends, strict=True):
            held, released = found[name].split(b" ")
            budgets.append(Budget(name.decode(), int(held) - int(released), float(end or 0)))
        return budgets

    async def paper(self, name: str) -> str:
        (text,) = await self._link.ask([("HGET", self._papers, name)])
        return text.decode() if text is not None else ""

    async def papers(self, prefix: str, after: str = "") -> dict[str, str]:
        (found,) = await self._link.ask([("HGETALL", self._papers)])
        texts = {name.decode(): text.decode() for name, text in found.items()}
        names = sorted(name for name in texts if name.startswith(prefix) and name > after)
        return {name: texts[name] for name in names[:LISTED]}

    async def swap(self, swap: Swap, ends_at: float, now: float = 0.0) -> bool:
        most = MAX_PAPERS if ends_at < FOREVER else ""
        values = (swap.name, swap.old, swap.new, repr(ends_at), most, repr(now), TRIM)
        (said,) = await self._run(SWAP, self._keys, values)
        return bool(said == b"done")


class _Kept(msgspec.Struct):
    at: float


def _hold(key: str, held: bytes, at: Any) -> Hold:
    """at: when it was asked for last, None where it is settled."""
    token, _, ask = held.partition(b" ")
    return Hold(key, token.decode(), float(at or msgspec.json.decode(ask, type=_Kept).at))
