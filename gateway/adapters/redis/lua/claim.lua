#!lua
-- With: clock, variants, look
-- Looks for the pictures of a plan that all projects share, and lets a job lead the rest, before that job takes
-- anything from the limits of its project in another slot. Idempotent per job: a second run begins anew.
--
-- KEYS  1 results   2 flights   3 handed (of the plan, as look.lua says)   4 clock
-- ARGV  1 job   2 pictures   3 sought (JSON of Sought)   4 key id   5 shard of the job
-- Gives JSON: what look.lua found.

local now = clock(KEYS[4])
redis.call('SET', KEYS[4], string.format('%.0f', now))
local at = {
  results = KEYS[1], flights = KEYS[2], handed = KEYS[3], now = now, id = ARGV[1], key = ARGV[4],
  n = tonumber(ARGV[2]), sought = cjson.decode(ARGV[3]),
  live = function() return true end, -- the record is in another slot
}
for position = 0, at.n - 1 do redis.call('HDEL', at.flights, at.id .. '.' .. position) end
local found = look(at)
if at.sought.lead or #found.hits + #found.follows >= at.n then take_off(at, found, tonumber(ARGV[5])) end
return cjson.encode(found)
