--[[
  near: the nearest free providers, and a short hold on them so that jobs of one instant do not all pick the same. A search that holds
  keeps its answer for as long, and asked again, because a reply was lost, it gives that one and holds nobody else.
  KEYS[1] free      geo set       {market}:geo:<service>
  KEYS[2] seen      sorted set    {market}:seen      provider -> last fix, ms
  KEYS[3] reserved  sorted set    {market}:reserved  provider -> held until, ms
  KEYS[4] radii     hash          {market}:radii     provider -> service radius, m
  KEYS[5] search    string        {market}:search:<id>  until when it holds, and its answer; TTL as the hold. Only where it holds
  ARGV[1] lng  ARGV[2] lat
  ARGV[3] wanted: how many
  ARGV[4] largest radius, m
  ARGV[5] now_ms  ARGV[6] fresh_ms: older fixes do not count
  ARGV[7] hold_ms: reserve those found for so long; 0 looks only, and past reservations; below 0 looks only, and heeds those of so long
  ARGV[8] the place as the geo set scores it: a geohash of 52 bits
  ARGV[9] also: how many more to tell of, whom it does not hold: so many free ones behind the wanted, and so many who were passed over
          because another search holds them, if they are among the nearest wanted + also + 2 on the map beside those left out; 0: none
  ARGV[10..] providers left out
  returns three flat lists of provider, distance in whole metres, nearest first: the wanted, those behind, those passed over
]]
local hold = tonumber(ARGV[7])
if hold > 0 then
  local held_before = redis.call('GET', KEYS[5])
  if held_before then
    local answer, part = {{}, {}, {}}, 0
    for word in string.gmatch(held_before, '[^ ]+') do
      if part == 0 or word == '|' then
        part = part + 1
      else
        local list = answer[part]
        list[#list + 1] = #list % 2 == 1 and tonumber(word) or word
      end
    end
    return answer
  end
end
local full, largest, now = 2 * tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local also = 2 * tonumber(ARGV[9])
-- A hold that lasts longer than any that is made here was made by a clock that ran ahead: it would hide him for as long.
local oldest, longest = now - tonumber(ARGV[6]), now + math.max(2 * math.abs(hold), 60000)
local judged = {}
for i = 10, #ARGV do judged[ARGV[i]] = true end

-- GEOSEARCH costs what lies inside the radius. How many stand in the smallest cell of the geohash around the place that has enough of
-- them says how far to look for half as many again; a unit of the score is 0.168 m² at the equator. A wrong guess costs time only.
local count = full / 2 + also / 2 + #ARGV - 9 + 2
local here, radius, each = tonumber(ARGV[8]), largest, 0
for step = 10, 18, 2 do
  local size = 4 ^ step
  local first = here - here % size
  local within = redis.call('ZCOUNT', KEYS[1], first, first + size - 1)
  if within >= count then
    each = size / within * 0.168 / math.pi * math.cos(math.rad(tonumber(ARGV[2])))
    radius = math.min(largest, math.sqrt((1.4 * count + 4) * each))
    break
  end
end

local chosen, behind, passed = {}, {}, {}
-- Who is wanted is looked for everywhere; of others it tells among those nearest on the map only, so many as it asks for first: nobody is
-- looked for a second time for the sake of an explanation.
local told_of = count
local telling = also > 0
local function enough() return #chosen == full and (not telling or #behind == also) end
local function judge(names, metres, held)
  local fixes = redis.call('ZMSCORE', KEYS[2], unpack(names))
  local radii = redis.call('HMGET', KEYS[4], unpack(names))
  for i = 1, #names do
    local fix, own, distance = fixes[i], radii[i], tonumber(metres[i])
    if fix and tonumber(fix) >= oldest and not (own and distance > tonumber(own)) then
      local list, most = chosen, full
      if held[names[i]] then
        list, most = passed, also
      elseif #chosen == full then
        list, most = behind, also
      end
      if #list < most then
        list[#list + 1] = names[i]
        list[#list + 1] = math.floor(distance + 0.5)
        if enough() then return end
      end
    end
  end
end
local function unheld(names, metres)
  local holds = redis.call('ZMSCORE', KEYS[3], unpack(names))
  local free, away, held = {}, {}, {}
  for i = 1, #names do
    local until_ms = holds[i] and tonumber(holds[i])
    if until_ms and until_ms > now and until_ms <= longest then
      held[names[i]] = true
    else
      free[#free + 1], away[#away + 1] = names[i], metres[i]
    end
  end
  if telling then return names, metres, held end
  return free, away, held
end

while true do
  local found = redis.call('GEOSEARCH', KEYS[1], 'FROMLONLAT', ARGV[1], ARGV[2], 'BYRADIUS', radius, 'm', 'ASC', 'COUNT', count, 'WITHDIST')
  local names, metres = {}, {}
  for i, row in ipairs(found) do
    -- Whoever was judged in a round before is not asked about again.
    if not judged[row[1]] then
      names[#names + 1], metres[#names + 1] = row[1], row[2]
    end
    -- By pieces: most often the first of them are enough, and Lua passes no more than some thousand words.
    if #names > 0 and (#names == 200 or i == told_of or i == #found) then
      local held = {}
      if hold ~= 0 then names, metres, held = unheld(names, metres) end
      if #names > 0 then judge(names, metres, held) end
      names, metres = {}, {}
    end
    if i == told_of then telling = false end
    if enough() then break end
  end
  if enough() then break end
  for _, row in ipairs(found) do judged[row[1]] = true end
  -- A look that holds nobody is a quote or a drawing: no customer's question may cost as much as a whole city.
  if hold == 0 and #found >= 2000 then break end
  if #found == count then
    count = count * 3
    radius = math.min(largest, math.max(radius, math.sqrt(1.3 * count * each)))
  elseif radius < largest then
    radius = math.min(radius * 2, largest)
  else
    break
  end
end
if hold > 0 then
  if #chosen > 0 then
    local marks = {}
    for i = 1, #chosen, 2 do
      marks[i], marks[i + 1] = now + hold, chosen[i]
    end
    redis.call('ZADD', KEYS[3], unpack(marks))
  end
  local words = {string.format('%.0f', now + hold), table.concat(chosen, ' '), '|', table.concat(behind, ' '), '|', table.concat(passed, ' ')}
  redis.call('SET', KEYS[5], table.concat(words, ' '), 'PX', hold)
end
return {chosen, behind, passed}
