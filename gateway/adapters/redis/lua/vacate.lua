#!lua flags=allow-oom
-- Gives a job's place under `concurrent` back before its end: what is left of it is a download that may take a day.
-- Idempotent; its settlement finds nothing to give back.
--
-- KEYS  1 reservation   then for each subject: running
-- ARGV  1 job   2 fence of who says so

local state, fence = unpack(redis.call('HMGET', KEYS[1], 'state', 'fence'))
if state ~= 'held' or tonumber(fence or 1) > tonumber(ARGV[2]) then return end
redis.call('HSET', KEYS[1], 'vacated', 1)
for k = 2, #KEYS do redis.call('SREM', KEYS[k], ARGV[1]) end
