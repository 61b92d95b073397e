-- Finds: usher:{tag}:user:<user>, the index of the user.
-- ARGV: id, ttl, reason, close reason, and the epoch that the record must have, or 0.
local refused = refusal()
if refused then
  if refused[1] == 'ended' then refused[1] = 'ok' end -- the first reason stays
  return refused
end
if ARGV[5] ~= '0' and redis.call('HGET', record, 'epoch') ~= ARGV[5] then return reply('moved') end
local index = prefix .. 'user:' .. redis.call('HGET', record, 'user')
return {'ok', finish(prefix, index, id, ARGV[3], ARGV[4], ttl, now())}
