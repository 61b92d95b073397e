-- Finds: usher:{tag}:user:<user>, the index of the user.
-- ARGV: id, ttl, node, epoch, stream, whether to take the stored state, the
-- instance that takes it, and the number of a proof or 0. The reply is the record
-- as it was before.
local node, epoch, stream, take = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local refused = refusal()
if refused then return refused end
if not owned(node, epoch) then return reply('moved') end
if not proven(ARGV[8]) then return reply('replayed') end
local before = reply('ok')
redis.call('HSET', record, 'state', 'attached', 'stream', stream, 'changed', now())
if take == '1' and redis.call('EXISTS', stored) == 1 then
  redis.call('HSETNX', stored, 'taken_by', epoch .. ' ' .. node .. ' ' .. ARGV[7])
end
keep()
return before
