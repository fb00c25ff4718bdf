#!lua flags=allow-oom
-- Renews the lease of one owner in one slot; never shortens it.
--
-- KEYS  1 owners (zset owner -> end of lease, ms)   2 clock
-- ARGV  1 owner   2 lease, ms

local time = redis.call('TIME')
local now = math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(redis.call('GET', KEYS[2]) or 0))
redis.call('ZADD', KEYS[1], 'GT', string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
