--[[
  hold: hold providers who are about to be offered something, but for those whom another search holds. It keeps its answer for as
  long, and asked again, because a reply was lost, it gives that one.
  KEYS[1] reserved  sorted set  {market}:reserved  provider -> held until, ms
  KEYS[2] search    string      {market}:search:<id>  its answer; TTL as the hold
  ARGV[1] now_ms  ARGV[2] hold_ms
  ARGV[3..] providers
  returns those whom somebody else holds
]]
local held_before = redis.call('GET', KEYS[2])
local others = {}
if held_before then
  for word in string.gmatch(held_before, '[^ ]+') do others[#others + 1] = word end
  table.remove(others, 1)
  return others
end
local now, ttl = tonumber(ARGV[1]), tonumber(ARGV[2])
for i = 3, #ARGV do
  local held = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or nil)
  -- One that lasts longer than any that is made here was made by a clock that ran ahead, as in near.
  if held and held > now and held <= now + math.max(2 * ttl, 60000) then
    others[#others + 1] = ARGV[i]
  else
    redis.call('ZADD', KEYS[1], now + ttl, ARGV[i])
  end
end
redis.call('SET', KEYS[2], 'others ' .. table.concat(others, ' '), 'PX', ttl)
return others
