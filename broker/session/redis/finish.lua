-- Makes the record of id a tombstone and removes it from the index of its user. All
-- keys have the prefix. Returns the record as it is then.
local function finish(prefix, index, id, reason, close_reason, ttl, time)
  local key = prefix .. 'session:' .. id
  redis.call('ZREM', index, id)
  redis.call('DEL', prefix .. 'state:' .. id)
  redis.call('HSET', key, 'state', 'ended', 'reason', reason, 'close_reason', close_reason, 'leaving', '', 'changed', time)
  local made = redis.call('HGETALL', key)
  redis.call('PEXPIRE', key, ttl)
  return made
end
