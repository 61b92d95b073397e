-- Shared by the scripts of a queue. The source of each script follows this text.
--
-- KEYS[1] is a sorted set of entries by their numbers. The other keys begin with its
-- name: :until has the time at which each entry expires, :admitted:<entry> the session
-- that the entry was given, :recent the entries admitted lately, by all brokers, and
-- :recent:<broker> those that one broker admitted.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local expires, admitted, recent = KEYS[1] .. ':until', KEYS[1] .. ':admitted:', KEYS[1] .. ':recent'

-- Returns the average number of entries admitted a second; constant is the time
-- constant of the average in seconds.
local function rate(constant)
  local r = redis.call('HMGET', KEYS[1] .. ':rate', 'rate', 'at')
  if not r[1] then return 0 end
  return tonumber(r[1]) * math.exp(-math.max(now - tonumber(r[2]), 0) / 1000 / constant)
end
