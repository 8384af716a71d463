"""What happens in one step on the server, as Lua. No I/O here, and no rule of settlements either:
which indexes a record stands in is decided in Python and comes in as `places` (redis_keys.places).

Every script gets all its keys as KEYS, all of one bucket. Each begins with the bucket's stamp: where
that is gone (an emptied server) or another one (a newer guardian), nothing is written. The first
command that writes is one that needs memory: full memory, missing replicas and a read-only server
show there, before anything was changed. (PUBLISH comes last, because Redis 6 takes it for a write and
looks at memory no more; it is a pcall, because the news is no part of the record.) What is open enters
the index before the record says so, in case a permission was withdrawn in between.

All may be run twice: `writes` keeps the last write ids of a record, and a script that finds its own
there changes nothing and says that it was done.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

WRITES_KEPT = 4
"""Write ids on a record: a repeat comes within a few seconds, and a record moves a few times at most."""


@dataclass(frozen=True)
class Script:
    """Lua that the server runs as one step."""

    text: str

    @cached_property
    def sha(self) -> str:
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


STAMP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {'lost'} end
"""

_PLACE = """
local function place(set, member, score, wanted)
  if wanted == '1' then redis.call('ZADD', set, score, member) else redis.call('ZREM', set, member) end
end
local function remember(writes, id)
  return string.sub(id .. ',' .. (writes or ''), 1, %d)
end
""" % (WRITES_KEPT * 17 - 1)  # noqa: UP031 -- braces are Lua's tables

# Events for webhooks. A later one stands behind an earlier one also where the clock was set back.
_NOTIFY = """
local function notify(hash, first_key, first_value)
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  for i = 0, (#ARGV - first_value - 1) / 2 do
    local member, set = ARGV[first_value + 2 * i], KEYS[first_key + i]
    if not redis.call('HGET', hash, member) then
      local last = redis.call('ZREVRANGE', set, 0, 0, 'WITHSCORES')[2]
      redis.call('HSET', hash, member, ARGV[first_value + 2 * i + 1])
      redis.call('ZADD', set, string.format('%.0f', math.max(now, (tonumber(last) or 0) + 1)), member)
    end
  end
end
"""

CLAIM = Script(
    STAMP
    + _PLACE
    + """
-- KEYS: stamp record ids created money money:idle open orphans done purchase
-- ARGV: stamp write_id key id resource blocked_elsewhere channel message created_at updated_at
--       token data places idle_token idle_data idle_places
local held = redis.call('HMGET', KEYS[2], 'data', 'writes')
if held[1] then
  local mine = held[2] and string.find(held[2], ARGV[2], 1, true)
  if mine then redis.call('HSET', KEYS[2], 'writes', held[2]) end  -- so that WAIT waits for it again
  return {mine and 'again' or 'exists', held[1]}
end
local key, resource, blocked = ARGV[3], ARGV[5], ARGV[6] == '1'
local purchase = redis.call('HGETALL', KEYS[10])
for i = 1, #purchase, 2 do
  local other = purchase[i + 1]
  local named = string.sub(other, 2)
  if string.sub(other, 1, 1) == '1' and (named == resource or named == '' or resource == '') then
    blocked = true
  end
end
local token, data, places, money = ARGV[11], ARGV[12], ARGV[13], KEYS[5]
if blocked then token, data, places, money = ARGV[14], ARGV[15], ARGV[16], KEYS[6] end
if string.sub(places, 1, 1) == '1' then redis.call('ZADD', KEYS[7], ARGV[9], key) end
redis.call('HSET', KEYS[2], 'token', token, 'writes', remember(nil, ARGV[2]), 'data', data)
redis.call('HSET', KEYS[3], ARGV[4], key)
redis.call('ZADD', KEYS[4], ARGV[9], key)
redis.call('ZADD', money, ARGV[9], key)
if string.sub(places, 2, 2) == '1' then redis.call('ZADD', KEYS[8], ARGV[9], key) end
if string.sub(places, 3, 3) == '1' then redis.call('ZADD', KEYS[9], ARGV[10], key) end
if string.sub(places, 4, 4) == '1' then
  redis.call('HSET', KEYS[10], key, string.sub(places, 5, 5) .. resource)
end
redis.pcall('PUBLISH', ARGV[7], ARGV[8])
return {blocked and 'blocked' or 'created', data}
"""
)

UPDATE = Script(
    STAMP
    + _PLACE
    + _NOTIFY
    + """
-- KEYS: stamp record created old_money new_money open orphans done old_purchase new_purchase
-- ARGV: stamp write_id key old_token new_token resource channel message created_at updated_at
--       data places
-- and where events are kept: notices and a hook for each ; member and data of each
local held = redis.call('HMGET', KEYS[2], 'token', 'writes')
if held[2] and string.find(held[2], ARGV[2], 1, true) then
  redis.call('HSET', KEYS[2], 'writes', held[2])  -- so that WAIT waits for it again
  return {'done'}
end
if held[1] ~= ARGV[4] then return {'stale'} end
local key, places = ARGV[3], ARGV[12]
if KEYS[11] then notify(KEYS[11], 12, 13) end
if string.sub(places, 1, 1) == '1' then redis.call('ZADD', KEYS[6], ARGV[9], key) end
redis.call('HSET', KEYS[2], 'token', ARGV[5], 'writes', remember(held[2], ARGV[2]), 'data', ARGV[11])
if KEYS[4] ~= KEYS[5] then redis.call('ZREM', KEYS[4], key) end
redis.call('ZADD', KEYS[5], ARGV[9], key)
redis.call('ZADD', KEYS[3], ARGV[9], key)
if string.sub(places, 1, 1) == '0' then redis.call('ZREM', KEYS[6], key) end
place(KEYS[7], key, ARGV[9], string.sub(places, 2, 2))
place(KEYS[8], key, ARGV[10], string.sub(places, 3, 3))
if KEYS[9] ~= KEYS[10] then redis.call('HDEL', KEYS[9], key) end
if string.sub(places, 4, 4) == '1' then
  redis.call('HSET', KEYS[10], key, string.sub(places, 5, 5) .. ARGV[6])
else
  redis.call('HDEL', KEYS[10], key)
end
redis.pcall('PUBLISH', ARGV[7], ARGV[8])
return {'done'}
"""
)

NOTIFY = Script(
    STAMP
    + _NOTIFY
    + """
-- KEYS: stamp notices hook... ; ARGV: stamp, then member and data of each
notify(KEYS[2], 3, 2)
return {'done'}
"""
)

PUT = Script(
    STAMP
    + """
-- KEYS: stamp notices hook dead ; ARGV: stamp member data is_dead at
if not redis.call('HGET', KEYS[2], ARGV[2]) then return {'gone'} end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
if ARGV[4] == '1' then
  redis.call('ZADD', KEYS[4], ARGV[5], ARGV[2])
  redis.call('ZREM', KEYS[3], ARGV[2])
else
  if not redis.call('ZSCORE', KEYS[3], ARGV[2]) then redis.call('ZADD', KEYS[3], ARGV[5], ARGV[2]) end
  redis.call('ZREM', KEYS[4], ARGV[2])
end
return {'done'}
"""
)

DISMISS = Script(
    STAMP
    + """
-- KEYS: stamp notices hook dead ; ARGV: stamp member
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('ZREM', KEYS[4], ARGV[2])
redis.call('HDEL', KEYS[2], ARGV[2])
return {'done'}
"""
)

DROP = Script(
    STAMP
    + """
-- KEYS: stamp record ids created money open orphans done purchase ; ARGV: stamp key id token
if redis.call('HGET', KEYS[2], 'token') ~= ARGV[4] then return {'stale'} end
for _, set in ipairs({KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]}) do redis.call('ZREM', set, ARGV[2]) end
redis.call('HDEL', KEYS[3], ARGV[3])
redis.call('HDEL', KEYS[9], ARGV[2])
redis.call('DEL', KEYS[2])
return {'done'}
"""
)

REOPEN = Script(
    STAMP
    + """
-- Entries that an older layout had not, unless the record has moved. KEYS: stamp record open purchase
-- ARGV: stamp key token created_at open purchase_entry
if redis.call('HGET', KEYS[2], 'token') ~= ARGV[3] then return {'stale'} end
if ARGV[5] == '1' then redis.call('ZADD', KEYS[3], ARGV[4], ARGV[2]) end
if ARGV[6] ~= '' then redis.call('HSET', KEYS[4], ARGV[2], ARGV[6]) end
return {'done'}
"""
)

INSPECT = Script(
    """
-- Where records of one bucket stand: for each its token, its entries, and 1 or 0 for each set. Writes
-- nothing.
-- KEYS: ids, the sets, then record and purchase of each ; ARGV: how many sets, then key and id of each
local sets, all = tonumber(ARGV[1]), {}
for i = 1, (#ARGV - 1) / 2 do
  local key, id, at = ARGV[2 * i], ARGV[2 * i + 1], sets + 2 * i
  local found = {redis.call('HGET', KEYS[at], 'token'), redis.call('HGET', KEYS[1], id)}
  found[3] = redis.call('HGET', KEYS[at + 1], key)
  found[4] = ''
  for j = 1, sets do found[4] = found[4] .. (redis.call('ZSCORE', KEYS[1 + j], key) and '1' or '0') end
  all[i] = found
end
return all
"""
)

ENTRIES = Script(
    """
-- Entries of one purchase, each with its record as it is now. Writes nothing.
-- KEYS: purchase, then the record of each ; ARGV: the key of each
local all = {}
for i = 1, #ARGV do
  all[i] = {redis.call('HGET', KEYS[1], ARGV[i]), redis.call('HGET', KEYS[1 + i], 'data')}
end
return all
"""
)

COUNT = Script(
    """
-- How many there are in each, at one moment. KEYS: ids, then sets. Writes nothing.
local found = {redis.call('HLEN', KEYS[1])}
for i = 2, #KEYS do found[i] = redis.call('ZCARD', KEYS[i]) end
return found
"""
)

BEAT = Script(
    STAMP
    + """
-- Uses every command that the others write with, so that a missing permission shows at the start.
-- KEYS: stamp beat ; ARGV: stamp channel message
redis.call('SET', KEYS[2], 'beat')
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'beat', '1')
redis.call('HMGET', KEYS[2], 'beat', 'none')
redis.call('HGET', KEYS[2], 'beat')
redis.call('HGETALL', KEYS[2])
redis.call('HDEL', KEYS[2], 'beat')
redis.call('ZADD', KEYS[2], redis.call('TIME')[1], 'beat')
redis.call('ZREM', KEYS[2], 'none')
redis.call('PUBLISH', ARGV[2], ARGV[3])
return {'done'}
"""
)

# Leases live by the server's clock, so those of the guardians need not agree.
_LEASES = """
-- KEYS: names until held fence
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local function forget(name)
  redis.call('ZREM', KEYS[1], name)
  redis.call('ZREM', KEYS[2], name)
  redis.call('HDEL', KEYS[3], name)
end
"""

LEASE = Script(
    _LEASES
    + """
-- ARGV: name holder ttl_ms. A held lease is kept as `fence holder`.
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 20)) do forget(name) end
local ends = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or '0')
local held = redis.call('HGET', KEYS[3], ARGV[1])
local fence
if held and ends > now then
  local space = string.find(held, ' ', 1, true)
  if string.sub(held, space + 1) ~= ARGV[2] then return false end
  fence = string.sub(held, 1, space - 1)
else
  -- Never below the clock: a counter that a failover set back would give a number a second time.
  local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
  local last = tonumber(redis.call('GET', KEYS[4]) or '0')
  fence = string.format('%.0f', math.max(last + 1, micros))
  redis.call('SET', KEYS[4], fence)
  redis.call('HSET', KEYS[3], ARGV[1], fence .. ' ' .. ARGV[2])
end
redis.call('ZADD', KEYS[1], 0, ARGV[1])
redis.call('ZADD', KEYS[2], string.format('%.0f', now + tonumber(ARGV[3])), ARGV[1])
return fence
"""
)

RESIGN = Script(
    _LEASES
    + """
-- ARGV: name holder
local held = redis.call('HGET', KEYS[3], ARGV[1])
if held and string.sub(held, string.find(held, ' ', 1, true) + 1) == ARGV[2] then forget(ARGV[1]) end
return 'OK'
"""
)

HOLDERS = Script(
    _LEASES
    + """
-- ARGV: prefix after limit. Live leases as name, holder; and the last name looked at, '' at the end.
local from = ARGV[2] == '' and ('[' .. ARGV[1]) or ('(' .. ARGV[2])
local names = redis.call('ZRANGEBYLEX', KEYS[1], from, '[' .. ARGV[1] .. '\\255', 'LIMIT', 0, ARGV[3])
local live = {#names == tonumber(ARGV[3]) and names[#names] or ''}
for _, name in ipairs(names) do
  local held = redis.call('HGET', KEYS[3], name)
  if held and tonumber(redis.call('ZSCORE', KEYS[2], name) or '0') > now then
    live[#live + 1] = name
    live[#live + 1] = string.sub(held, string.find(held, ' ', 1, true) + 1)
  end
end
return live
"""
)
