--[[
  unlist: take a provider off a market, if the connection that asks is the one that listed him. Asking again is safe.
  KEYS[1] owners    hash        {market}:pres  provider -> connection
  KEYS[2] seen      sorted set  {market}:seen
  KEYS[3] reserved  sorted set  {market}:reserved
  KEYS[4] radii     hash        {market}:radii
  KEYS[5..] geo sets            {market}:geo:<service>
  ARGV[1] provider  ARGV[2] connection
  returns 1 taken off | 0 another connection has listed him since
]]
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
for i = 5, #KEYS do
  redis.call('ZREM', KEYS[i], ARGV[1])
end
return 1
