-- Finds: usher:{tag}:session:<id> of other sessions in the index.
-- ARGV: id, ttl, node, epoch, state, stream, leaving; then the other fields and
-- values of the record, in case this store has lost it or its key holds something
-- else. The reply is the outcome alone: many renewals are sent together.
local node, epoch, state, stream, leaving = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local refused = refusal()
if refused then
  if refused[1] == 'ended' then return {'ended'} end
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
