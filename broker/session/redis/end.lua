-- ARGV: id, ttl, reason, word, and the epoch it must have, or 0.
local stop = over()
if stop then
  if stop[1] == 'ended' then stop[1] = 'ok' end -- the first reason stands
  return stop
end
if ARGV[5] ~= '0' and redis.call('HGET', record, 'epoch') ~= ARGV[5] then return reply('moved') end
local index = prefix .. 'user:' .. redis.call('HGET', record, 'user')
return {'ok', finish(prefix, index, id, ARGV[3], ARGV[4], ttl, now())}
