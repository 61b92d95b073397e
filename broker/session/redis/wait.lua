-- ARGV: entry, ttl, the time constant of the rate in seconds, and for how many
-- milliseconds an admission counts as recent. The reply: how many entries are ahead,
-- how many wait, the rate as a string, the session that the entry was given, how many
-- entries were removed because their ttl had passed, and how many entries other
-- brokers have admitted recently.
local entry, ttl = ARGV[1], tonumber(ARGV[2])
local gone = 0
for _, expired in ipairs(redis.call('ZRANGEBYSCORE', expires, '-inf', now, 'LIMIT', 0, 100)) do
  redis.call('ZREM', expires, expired)
  redis.call('ZREM', queue, expired)
  gone = gone + 1
end
local sid = entry ~= '' and redis.call('GET', admitted) or ''
if entry ~= '' and sid == '' then
  if not redis.call('ZSCORE', queue, entry) then
    redis.call('ZADD', queue, redis.call('INCR', number), entry)
  end
  redis.call('ZADD', expires, now + ttl, entry)
  for _, key in ipairs({queue, expires, number}) do
    -- A day is longer than any ttl of an entry: by then the queue is empty.
    redis.call('PEXPIRE', key, 86400000)
  end
end
local waiting = redis.call('ZCARD', queue)
local ahead = entry ~= '' and redis.call('ZRANK', queue, entry) or waiting
for _, key in ipairs({recent, own}) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - tonumber(ARGV[4]))
end
local others = redis.call('ZCARD', recent) - redis.call('ZCARD', own)
return {ahead or 0, waiting, tostring(rate(tonumber(ARGV[3]))), sid or '', gone, others}
