-- Finds: usher:{tag}:session:<id> and usher:{tag}:state:<id> of the sessions in it.
-- KEYS[1]: the index of the user. ARGV: reason, close reason, ttl, and the most
-- sessions to end in one run. The reply is whether all have ended, and the list of
-- those that ended in this run, ids and records alternating, oldest first.
local index, reason, close_reason, ttl, limit = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local prefix = string.match(index, '^usher:{%x+}:')
local t = redis.call('TIME')
local time = t[1] .. string.format('%06d', t[2])
local list = {}
for _, id in ipairs(redis.call('ZRANGE', index, 0, limit - 1)) do
  local state = redis.pcall('HGET', prefix .. 'session:' .. id, 'state')
  if type(state) == 'string' and state ~= 'ended' then
    list[#list + 1] = id
    list[#list + 1] = finish(prefix, index, id, reason, close_reason, ttl, time)
  else
    redis.call('ZREM', index, id)
  end
end
return {redis.call('EXISTS', index) == 0 and 1 or 0, list}
