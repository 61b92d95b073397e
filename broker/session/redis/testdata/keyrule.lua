-- Precedes the source of a script in tests. It replaces redis.call and redis.pcall of
-- the script by functions that refuse a key unless it is in KEYS, or has the tag of
-- KEYS[1] and is of a kind that the script lists.
local redis = (function(real)
  local kinds = {--[[kinds]]}
  local first = {TIME = 0, EXISTS = -1, DEL = -1} -- how many arguments are keys; -1: all
  for name in string.gmatch('GET SET INCR PEXPIRE PTTL HGET HSET HSETNX HMGET HGETALL ' ..
    'ZADD ZREM ZCARD ZCOUNT ZRANK ZSCORE ZRANGE ZRANGEBYSCORE ZREMRANGEBYSCORE ZRANDMEMBER', '%S+') do
    first[name] = 1
  end
  local function refuse(what) error('key rule: ' .. what) end
  local tag = string.match(KEYS[1], '^usher:({%x%x}):.')
  local known = {}
  for _, key in ipairs(KEYS) do
    known[key] = true
    if key ~= KEYS[1] and (not tag or string.match(key, '^usher:({%x%x}):.') ~= tag) then
      refuse('KEYS has ' .. key .. ' beside ' .. KEYS[1])
    end
  end
  local function check(name, ...)
    local n = first[string.upper(name)]
    if not n then refuse('the check does not know where the keys of ' .. name .. ' are') end
    local args = {...}
    if n < 0 then n = #args end
    for i = 1, n do
      local key = args[i]
      local of, kind = string.match(key, '^usher:({%x%x}):(%l+):.')
      if not known[key] and not (tag and of == tag and kinds[kind]) then
        refuse(name .. ' uses ' .. key .. ', which is neither in KEYS nor listed')
      end
    end
  end
  local function checked(call)
    return function(...)
      check(...)
      return call(...)
    end
  end
  return setmetatable({call = checked(real.call), pcall = checked(real.pcall)}, {__index = real})
end)(redis)
