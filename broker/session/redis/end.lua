-- ARGV: id, ttl, reason, word.
local stop = over()
if stop then
  if stop[1] == 'ended' then stop[1] = 'ok' end -- the first reason stands
  return stop
end
local index = prefix .. 'user:' .. redis.call('HGET', record, 'user')
return {'ok', finish(prefix, index, id, ARGV[3], ARGV[4], ttl, now())}
