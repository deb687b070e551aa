--[[
  unlist_silent: take providers off a market whose last fix is too old: those of a worker that died. A living one lists them again.
  KEYS[1] seen      sorted set  {market}:seen
  KEYS[2] reserved  sorted set  {market}:reserved
  KEYS[3] radii     hash        {market}:radii
  KEYS[4] owners    hash        {market}:pres
  KEYS[5..] geo sets            {market}:geo:<service>
  ARGV[1] oldest_ms: fixes before this are silence  ARGV[2] how many at most
  returns how many were taken off
]]
local silent = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
if #silent == 0 then
  return 0
end
redis.call('ZREM', KEYS[1], unpack(silent))
redis.call('ZREM', KEYS[2], unpack(silent))
redis.call('HDEL', KEYS[3], unpack(silent))
redis.call('HDEL', KEYS[4], unpack(silent))
for i = 5, #KEYS do
  redis.call('ZREM', KEYS[i], unpack(silent))
end
return #silent
