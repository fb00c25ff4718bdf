-- How long a wait in a queue takes. After lib/slots.lua, whose survey() has to have run.

-- Says how long a picture waits that comes now, ms, from what is before it and how long a call takes; nil: not known.
-- One that waits already is not before itself.
local function expected(at, one)
  local pace, slots = tonumber(redis.call('HGET', at.state, 'pace') or 0), sum_of(at, at.limits)
  if pace == 0 or slots == 0 then return nil end
  local line = line_of(at, one.project)
  local own = redis.call('ZCARD', line) - (redis.call('ZSCORE', line, one.id) and 1 or 0)
  local start, before = start_of(at, one.project) + own / one.weight, own
  local turns = redis.call('ZRANGE', at.turns, 0, -1, 'WITHSCORES')
  for i = 1, #turns, 2 do
    if turns[i] ~= one.project then
      local weight = tonumber(redis.call('HGET', at.weights, turns[i]) or 1)
      local ahead = math.ceil((start - tonumber(turns[i + 1])) * weight)
      before = before + math.max(0, math.min(ahead, redis.call('ZCARD', line_of(at, turns[i]))))
    end
  end
  return pace * (before + 0.5) / slots
end
