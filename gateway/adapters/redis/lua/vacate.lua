#!lua flags=allow-oom
-- With: line
-- Gives a job's place under `concurrent` back before its end: what is left of it is a download that may take a day.
-- Who has waited for it gets it. Idempotent; its settlement finds nothing to give back.
--
-- KEYS  1 reservation   2 line of the project   then for each subject: running
-- ARGV  1 job   2 fence of who says so   3 channel of jobs

local state, fence = unpack(redis.call('HMGET', KEYS[1], 'state', 'fence'))
if state ~= 'held' or tonumber(fence or 1) > tonumber(ARGV[2]) then return end
redis.call('HSET', KEYS[1], 'vacated', 1)
for k = 3, #KEYS do redis.call('SREM', KEYS[k], ARGV[1]) end
let_in(KEYS[2], string.sub(KEYS[1], 1, -#ARGV[1] - 1), ARGV[3])
