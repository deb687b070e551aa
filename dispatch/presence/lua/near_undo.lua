--[[
  near_undo: end the holds of a search whose answer reached nobody, and let it hold nobody if it is still to come.
  KEYS[1] reserved  sorted set    {market}:reserved  provider -> held until, ms
  KEYS[2] search    string        {market}:search:<id>  until when it holds, and its answer
  ARGV[1] ttl_ms: for so long the search finds nobody
  returns how many were let go; holds of others, which came later, stay
]]
local held_before = redis.call('GET', KEYS[2])
local gone = 0
if held_before then
  local words = {}
  for word in string.gmatch(held_before, '[^ ]+') do
    -- Whoever comes now it has told of and not held: if he is held for as long, another search does it.
    if word == '|' then break end
    words[#words + 1] = word
  end
  for i = 2, #words, 2 do
    if tonumber(redis.call('ZSCORE', KEYS[1], words[i]) or nil) == tonumber(words[1]) then
      gone = gone + redis.call('ZREM', KEYS[1], words[i])
    end
  end
end
redis.call('SET', KEYS[2], '0', 'PX', ARGV[1])
return gone
