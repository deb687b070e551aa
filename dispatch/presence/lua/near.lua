--[[
  near: the nearest free providers, and a short hold on them so that jobs of one instant do not all pick the same. A search that holds
  keeps its answer for as long, and asked again, because a reply was lost, it gives that one and holds nobody else.
  KEYS[1] free      geo set       {market}:geo:<service>
  KEYS[2] seen      sorted set    {market}:seen      provider -> last fix, ms
  KEYS[3] reserved  sorted set    {market}:reserved  provider -> held until, ms
  KEYS[4] radii     hash          {market}:radii     provider -> service radius, m
  KEYS[5] learnt    hash          {market}:learnt:<service>  cell -> first radius, m
  KEYS[6] search    string        {market}:search:<id>  until when it holds, and its answer; TTL as the hold
  ARGV[1] lng  ARGV[2] lat
  ARGV[3] wanted: how many
  ARGV[4] first radius, m, where nothing is learnt  ARGV[5] largest radius, m
  ARGV[6] now_ms  ARGV[7] fresh_ms: older fixes do not count
  ARGV[8] hold_ms: reserve those found for so long; 0 looks only, and past reservations; below 0 looks only, and heeds them
  ARGV[9] cell of the pickup
  ARGV[10..] providers left out
  returns flat list: provider, distance in whole metres, nearest first
]]
local held_before = redis.call('GET', KEYS[6])
if held_before then
  local answer = {}
  for word in string.gmatch(held_before, '[^ ]+') do answer[#answer + 1] = word end
  table.remove(answer, 1)
  for i = 2, #answer, 2 do answer[i] = tonumber(answer[i]) end
  return answer
end
local wanted, largest, now = tonumber(ARGV[3]), tonumber(ARGV[5]), tonumber(ARGV[6])
local oldest, hold = now - tonumber(ARGV[7]), tonumber(ARGV[8])
local out = {}
for i = 10, #ARGV do out[ARGV[i]] = true end
local known = tonumber(redis.call('HGET', KEYS[5], ARGV[9]))
local radius = math.min(known or tonumber(ARGV[4]), largest)
local count = wanted + #ARGV - 9 + 4
local chosen, reach
while true do
  -- GEOSEARCH costs what lies inside the radius, so the radius starts small; COUNT grows first, it is the cheaper of the two.
  local found = redis.call('GEOSEARCH', KEYS[1], 'FROMLONLAT', ARGV[1], ARGV[2], 'BYRADIUS', radius, 'm', 'ASC', 'COUNT', count, 'WITHDIST')
  chosen, reach = {}, 0
  local names = {}
  for i, row in ipairs(found) do names[i] = row[1] end
  if #names > 0 then
    local fixes = redis.call('ZMSCORE', KEYS[2], unpack(names))
    local holds = hold ~= 0 and redis.call('ZMSCORE', KEYS[3], unpack(names)) or {}
    local radii = redis.call('HMGET', KEYS[4], unpack(names))
    for i, row in ipairs(found) do
      local fix, held, own, distance = tonumber(fixes[i] or nil), tonumber(holds[i] or nil), tonumber(radii[i] or nil), tonumber(row[2])
      -- A hold that lasts longer than any that is made here was made by a clock that ran ahead: it would hide him for as long.
      local hidden = held and held > now and held <= now + math.max(2 * hold, 60000)
      if fix and fix >= oldest and not hidden and (not own or distance <= own) and not out[row[1]] then
        chosen[#chosen + 1] = row[1]
        chosen[#chosen + 1] = math.floor(distance + 0.5)
        reach = distance
        if #chosen == 2 * wanted then break end
      end
    end
  end
  if #chosen == 2 * wanted then break end
  if #names == count and count < 2000 then
    count = math.min(count * 4, 2000)
  elseif radius < largest then
    radius = math.min(radius * 2, largest)
  else
    break
  end
end
-- Learn what would have been enough: half as much again as the farthest taken, or all there is.
local lesson = #chosen == 2 * wanted and math.max(200, math.min(largest, math.floor(reach * 1.5))) or radius
if not known or lesson < known * 0.7 or lesson > known * 1.3 then
  redis.call('HSET', KEYS[5], ARGV[9], lesson)
end
if hold > 0 and #chosen > 0 then
  local marks = {}
  for i = 1, #chosen, 2 do
    marks[#marks + 1] = now + hold
    marks[#marks + 1] = chosen[i]
  end
  redis.call('ZADD', KEYS[3], unpack(marks))
end
if hold > 0 then
  redis.call('SET', KEYS[6], string.format('%.0f ', now + hold) .. table.concat(chosen, ' '), 'PX', hold)
end
return chosen
