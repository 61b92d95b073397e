-- ARGV: id, ttl, reason. The record stays as a tombstone, outside the index.
local stop = over()
if stop then
  if stop[1] == 'ended' then stop[1] = 'ok' end -- the first reason stands
  return stop
end
redis.call('ZREM', prefix .. 'user:' .. redis.call('HGET', record, 'user'), id)
redis.call('DEL', parked)
redis.call('HSET', record, 'state', 'ended', 'reason', ARGV[3], 'changed', now())
local made = reply('ok')
redis.call('PEXPIRE', record, ttl)
return made
