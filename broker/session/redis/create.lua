-- Finds: usher:{tag}:session:<id> and usher:{tag}:state:<id> of other sessions.
-- ARGV: id, ttl, request, pool; then the rule: how many sessions, whether to
-- refuse, and reason, close reason and ttl for the sessions that end; then the fields
-- and values that the caller sets. The reply is the time of creation for a new
-- record, or the record if the same request has created it before; then the list of
-- sessions that ended, ids and records alternating.
local request, index, pool = ARGV[3], KEYS[3], ARGV[4]
local most, refuse = tonumber(ARGV[5]), ARGV[6] == '1'
local reason, close_reason, tombstone = ARGV[7], ARGV[8], ARGV[9]
if redis.call('EXISTS', record) == 1 then
  if request == '' or redis.call('HGET', record, 'request') ~= request then return {'exists'} end
  local made, ended = reply('ok'), {}
  for other in string.gmatch(redis.call('HGET', record, 'replaced') or '', '%S+') do
    local r = redis.call('HGETALL', prefix .. 'session:' .. other)
    if #r > 0 then
      ended[#ended + 1] = other
      ended[#ended + 1] = r
    end
  end
  made[3] = ended
  return made
end
local t = now()
local all, may_end = 0, {} -- how many sessions there are; which of them may end, oldest first
local first = false -- whether this is known to be the first session of the user
if most > 0 then
  local others = redis.call('ZRANGE', index, 0, -1)
  first = #others == 0
  for _, other in ipairs(others) do
    local r = redis.pcall('HMGET', prefix .. 'session:' .. other, 'state', 'pool')
    local state = not r.err and r[1]
    if not state or state == 'ended' then
      redis.call('ZREM', index, other)
    elseif r[2] == pool then
      all = all + 1
      if not refuse or state == 'detached' then may_end[#may_end + 1] = other end
    end
  end
  if all + 1 - most > #may_end then return {'connected'} end
end
local ended, ids = {}, {}
for i = 1, all + 1 - most do
  if most == 0 then break end
  ids[i] = may_end[i]
  ended[2 * i - 1] = may_end[i]
  ended[2 * i] = finish(prefix, index, may_end[i], reason, close_reason, tombstone, t)
end
redis.call('HSET', record, 'request', request, 'epoch', '1', 'state', 'assigned', 'reason', '0',
  'created', t, 'changed', t, unpack(ARGV, 10))
if #ids > 0 then redis.call('HSET', record, 'replaced', table.concat(ids, ' ')) end
if first then -- the index has nothing to remove, and there is no stored state
  redis.call('PEXPIRE', record, ttl) -- a ttl of 0 deletes it
  redis.call('ZADD', index, t, id)
  redis.call('PEXPIRE', index, ttl)
else
  add()
end
return {'made', t, ended} -- the caller knows the other fields
