#!lua
-- With: clock, slots
-- Looks after a model: hands out what has come free by time, and tells an owner how it stands.
--
-- KEYS  as lib/slots.lua lists them
-- ARGV  1 owner   2 seats (JSON)   3 prefix of the owners' channels   4 tickets that wait, as the owner knows (JSON)
--       5 1: name all that is held for the owner
-- Gives JSON: {granted: [[ticket, seat, seq, fingerprint]] of those that wait, missing: those of them that are not known
--       here, held: number of the owner's tickets, names: their ids, length: pictures that wait, of all owners, parked: parks that hold,
--       usable: whether any seat may be used, pause: as leave.lua says}

local at = open_slots(KEYS, ARGV[1], ARGV[2])
survey(at)
serve(at, ARGV[3])
local granted, missing, waiting = {}, {}, 0
for _, id in ipairs(cjson.decode(ARGV[4])) do
  local one = ticket(at, id)
  if not one then
    missing[#missing + 1] = id
  elseif one.seat ~= '' then
    granted[#granted + 1] = grant(one)
  end
end
for _, project in ipairs(redis.call('ZRANGE', at.turns, 0, -1)) do
  waiting = waiting + redis.call('ZCARD', line_of(at, project))
end
local names = ARGV[5] == '1' and redis.call('SMEMBERS', held_by(at, ARGV[1])) or {}
return cjson.encode({granted = listed(granted), missing = listed(missing), names = listed(names), length = waiting,
  held = redis.call('SCARD', held_by(at, ARGV[1])), parked = listed(at.parks), usable = not all_shut(at),
  pause = at.pause and at.pause - at.now})
