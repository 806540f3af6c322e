/** What Redis does in one step, in Lua. Numbers go as text, as Lua's own cannot be returned past 32 bits of fraction. */

/** Writes a record unless what lies there has a greater token. KEYS record; ARGV token (8 bytes), record, ttl in ms or ''. */
export const PUT_FENCED = `
local old = redis.call('GETRANGE', KEYS[1], 48, 55)
if #old == 8 then
  for at = 1, 8 do
    local a, b = string.byte(old, at), string.byte(ARGV[1], at)
    if a > b then return 0 end
    if a < b then break end
  end
end
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1`;

/** Raises epochs, and notes each down in the log with a number that tells whether one is missing. KEYS epochs, log; ARGV now, length of the log, scopes. */
export const BUMP_EPOCHS = `
local base = redis.call('HGET', KEYS[1], 'base')
if not base then
  base = ARGV[1]
  redis.call('HSET', KEYS[1], 'base', base)
end
local raised = {}
for at = 3, #ARGV do
  local field = 's:' .. ARGV[at]
  local epoch = string.format('%.0f', tonumber(redis.call('HGET', KEYS[1], field) or base) + 1)
  redis.call('HSET', KEYS[1], field, epoch)
  local number = redis.call('HINCRBY', KEYS[1], 'number', 1)
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'scope', ARGV[at], 'epoch', epoch, 'number', number)
  raised[#raised + 1] = epoch
end
return raised`;

/** Epochs as they are. KEYS epochs; ARGV now, scopes. */
export const READ_EPOCHS = `
local base = redis.call('HGET', KEYS[1], 'base')
if not base then
  base = ARGV[1]
  redis.call('HSET', KEYS[1], 'base', base)
end
local epochs = {}
for at = 2, #ARGV do
  epochs[#epochs + 1] = redis.call('HGET', KEYS[1], 's:' .. ARGV[at]) or base
end
return epochs`;

/** Where the log stands: number and id of its last entry. KEYS epochs, log. */
export const LOG_STATE = `
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
return { redis.call('HGET', KEYS[1], 'number') or '0', last[1] and last[1][1] or '0-0' }`;

/** Grants a right that nobody has. KEYS right, last token; ARGV now, ttl in ms. */
export const ACQUIRE = `
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
local token = tonumber(redis.call('GET', KEYS[2]) or '0') + 1
if token < tonumber(ARGV[1]) then token = tonumber(ARGV[1]) end
token = string.format('%.0f', token)
redis.call('SET', KEYS[2], token)
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
return token`;

/** KEYS right; ARGV token, ttl in ms. */
export const RENEW = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])`;

/** KEYS right; ARGV token. */
export const RELEASE = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`;
