#!lua flags=allow-oom
-- With: clock, variants, land
-- Tells how a picture ended before its job has. Idempotent: the first end counts.
--
-- KEYS  1 reservation   2 results   3 flights   4 index   5 clock
-- ARGV  1 job   2 fence of the teller   3 ending (JSON, as lib/land.lua says; member '' leaves the plan to land.lua)
--       4 channel of jobs
-- Gives 0 when another replica has taken the job over, so that nothing was told.

local state, fence, followed = unpack(redis.call('HMGET', KEYS[1], 'state', 'fence', 'followed'))
if tonumber(fence or 1) > tonumber(ARGV[2]) then return 0 end
local ending = cjson.decode(ARGV[3])
if state == 'held' then
  for _, stop in ipairs(ending.ends) do redis.call('HSETNX', KEYS[1], 'end:' .. stop[1], stop[2]) end
end
if ending.member ~= '' then
  land({results = KEYS[2], flights = KEYS[3], index = KEYS[4], now = clock(KEYS[5]), id = ARGV[1]}, ending)
end
if followed then redis.call('PUBLISH', ARGV[4], ARGV[1]) end
return 1
