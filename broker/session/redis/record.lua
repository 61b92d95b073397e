-- What all transitions of a record share. This text comes before each of them.
--
-- KEYS[1] is the record, usher:{tag}:session:<id>, a hash. Its user's index,
-- usher:{tag}:user:<user>, is a sorted set of session ids by time of creation.
-- Most callers know a session's id and not its user, so the name of the index
-- is made here; it has the tag of the record and so lies in the same slot.
-- Epochs and times are compared and kept as strings: a Lua number is a double
-- and holds only 53 bits of them.
local record, id, ttl = KEYS[1], ARGV[1], ARGV[2]
local prefix = string.match(record, '^usher:{%x+}:')
local parked = prefix .. 'parked:' .. id

-- Microseconds since the Unix epoch, by the clock of this server.
local function now()
  local t = redis.call('TIME')
  return t[1] .. string.format('%06d', t[2])
end

local function reply(word)
  return {word, redis.call('HGETALL', record)}
end

-- Returns the state of a session, false if there is none, or a table (an error)
-- if the key holds something else.
local function state_of(key) return redis.pcall('HGET', key, 'state') end

-- Returns the reply to give when there is no session that could change.
local function over()
  local state = state_of(record)
  if type(state) == 'table' then return {'corrupt'} end
  if state == 'ended' then return reply('ended') end
  if state then return nil end
  if redis.call('EXISTS', record) == 0 then return {'absent'} end
  return {'corrupt'}
end

-- Returns whether node and epoch are those of the record.
local function owned(node, epoch)
  local owner = redis.call('HMGET', record, 'node', 'epoch')
  return owner[1] == node and owner[2] == epoch
end

-- Returns whether the number of a proof is above that of the last one, and keeps it;
-- 0 is no proof. A double holds these numbers, which end at 2^53.
local function proven(n)
  if n == '0' then return true end
  local last = redis.call('HGET', record, 'proof')
  if last and tonumber(last) >= tonumber(n) then return false end
  redis.call('HSET', record, 'proof', n)
  return true
end

local function gone(other) return type(state_of(prefix .. 'session:' .. other)) ~= 'string' end

-- Keeps the record and what is parked of it for ttl, and its user's index at
-- least as long. The record
-- comes first: should the rest fail, it has its ttl.
local function keep()
  local r = redis.call('HMGET', record, 'user', 'created')
  redis.call('PEXPIRE', record, ttl)
  redis.call('PEXPIRE', parked, ttl)
  local index = prefix .. 'user:' .. r[1]
  redis.call('ZADD', index, r[2], id)
  if redis.call('PTTL', index) < tonumber(ttl) then redis.call('PEXPIRE', index, ttl) end
  return index
end

-- Lays down what a node knows, for the next owner.
local function park(epoch, stream, state, seq)
  redis.call('DEL', parked)
  redis.call('HSET', parked, 'epoch', epoch, 'stream', stream, 'state', state, 'seq', seq)
end

-- As keep, for a new record: takes some that are gone out of the index, so
-- that they stay a small part of it without a step that takes long.
local function add()
  local index = keep()
  for _, other in ipairs(redis.call('ZRANDMEMBER', index, 8)) do
    if other ~= id and gone(other) then redis.call('ZREM', index, other) end
  end
end
