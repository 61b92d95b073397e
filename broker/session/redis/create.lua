-- ARGV: id, ttl, request, then the fields and values that the caller sets.
local request = ARGV[3]
if redis.call('EXISTS', record) == 1 then
  if request ~= '' and redis.call('HGET', record, 'request') == request then return reply('ok') end
  return {'exists'}
end
local t = now()
redis.call('HSET', record, 'request', request, 'epoch', '1', 'state', 'assigned', 'reason', '0',
  'created', t, 'changed', t, unpack(ARGV, 4))
local made = reply('ok') -- before keep: a ttl of nothing deletes it
add()
return made
