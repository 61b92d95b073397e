-- Shared by the scripts of a queue. The source of each script follows this text.
--
-- KEYS[1] is a sorted set of entries by their numbers. KEYS[2] has the time at which
-- each entry expires, KEYS[3] the last number, KEYS[4] the rate of admissions, KEYS[5]
-- the entries admitted lately by all brokers, KEYS[6] those that the calling broker
-- admitted, and KEYS[7] the session that the entry in question was given.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local queue, expires, number, average, recent, own, admitted = unpack(KEYS)

-- Returns the average number of entries admitted a second; constant is the time
-- constant of the average in seconds.
local function rate(constant)
  local r = redis.call('HMGET', average, 'rate', 'at')
  if not r[1] then return 0 end
  return tonumber(r[1]) * math.exp(-math.max(now - tonumber(r[2]), 0) / 1000 / constant)
end
