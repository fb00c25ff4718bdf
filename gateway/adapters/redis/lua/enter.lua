#!lua
-- With: clock, slots, wait
-- Lets pictures wait for a slot of a model, or gives them one at once. Idempotent per ticket. A group is refused whole.
--
-- KEYS  as lib/slots.lua lists them
-- ARGV  1 owner   2 lease, ms   3 seats (JSON)   4 most pictures that may wait   5 prefix of the owners' channels
--       6 tickets: JSON of [id, project, weight, group, seq (0: give one; else it comes back to its place), patience (ms that
--       the first of a group may wait; 0: any time), seat, account, fingerprint ('' unless it holds a slot already)]
-- Gives JSON: {granted: [[ticket, seat, seq, fingerprint]], waiting: [[ticket, seq]], refused: {group: ms until it is worth
--       a try, 0: not known}, usable: false, and parked: parks, when no seat may be used: then nothing was let in,
--       pause: as leave.lua says}; what is empty is absent

local at = open_slots(KEYS, ARGV[1], ARGV[3])
local wishes = cjson.decode(ARGV[6])
survey(at)
local refused, groups, mine, fresh = {}, {}, {}, 0

local function wish(words)
  return {id = words[1], project = words[2], weight = words[3], group = words[4], seq = words[5], patience = words[6],
    seat = words[7], account = words[8], fingerprint = words[9], owner = ARGV[1]}
end

local function waiting_now()
  local sum = 0
  for _, project in ipairs(redis.call('ZRANGE', at.turns, 0, -1)) do
    sum = sum + redis.call('ZCARD', line_of(at, project))
  end
  return sum
end

-- Gives how long a group has to stay away, or nil when it may come in.
local function refusal(one, size)
  local waiting, free = waiting_now(), sum_of(at, at.free)
  if waiting + size - free <= 0 then return nil end
  if waiting + size - free > tonumber(ARGV[4]) then return expected(at, one) or 0 end
  if one.patience == 0 or waiting < free then return nil end
  local wait = expected(at, one)
  return wait and wait > one.patience and wait - one.patience or nil
end

for i, words in ipairs(wishes) do
  wishes[i] = wish(words)
  groups[wishes[i].group] = (groups[wishes[i].group] or 0) + 1
end
if all_shut(at) and wishes[1].seat == '' then return cjson.encode({parked = at.parks, usable = false}) end

for _, one in ipairs(wishes) do
  local known = ticket(at, one.id)
  if known then
    mine[#mine + 1] = known
  else
    if one.seq == 0 and refused[one.group] == nil then refused[one.group] = refusal(one, groups[one.group]) or false end
    if one.seq ~= 0 or not refused[one.group] then
      local last = tonumber(redis.call('HGET', at.state, 'seq') or 0)
      if one.seq == 0 then one.seq = math.max(at.now * 1000, last + 1) end
      redis.call('HSET', at.state, 'seq', exact(math.max(one.seq, last))) -- it is lost with a store, and places come back
      keep(at, one)
      redis.call('SADD', held_by(at, ARGV[1]), one.id)
      if one.seat == '' then
        queue(at, one)
        groups[one.group] = groups[one.group] - 1
      else
        redis.call('SADD', calls_of(at, one.account), one.id)
      end
      fresh = fresh + 1
      mine[#mine + 1] = one
    end
  end
end
if fresh > 0 then redis.call('ZADD', at.owners, 'GT', string.format('%.0f', at.now + tonumber(ARGV[2])), ARGV[1]) end

serve(at, ARGV[5])
local granted, waiting, away = {}, {}, nil
for _, one in ipairs(mine) do
  local now = ticket(at, one.id)
  if now.seat ~= '' then
    granted[#granted + 1] = grant(now)
  else
    waiting[#waiting + 1] = {now.id, exact(now.seq)}
  end
end
for group, wait in pairs(refused) do
  if wait then
    away = away or {}
    away[group] = math.floor(wait)
  end
end
return cjson.encode({granted = listed(granted), waiting = listed(waiting), refused = away,
  pause = at.pause and at.pause - at.now})
