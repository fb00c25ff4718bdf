-- Ends flights of a job and remembers what they made.
--
-- at  results, flights: keys of the plan   index: zset of the slot's plans by the time of their newest picture; a
--     plan's results are at <index>:<plan>   id: of the job   now
-- ending  clear: positions whose flights end   ends: {position, end, whether to remember it}
--         lifetime, ms   most: plans of this slot   member: the plan in the index

local MOST_VARIANTS, MOST_OUT = 32, 16

local function land(at, ending)
  for _, position in ipairs(ending.clear) do redis.call('HDEL', at.flights, at.id .. '.' .. position) end
  local landed = false
  for _, stop in ipairs(ending.ends) do
    local variant = at.id .. '.' .. stop[1]
    local text = string.format('%.0f ', at.now) .. stop[2]
    landed = (stop[3] and redis.call('HSETNX', at.results, variant, text) == 1) or landed
  end
  if not landed then return end
  redis.call('PEXPIRE', at.results, string.format('%.0f', ending.lifetime))
  for _ = 1, redis.call('HLEN', at.results) - MOST_VARIANTS do redis.call('HDEL', at.results, variants(at.results)[1].variant) end
  redis.call('ZADD', at.index, string.format('%.0f', at.now), ending.member)
  local over = redis.call('ZCARD', at.index) - ending.most
  local popped = redis.call('ZRANGE', at.index, 0, MOST_OUT - 1, 'WITHSCORES')
  for i = 1, #popped, 2 do
    local expired = tonumber(popped[i + 1]) + ending.lifetime < at.now -- its pictures have gone by themselves
    if (i + 1) / 2 > over and not expired then break end
    redis.call('ZREM', at.index, popped[i])
    redis.call('UNLINK', at.index .. ':' .. popped[i])
  end
end
