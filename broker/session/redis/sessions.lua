-- KEYS[1]: the user's index. ARGV: limit, and how many sessions that are
-- gone may be cleared away in one run. The reply is whether the list is complete,
-- and the list: ids and records by turns, oldest first. The records have the
-- tag of the index and so lie in the same slot.
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
