-- Finds: usher:{tag}:session:<id> of the sessions in it.
-- KEYS[1]: the index of the user. ARGV: limit, and the most expired sessions to
-- remove from the index in one run. The reply is whether the list is complete, and
-- the list, ids and records alternating, oldest first.
local index, limit, clear = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local prefix = string.match(index, '^usher:{%x+}:')
local list, alive = {}, 0
while alive < limit do
  local ids = redis.call('ZRANGE', index, alive, alive + 63)
  if #ids == 0 then break end
  for _, id in ipairs(ids) do
    local key = prefix .. 'session:' .. id
    if redis.call('HGET', key, 'state') then
      alive = alive + 1
      list[#list + 1] = id
      list[#list + 1] = redis.call('HGETALL', key)
      if alive == limit then break end
    else
      if clear == 0 then return {0, {}} end
      clear = clear - 1
      redis.call('ZREM', index, id)
    end
  end
end
return {1, list}
