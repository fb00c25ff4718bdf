#!lua flags=allow-oom
-- With: clock
-- Renews the lease of one owner in one slot; never shortens it.
--
-- KEYS  1 owners (zset owner -> end of lease, ms)   2 clock
-- ARGV  1 owner   2 lease, ms

local now = clock(KEYS[2])
redis.call('ZADD', KEYS[1], 'GT', string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
