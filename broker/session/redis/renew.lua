-- ARGV: id, ttl, node, epoch, state, stream, leaving, then the other fields and values
-- of the record, for the case that this store has lost it, or holds something
-- that is no record. The reply is one word: many renewals travel together.
local node, epoch, state, stream, leaving = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local stop = over()
if stop then
  if stop[1] == 'ended' then return {'ended'} end
  redis.call('DEL', record)
  redis.call('HSET', record, 'request', '', 'node', node, 'epoch', epoch, 'state', state, 'stream', stream,
    'leaving', leaving, 'reason', '0', 'changed', now(), unpack(ARGV, 8))
  add()
  return {'ok'}
end
if not owned(node, epoch) then return {'moved'} end
if redis.call('HGET', record, 'state') ~= state then redis.call('HSET', record, 'changed', now()) end
redis.call('HSET', record, 'state', state, 'stream', stream, 'leaving', leaving)
keep()
return {'ok'}
