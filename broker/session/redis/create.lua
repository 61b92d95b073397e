-- ARGV: id, ttl, request, user, pool, then the rule: how many sessions, whether to
-- refuse, and reason, word and ttl for those that end; then the fields and values
-- that the caller sets. The reply is the time for a new record, or the record if
-- the request made it before; and ids and records by turns of the sessions that ended.
local request, index, pool = ARGV[3], prefix .. 'user:' .. ARGV[4], ARGV[5]
local most, refuse = tonumber(ARGV[6]), ARGV[7] == '1'
local reason, word, tombstone = ARGV[8], ARGV[9], ARGV[10]
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
local all, may = 0, {} -- how many there are, and which of them may go, oldest first
local first = false -- of its user, as far as is known
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
      if not refuse or state == 'detached' then may[#may + 1] = other end
    end
  end
  if all + 1 - most > #may then return {'connected'} end
end
local ended, names = {}, {}
for i = 1, all + 1 - most do
  if most == 0 then break end
  names[i] = may[i]
  ended[2 * i - 1] = may[i]
  ended[2 * i] = finish(prefix, index, may[i], reason, word, tombstone, t)
end
redis.call('HSET', record, 'request', request, 'epoch', '1', 'state', 'assigned', 'reason', '0',
  'created', t, 'changed', t, unpack(ARGV, 11))
if #names > 0 then redis.call('HSET', record, 'replaced', table.concat(names, ' ')) end
if first then -- no other is there to be taken out of the index, nor anything parked
  redis.call('PEXPIRE', record, ttl) -- a ttl of nothing deletes it
  redis.call('ZADD', index, t, id)
  redis.call('PEXPIRE', index, ttl)
else
  add()
end
return {'made', t, ended} -- the caller knows the rest
