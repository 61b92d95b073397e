-- Makes a record a tombstone, outside its user's index; the keys have the prefix.
local function finish(prefix, index, id, reason, word, ttl, time)
  local key = prefix .. 'session:' .. id
  redis.call('ZREM', index, id)
  redis.call('DEL', prefix .. 'parked:' .. id)
  redis.call('HSET', key, 'state', 'ended', 'reason', reason, 'word', word, 'leaving', '', 'changed', time)
  local made = redis.call('HGETALL', key)
  redis.call('PEXPIRE', key, ttl)
  return made
end
