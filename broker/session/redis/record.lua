-- Shared by all transitions of a record. The source of each transition follows
-- this text, and begins with the keys that it finds itself.
--
-- KEYS[1] is the record, the hash usher:{tag}:session:<id>. KEYS[2] is the stored
-- state, the hash usher:{tag}:state:<id>. KEYS[3] is the index of the user,
-- usher:{tag}:user:<user>, a sorted set of session ids by time of creation. Most
-- callers know the id of a session and not its user: they do not pass KEYS[3], and the
-- script makes its name from the record. All have the tag of the record, so they are
-- in the same slot. Epochs and times are compared and stored as strings, because a Lua
-- number is a double and holds only 53 bits of an integer.
local record, stored, id, ttl = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local prefix = string.match(record, '^usher:{%x+}:')

-- Returns microseconds since the Unix epoch, by the clock of this server.
local function now()
  local t = redis.call('TIME')
  return t[1] .. string.format('%06d', t[2])
end

-- Returns the reply of an outcome with the record.
local function reply(outcome)
  return {outcome, redis.call('HGETALL', record)}
end

-- Returns the state of a session, false if there is none, or a table (an error)
-- if the key holds something else.
local function state_of(key) return redis.pcall('HGET', key, 'state') end

-- Returns nil if the session exists and has not ended, else the reply to give.
local function refusal()
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

-- Returns whether the number of a proof is higher than the last one, and stores it
-- if it is. 0 means no proof. Proof numbers are below 2^53, so a double holds them.
local function proven(n)
  if n == '0' then return true end
  local last = redis.call('HGET', record, 'proof')
  if last and tonumber(last) >= tonumber(n) then return false end
  redis.call('HSET', record, 'proof', n)
  return true
end

-- Returns whether the store has no record of the session.
local function gone(other) return type(state_of(prefix .. 'session:' .. other)) ~= 'string' end

-- Sets the ttl of the record and of its stored state, and extends that of its
-- user's index to at least the same. The record comes first: if the rest fails, it
-- has its ttl.
local function keep()
  local r = redis.call('HMGET', record, 'user', 'created')
  redis.call('PEXPIRE', record, ttl)
  redis.call('PEXPIRE', stored, ttl)
  local index = KEYS[3] or prefix .. 'user:' .. r[1]
  redis.call('ZADD', index, r[2], id)
  if redis.call('PTTL', index) < tonumber(ttl) then redis.call('PEXPIRE', index, ttl) end
  return index
end

-- Stores what a node persists for the next owner. by is the instance of the node: each
-- counts seq from 1.
local function store_state(epoch, by, stream, state, seq)
  redis.call('DEL', stored)
  redis.call('HSET', stored, 'epoch', epoch, 'by', by, 'stream', stream, 'state', state, 'seq', seq)
end

-- Does what keep does, for a new record. It also removes some expired sessions from
-- the index, so that they stay a small part of it and no call takes long.
local function add()
  local index = keep()
  for _, other in ipairs(redis.call('ZRANDMEMBER', index, 8)) do
    if other ~= id and gone(other) then redis.call('ZREM', index, other) end
  end
end
