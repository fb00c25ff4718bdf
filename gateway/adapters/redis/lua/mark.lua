#!lua flags=allow-oom
-- Notes something in a job's record, if there is one. Idempotent.
--
-- KEYS  1 reservation
-- ARGV  1 fence of who notes it   2 field   3 value   4 1: also after the job's end
--       5, 6 channel to tell of it ('' for none), and what to say there
-- Gives done | ended | fenced (another replica has taken the job over) | gone

local state, fence = unpack(redis.call('HMGET', KEYS[1], 'state', 'fence'))
if not state then return 'gone' end
if tonumber(fence or 1) > tonumber(ARGV[1]) then return 'fenced' end
if state ~= 'held' and ARGV[4] ~= '1' then return 'ended' end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
if string.sub(ARGV[2], 1, 2) == 'w:' then redis.call('HSET', KEYS[1], 'followed', 1) end -- as in reserve.lua
if ARGV[5] ~= '' then redis.call('PUBLISH', ARGV[5], ARGV[6]) end
return 'done'
