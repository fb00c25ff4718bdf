#!lua flags=allow-oom
-- With: clock, slots
-- Gives slots back, or leaves the queue; learns from how the calls went; hands out what is free. Idempotent per ticket.
--
-- KEYS  as lib/slots.lua lists them
-- ARGV  1 owner   2 seats (JSON)   3 prefix of the owners' channels
--       4 tickets: JSON of [id, how, ms]: how is made (the call took ms), none, rate (the upstream said that the account has
--       too many calls) or cut (the call may go on upstream for ms)
-- Gives JSON: {granted: [[ticket, seat, seq, fingerprint]] of this owner, pause: ms until an account that is left alone may
--       be asked again}

local FIRST_PAUSE, LONGEST_PAUSE, GHOST_PAUSE = 500, 8000, 500 -- ms
local NEW_SHARE = 0.1 -- of the newest call in the pace

local at = open_slots(KEYS, ARGV[1], ARGV[2])

local function field(kind, account) return redis.call('HGET', at.accounts, kind .. ':' .. account) end

local function pause(account, length, times)
  redis.call('HSET', at.accounts, 'pause:' .. account, string.format('%.0f %d', at.now + length, times))
end

-- The account has one call less than it took, unless a call may still run upstream that nobody here counts any more.
local function learn(account, in_flight)
  local ghost = tonumber(field('ghost', account) or 0)
  if ghost > at.now then return pause(account, GHOST_PAUSE, 0) end
  if in_flight > 1 then
    survey(at) -- what was learned before has grown since
    local limit = math.min(in_flight - 1, at.limits[account] or in_flight)
    return redis.call('HSET', at.accounts, 'learned:' .. account, string.format('%d %.0f', limit, at.now))
  end
  local times = tonumber(string.match(field('pause', account) or '', ' (%d+)$') or 0)
  pause(account, math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ^ times), times + 1)
end

for _, words in ipairs(cjson.decode(ARGV[4])) do
  local id, how, length = unpack(words)
  local known = ticket(at, id)
  local in_flight = known and known.account ~= '' and redis.call('SCARD', calls_of(at, known.account)) or 0
  local one = drop(at, id)
  if one and one.seat ~= '' then
    if how == 'made' then
      local pace = tonumber(redis.call('HGET', at.state, 'pace') or length)
      redis.call('HSET', at.state, 'pace', exact(pace + (length - pace) * NEW_SHARE))
      redis.call('HDEL', at.accounts, 'pause:' .. one.account)
    elseif how == 'rate' then
      learn(one.account, in_flight)
    elseif how == 'cut' then
      redis.call('HSET', at.accounts, 'ghost:' .. one.account, string.format('%.0f', at.now + length))
    end
  end
end
survey(at)
local granted = serve(at, ARGV[3])
return cjson.encode({granted = listed(granted), pause = at.pause and at.pause - at.now})
