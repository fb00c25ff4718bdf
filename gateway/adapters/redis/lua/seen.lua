#!lua
-- With: clock, slots
-- Tells how the seats of a model stand.
--
-- KEYS  as lib/slots.lua lists them
-- ARGV  1 seats (JSON)
-- Gives JSON: [{seat, limit, in_flight, park}]

local at = open_slots(KEYS, '', ARGV[1])
survey(at)
local seen = {}
for i, seat in ipairs(at.seats) do
  seen[i] = {seat = seat.name, limit = at.limits[seat.account], park = seat.park,
    in_flight = redis.call('SCARD', calls_of(at, seat.account))}
end
return cjson.encode(seen)
