-- Gives the store's time, ms: Redis's own, and never behind what was seen last.
local function clock(key)
  local time = redis.call('TIME')
  return math.max(time[1] * 1000 + math.floor(time[2] / 1000), tonumber(redis.call('GET', key) or 0))
end
