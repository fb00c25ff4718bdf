#!lua
-- With: clock
-- Finds the owners whose lease has ended. When the collector did not run for a while (the store was stopped, or failed
-- over), no owner could renew either: every lease is lengthened by the gap before any expires.
-- Not allow-oom on purpose: that it is refused is how a store is noticed that answers and takes no writes.
--
-- KEYS  1 owners (zset owner -> end of lease, ms)   2 time of the last run   3 clock
-- ARGV  1 longest gap between runs that needs no lengthening, ms   2 most owners to give
-- Gives the owners.

local now = clock(KEYS[3])
local last = tonumber(redis.call('GET', KEYS[2]) or 0)
redis.call('SET', KEYS[2], string.format('%.0f', now))
if now - last > tonumber(ARGV[1]) then
  if last > 0 then
    for _, owner in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
      redis.call('ZINCRBY', KEYS[1], string.format('%.0f', now - last), owner)
    end
  end
  return {}
end
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now), 'LIMIT', 0, ARGV[2])
