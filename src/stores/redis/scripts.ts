import { TOKEN_OFFSET } from '../record.ts';

/** What runs inside the server, as one step that nothing comes between. Numbers go back as text: a number of Lua's would be cut to whole ones of 53 bits by way of the protocol. */
export interface Scripts {
  /** Writes a record unless what lies there has a greater token; 1 or 0. */
  inferkvPut(key: string, value: Buffer, token: Buffer, ttlMs: string): Promise<unknown>;
  /** The base of the epochs, made if there was none; made anew, above the greatest number seen, if it is still the one that is to be replaced. */
  inferkvBase(numbers: string, wallUs: string, replaced: string, greatest: string): Promise<unknown>;
  /** Raises epochs and writes them to the stream. */
  inferkvBump(
    numbers: string,
    stream: string,
    wallUs: string,
    backlog: number,
    ...scopes: readonly string[]
  ): Promise<unknown>;
  /** The same, where memory is full: Redis 7 and later lets a script say that it may. */
  inferkvBumpFull(
    numbers: string,
    stream: string,
    wallUs: string,
    backlog: number,
    ...scopes: readonly string[]
  ): Promise<unknown>;
  /** A token, or null while another has the right. */
  inferkvAcquire(key: string, ttlMs: number, keepMs: number): Promise<unknown>;
  /** 1 if the right was had. */
  inferkvRenew(key: string, token: string, ttlMs: number, keepMs: number): Promise<unknown>;
  inferkvRelease(key: string, token: string): Promise<unknown>;
}

/** Microseconds since 1970 by the server's clock: 51 bits, a safe integer for 200 years. */
const NOW_US = `local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]`;

// Bytes are compared one by one: Lua compares texts by the server's locale, and numbers lose what is beyond 53 bits.
const PUT = `
local old = redis.call('GETRANGE', KEYS[1], ${TOKEN_OFFSET}, ${TOKEN_OFFSET + 7})
if #old == 8 then
  for at = 1, 8 do
    local theirs, ours = old:byte(at), ARGV[2]:byte(at)
    if theirs > ours then return 0 end
    if theirs < ours then break end
  end
end
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[1]) else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3]) end
return 1`;

// The later of two clocks: that of the server may have been set back since numbers were given, and that of a client, too.
const BASE = `
${NOW_US}
now = math.max(now, tonumber(ARGV[1]))
local base = redis.call('HGET', KEYS[1], 'base')
if base and base ~= ARGV[2] then return base end
base = string.format('%.0f', math.max(now, tonumber(base or '0') + 1, tonumber(ARGV[3]) + 1))
redis.call('HSET', KEYS[1], 'base', base)
return base`;

// Each entry of the stream has a number one more than that before it, by which subscribers see that one is missing.
const BUMP = `
${NOW_US}
local base = redis.call('HGET', KEYS[1], 'base')
if not base then
  base = string.format('%.0f', math.max(now, tonumber(ARGV[1])))
  redis.call('HSET', KEYS[1], 'base', base)
end
local raised = {}
for at = 3, #ARGV do
  local field = 's:' .. ARGV[at]
  local epoch = math.max(tonumber(redis.call('HGET', KEYS[1], field) or '0'), tonumber(base)) + 1
  raised[at - 2] = string.format('%.0f', epoch)
  redis.call('HSET', KEYS[1], field, raised[at - 2])
  local number = redis.call('HINCRBY', KEYS[1], 'told', 1)
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'n', number, 's', ARGV[at], 'e', raised[at - 2])
end
return raised`;

// A right that lasts longer than it was given for was given before the clock was set back: it is over.
const ACQUIRE = `
${NOW_US}
local last = redis.call('HMGET', KEYS[1], 'token', 'until', 'ttl')
if last[2] then
  local left = tonumber(last[2]) - now
  if left > 0 and left <= tonumber(last[3]) * 1000 then return false end
end
local token = string.format('%.0f', math.max(tonumber(last[1] or '0') + 1, now))
redis.call('HSET', KEYS[1], 'token', token, 'until', string.format('%.0f', now + ARGV[1] * 1000), 'ttl', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return token`;

const RENEW = `
${NOW_US}
local last = redis.call('HMGET', KEYS[1], 'token', 'until')
if last[1] ~= ARGV[1] or not last[2] or tonumber(last[2]) <= now then return 0 end
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + ARGV[2] * 1000), 'ttl', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1`;

// The token stays, so that the next is greater.
const RELEASE = `
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
return redis.call('HDEL', KEYS[1], 'until')`;

/** The scripts by the names of their methods, as ioredis takes them. */
export const SCRIPTS: Record<keyof Scripts, { lua: string; numberOfKeys: number }> = {
  inferkvPut: { lua: PUT, numberOfKeys: 1 },
  inferkvBase: { lua: BASE, numberOfKeys: 1 },
  inferkvBump: { lua: BUMP, numberOfKeys: 2 },
  inferkvBumpFull: { lua: `#!lua flags=allow-oom\n${BUMP}`, numberOfKeys: 2 },
  inferkvAcquire: { lua: ACQUIRE, numberOfKeys: 1 },
  inferkvRenew: { lua: RENEW, numberOfKeys: 1 },
  inferkvRelease: { lua: RELEASE, numberOfKeys: 1 },
};
