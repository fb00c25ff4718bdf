#!lua
-- With: clock, slots, wait
-- Tells how long a picture would wait if it came now.
--
-- KEYS  as lib/slots.lua lists them
-- ARGV  1 seats (JSON)   2 ticket   3 its project   4 its weight
-- Gives ms, or nil where that is not known.

local at = open_slots(KEYS, '', ARGV[1])
survey(at)
local wait = expected(at, {id = ARGV[2], project = ARGV[3], weight = tonumber(ARGV[4])})
return wait and math.floor(wait)
