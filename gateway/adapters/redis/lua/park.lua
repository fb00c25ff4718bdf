#!lua flags=allow-oom
-- Leaves a key or an account alone for a while, or no longer. Idempotent.
--
-- KEYS  1 parked (hash, as lib/slots.lua says)
-- ARGV  1 name ('key:<fingerprint>' or 'account:<account>')   2 park (JSON; '' ends it)   3, 4 channel to tell, and what
-- Gives 1 when something changed.

local known = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return (known or '') == ARGV[2] and 0 or 1
