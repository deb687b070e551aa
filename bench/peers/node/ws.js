'use strict';
// Peer (a): `ws` with Redis. A frame for a user of another process goes through one Redis channel that all processes hear.

const { WebSocketServer } = require('ws');
const { Desk, Jobs, PEER_PREFIX, Positions, api, connect, start, userOf } = require('./dispatch');

const CHANNEL = `${PEER_PREFIX}:frames`;
const PING_MS = 25000;

async function serve(port) {
  const redis = await connect();
  const ear = await connect();
  const sockets = new Map();

  const here = (user, text) => {
    const socket = sockets.get(user);
    if (socket === undefined) return false;
    socket.send(text);
    return true;
  };
  const send = (users, name, data) => {
    const text = JSON.stringify({ type: name, data });
    const elsewhere = users.filter((user) => !here(user, text));
    if (elsewhere.length > 0) redis.publish(CHANNEL, JSON.stringify({ to: elsewhere, text })).catch(console.error);
  };
  const free = (provider) => redis.publish(CHANNEL, JSON.stringify({ free: provider })).catch(console.error);
  const jobs = new Jobs(redis, send, free);
  const desk = new Desk(new Positions(redis), jobs, send);
  await ear.subscribe(CHANNEL, (message) => {
    const { to, text, free: provider } = JSON.parse(message);
    if (provider !== undefined) desk.freed(provider);
    else for (const user of to) here(user, text);
  });
  const server = api(() => jobs);
  const wss = new WebSocketServer({ noServer: true });

  server.on('upgrade', (request, socket, head) => {
    let user;
    try {
      user = userOf(request.headers.authorization);
    } catch {
      socket.end('HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\r\n');
      return;
    }
    wss.handleUpgrade(request, socket, head, (ws) => wss.emit('connection', ws, user));
  });

  wss.on('connection', (ws, user) => {
    const state = desk.seat(user);
    sockets.set(user.id, ws);
    ws.alive = true;
    ws.on('pong', () => { ws.alive = true; });
    ws.on('close', () => {
      desk.leave(state);
      if (sockets.get(user.id) === ws) sockets.delete(user.id);
    });
    ws.on('error', () => ws.terminate());
    ws.on('message', async (data) => {
      let frame;
      try {
        frame = JSON.parse(data);
      } catch {
        return;
      }
      if (frame.type === 'location') desk.location(state, frame);
      else if (frame.type === 'accept') ws.send(JSON.stringify({ type: 'reply', data: await desk.accept(state, frame) }));
    });
    ws.send('{"type":"welcome"}');
  });

  setInterval(() => {
    for (const ws of wss.clients) {
      if (!ws.alive) {
        ws.terminate();
        continue;
      }
      ws.alive = false;
      ws.ping();
    }
  }, PING_MS);

  server.listen(port, '127.0.0.1');
}

start(serve);
