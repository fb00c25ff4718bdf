#!lua flags=allow-oom
-- With: clock
-- Hands a job with paid pictures from an owner whose lease has ended to another, who has to account for it.
--
-- KEYS  1 reservation   2 owners (zset owner -> end of lease, ms)   3 held by the old owner   4 held by the new one
--       5 clock
-- ARGV  1 job   2 old owner   3 new owner   4 lease, ms   5 fence under which the job was found
-- Gives the new fence, or 0 when the job is not the old owner's any more. Idempotent.

local state, owner, fence = unpack(redis.call('HMGET', KEYS[1], 'state', 'owner', 'fence'))
local known, now = tonumber(fence or 1), clock(KEYS[5])
if state ~= 'held' then return 0 end
if owner == ARGV[3] and known == ARGV[5] + 1 then return known end
if owner ~= ARGV[2] or known ~= tonumber(ARGV[5]) then return 0 end
if now < tonumber(redis.call('ZSCORE', KEYS[2], owner) or 0) then return 0 end
redis.call('HSET', KEYS[1], 'owner', ARGV[3], 'fence', known + 1)
redis.call('SREM', KEYS[3], ARGV[1])
redis.call('SADD', KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[2], 'GT', string.format('%.0f', now + tonumber(ARGV[4])), ARGV[3])
return known + 1
