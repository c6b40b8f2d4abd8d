"""What runs inside Redis (6.2 or newer, and what speaks its language): each script touches the keys of one slot.

**The clock is a time.** Its value is the larger of one more than before and the microseconds of Redis's own clock. So a
clock that begins anew, after everything was lost, begins above whatever was noted before; and a record's value says how
old it is.

**What is lost is not brought back.** `OPEN` says whether the set with the clock and the records is there and was last
found in this very process of Redis. If not (flushed, evicted, restarted from an older snapshot, another node after a
failover), purges may be lost with it: it begins a new set in which everything is purged. `READ` and `PURGE` are called
by their digest, and a process that has not been through `OPEN` does not know them.

**Records are few.** A purge drops as many old ones as it adds, oldest first, when there are too many or when they are
older than anything is kept. Whatever was begun before a dropped record counts as purged (the record of `*` is raised
to it), so a record can go too early for efficiency, but not for correctness.
"""

from __future__ import annotations

import hashlib

# Purges are small and must go through when memory is short. Redis 6 knows no flags and refuses a script with them.
ALLOW_OOM = "#!lua flags=allow-oom\n"

# KEYS: the set. ARGV: the highest clock value known to the caller, the channel.
# Returns {role, clock, whether it began anew, run id}
OPEN = """
local section = redis.pcall('INFO', 'replication')
if type(section) == 'string' and string.find(section, 'role:slave', 1, true) then return {'replica', '0', 0, ''} end
local server = redis.pcall('INFO', 'server')
local run = type(server) == 'string' and string.match(server, 'run_id:(%x+)') or '?'
local clock = redis.call('ZSCORE', KEYS[1], 'c')
if clock and redis.call('ZSCORE', KEYS[1], 'r' .. run) then
  return {'master', string.format('%.0f', clock), 0, run}
end
local time = redis.call('TIME')
local old = tonumber(clock or 0)
local now = math.max(time[1] * 1000000 + time[2], old + 1, tonumber(ARGV[1]) + 1)
redis.call('DEL', KEYS[1])
redis.call('ZADD', KEYS[1], now, 'h*', now + 1, 'c', 'inf', 'r' .. run)
redis.call('PUBLISH', ARGV[2], cmsgpack.pack({old, now, 'h', '*'}))
return {'master', string.format('%.0f', now + 1), 1, run}
"""

# KEYS: the set. ARGV: tags. Returns the clock, then the hard and the soft record of each tag, as one text; or nothing.
READ = """
local clock = redis.call('ZSCORE', KEYS[1], 'c')
if not clock then return '' end
local found = {string.format('%.0f', clock)}
for _, tag in ipairs(ARGV) do
  for _, score in ipairs(redis.call('ZMSCORE', KEYS[1], 'h' .. tag, 's' .. tag)) do
    found[#found + 1] = score and string.format('%.0f', score) or '0'
  end
end
return table.concat(found, ' ')
"""

# KEYS: the set. ARGV: h or s, the channel, the most records, after how many microseconds nothing is kept, tags.
# Returns the clock's value that the tags were given; or nothing. Published: the clock before, the value, h or s, tags.
PURGE = """
local clock = redis.call('ZSCORE', KEYS[1], 'c')
if not clock or #ARGV < 5 then return '' end
clock = tonumber(clock)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local value = math.max(clock + 1, now)
redis.call('ZADD', KEYS[1], value, 'c')
local message = {clock, value, ARGV[1]}
for i = 5, #ARGV do
  redis.call('ZADD', KEYS[1], value, ARGV[1] .. ARGV[i])
  message[#message + 1] = ARGV[i]
end
redis.call('ZADD', KEYS[1], value + 1, 'c')
redis.call('PUBLISH', ARGV[2], cmsgpack.pack(message))

local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[3])
local oldest = redis.call('ZRANGE', KEYS[1], 0, #ARGV + 20, 'WITHSCORES')
local floor = 0
for i = 1, #oldest, 2 do
  local score = tonumber(oldest[i + 1])
  if score < value and (over > 0 or score < now - tonumber(ARGV[4])) then
    redis.call('ZREM', KEYS[1], oldest[i])
    floor = math.max(floor, score)
    over = over - 1
  end
end
if floor > 0 then
  redis.call('ZADD', KEYS[1], math.max(floor, tonumber(redis.call('ZSCORE', KEYS[1], 'h*') or 0)), 'h*')
end
return string.format('%.0f', value)
"""

# KEYS: the entry. ARGV: the variant's field, the variant, its Vary names, the tags, milliseconds to keep it, the most
# fields, the most sets of names, the body's field or nothing, the body or nothing.
# Returns kept, newer (one that was begun later is there) or body (it is to be sent).
PUT = """
local e, field, variant, body = KEYS[1], ARGV[1], ARGV[2], ARGV[8]
local old = redis.call('HGET', e, field)
if old and string.sub(old, 1, 16) > string.sub(variant, 1, 16) then return 'newer' end
if body ~= '' then
  if ARGV[9] ~= '' then
    redis.call('HSET', e, body, ARGV[9])
  elseif redis.call('HEXISTS', e, body) == 0 then
    return 'body'
  end
end
local sets = {}
local known = redis.call('HGET', e, 'v')
if known then
  for set in string.gmatch(known .. '\\n', '(.-)\\n') do
    if set ~= ARGV[3] then sets[#sets + 1] = set end
  end
end
if redis.call('HLEN', e) > tonumber(ARGV[6]) then
  for _, name in ipairs(redis.call('HKEYS', e)) do
    if name ~= body then redis.call('HDEL', e, name) end
  end
  old, sets = false, {}
end
sets[#sets + 1] = ARGV[3]
while #sets > tonumber(ARGV[7]) do table.remove(sets, 1) end
if old then
  local last = string.match(string.sub(old, 17, 48), '^%S+')
  if last and last ~= body then redis.call('HDEL', e, last) end
end
redis.call('HSET', e, field, variant, 'v', table.concat(sets, '\\n'), 't', ARGV[4])
if redis.call('PTTL', e) < tonumber(ARGV[5]) then redis.call('PEXPIRE', e, ARGV[5]) end
return 'kept'
"""

# KEYS: the lock. ARGV: the token.
UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def script_digest(script: str) -> str:
    """What EVALSHA calls it by."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
