'use strict';
// What both Node peers share: settings, who somebody is, where providers are, jobs, and one process per core.
// Only how users are reached differs: each server gives `send(users, name, data)` and `free(provider)`, which tells all processes
// that he is on no job any more.

// The Redis client is node-redis: Redis' own and Socket.IO's documents start with it, and it sends the commands of one turn of the loop
// together without being asked to, which is kind to `usual`; ioredis does so only as an option.

const cluster = require('node:cluster');
const http = require('node:http');
const { randomUUID } = require('node:crypto');
const jwt = require('jsonwebtoken');
const { createClient } = require('redis');

const { PEER_PORT, PEER_SECRET, PEER_REDIS, PEER_PREFIX, PEER_VARIANT, PEER_WORKERS } = process.env;
const BEST = PEER_VARIANT === 'best';
const GEO = `${PEER_PREFIX}:providers`;
const TICK_MS = 200; // as often as ours carries positions to Redis
const CHUNK = 500; // positions in one command, as ours
const NEAR_M = 3000;
const FAR_M = 50000;

// Nanoseconds of CLOCK_MONOTONIC, the clock of the load generator too; a string, since it does not fit into a double.
const now = () => process.hrtime.bigint().toString();

// The user of an `Authorization` header or a bare token. Throws.
function userOf(header) {
  const claims = jwt.verify(String(header).replace(/^Bearer /, ''), PEER_SECRET, { algorithms: ['HS256'] });
  return { id: claims.sub, role: claims.role };
}

async function connect() {
  const redis = createClient({ socket: { path: PEER_REDIS } });
  redis.on('error', (error) => console.error(error));
  await redis.connect();
  return redis;
}

// Where providers are. `usual`: a command for each position; `best`: the newest of each, together, every tick.
class Positions {
  constructor(redis) {
    this.redis = redis;
    this.newest = new Map();
    if (BEST) setInterval(() => this.flush(), TICK_MS);
  }

  put(member, latitude, longitude) {
    if (BEST) this.newest.set(member, { member, latitude, longitude });
    else this.redis.geoAdd(GEO, { member, latitude, longitude }).catch(console.error);
  }

  flush() {
    if (this.newest.size === 0) return;
    const all = [...this.newest.values()];
    this.newest.clear();
    for (let at = 0; at < all.length; at += CHUNK) {
      this.redis.geoAdd(GEO, all.slice(at, at + CHUNK)).catch(console.error);
    }
  }
}

// Jobs live in Redis: a hash each, and a key that only one provider can set.
class Jobs {
  constructor(redis, send, free) {
    this.redis = redis;
    this.send = send;
    this.free = free;
  }

  async nearest({ latitude, longitude }, count) {
    for (const radius of [NEAR_M, FAR_M]) {
      const found = await this.redis.geoSearch(GEO, { latitude, longitude }, { radius, unit: 'm' }, { SORT: 'ASC', COUNT: count });
      if (found.length >= count || radius === FAR_M) return found;
    }
  }

  async create(customer, { pickup, wave }) {
    const id = randomUUID();
    const providers = await this.nearest({ latitude: pickup.lat, longitude: pickup.lng }, wave);
    await this.redis.hSet(`${PEER_PREFIX}:job:${id}`, { customer, lat: pickup.lat, lng: pickup.lng, status: 'offered' });
    const stamp = now();
    const offer_id = randomUUID();
    const expires_at = new Date(Date.now() + 15000).toISOString();
    const job = {
      id, service_type: 'ride', status: 'offered', pickup, payment_method: 'cashless',
      estimated_earnings: { amount_minor: 12500, currency: 'THB' }, surge_pct: 100, passenger_name: 'Somchai',
    };
    const offer = { offer_id, round: 1, expires_at, job };
    if (BEST) this.send(providers, 'offer.created', offer);
    else for (const provider of providers) this.send([provider], 'offer.created', offer);
    return { id, offer_id, providers, stamp };
  }

  // The customer's id for whoever was first, null for all others.
  async accept(provider, id) {
    const first = await this.redis.set(`${PEER_PREFIX}:winner:${id}`, provider, { condition: 'NX', expiration: { type: 'EX', value: 3600 } });
    if (first === null) return null;
    const customer = await this.redis.hGet(`${PEER_PREFIX}:job:${id}`, 'customer');
    if (!customer) return null; // cancelled
    await this.redis.hSet(`${PEER_PREFIX}:job:${id}`, { status: 'accepted', provider });
    this.send([customer], 'job.accepted', { job: { id, provider } });
    return customer;
  }

  async cancel(id) {
    const provider = await this.redis.get(`${PEER_PREFIX}:winner:${id}`);
    if (provider !== null) this.free(provider);
    return this.redis.del([`${PEER_PREFIX}:job:${id}`, `${PEER_PREFIX}:winner:${id}`]);
  }
}

// What a provider's socket may say. `state` lives with the socket: {user, job, customer}.
class Desk {
  constructor(positions, jobs, send) {
    this.positions = positions;
    this.jobs = jobs;
    this.send = send;
    this.tracked = new Map();
    this.states = new Map();
    if (BEST) setInterval(() => this.tell(), TICK_MS);
  }

  seat(user) {
    const state = { user };
    this.states.set(user.id, state);
    return state;
  }

  leave(state) {
    if (this.states.get(state.user.id) === state) this.states.delete(state.user.id);
  }

  freed(provider) {
    const state = this.states.get(provider);
    if (state !== undefined) state.job = state.customer = undefined;
  }

  location(state, { lat, lng, at }) {
    if (!(Math.abs(lat) <= 90 && Math.abs(lng) <= 180)) return;
    this.positions.put(state.user.id, lat, lng);
    if (!state.customer) return;
    if (BEST) this.tracked.set(state.customer, { job_id: state.job, lat, lng, at });
    else this.send([state.customer], 'location', { job_id: state.job, lat, lng, at });
  }

  tell() {
    for (const [customer, place] of this.tracked) this.send([customer], 'location', place);
    this.tracked.clear();
  }

  async accept(state, { id, job_id }) {
    const customer = await this.jobs.accept(state.user.id, job_id);
    if (customer !== null) Object.assign(state, { job: job_id, customer });
    return { id, ok: customer !== null };
  }
}

async function body(request) {
  let text = '';
  for await (const part of request) text += part;
  return JSON.parse(text);
}

function api(jobs) {
  return http.createServer(async (request, response) => {
    const answer = (status, value) => {
      response.writeHead(status, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify(value));
    };
    try {
      const user = userOf(request.headers.authorization);
      const [, , id, verb] = request.url.split('/');
      if (request.method !== 'POST') answer(404, {});
      else if (verb === 'cancel') answer(200, { cancelled: await jobs().cancel(id) });
      else answer(201, await jobs().create(user.id, await body(request)));
    } catch (error) {
      answer(error.name === 'JsonWebTokenError' ? 401 : 500, { error: String(error) });
    }
  });
}

// PEER_WORKERS processes on one port; `serve` is run in each of them. Says "ready" when all listen.
function start(serve) {
  if (!cluster.isPrimary) return void serve(Number(PEER_PORT));
  const workers = Number(PEER_WORKERS);
  let listening = 0;
  cluster.on('listening', (_, { port }) => {
    listening += 1;
    if (listening === workers) console.log(`ready: http://127.0.0.1:${port}`);
  });
  cluster.on('exit', () => process.exit(1));
  for (let number = 0; number < workers; number += 1) cluster.fork();
}

module.exports = { BEST, Desk, Jobs, PEER_PREFIX, Positions, api, connect, start, userOf };
