-- What the steps of a line share. This text comes before each of them.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local kept, seated, lately = KEYS[1] .. ':until', KEYS[1] .. ':seated:', KEYS[1] .. ':lately'

-- Returns the places seated a second, of late; constant is in seconds.
local function rate(constant)
  local r = redis.call('HMGET', KEYS[1] .. ':rate', 'rate', 'at')
  if not r[1] then return 0 end
  return tonumber(r[1]) * math.exp(-math.max(now - tonumber(r[2]), 0) / 1000 / constant)
end
