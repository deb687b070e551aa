'use strict';
// Peer (b): Socket.IO with its Redis adapter. A room for each user; the adapter carries what is emitted to all processes.

const { Server } = require('socket.io');
const { createAdapter } = require('@socket.io/redis-adapter');
const { Desk, Jobs, PEER_PREFIX, Positions, api, connect, start, userOf } = require('./dispatch');

async function serve(port) {
  const redis = await connect();
  const [pub, sub] = [await connect(), await connect()];
  let jobs;
  const server = api(() => jobs);
  const io = new Server(server, { transports: ['websocket'], adapter: createAdapter(pub, sub, { key: PEER_PREFIX }) });

  const send = (users, name, data) => io.to(users).emit(name, data);
  const free = (provider) => {
    desk.freed(provider);
    io.serverSideEmit('free', provider); // reaches the other processes
  };
  jobs = new Jobs(redis, send, free);
  const desk = new Desk(new Positions(redis), jobs, send);
  io.on('free', (provider) => desk.freed(provider));

  io.use((socket, next) => {
    try {
      socket.data.user = userOf(socket.handshake.auth.token);
      next();
    } catch {
      next(new Error('unauthorized'));
    }
  });
  io.on('connection', (socket) => {
    const state = desk.seat(socket.data.user);
    socket.join(state.user.id);
    socket.on('location', (frame) => desk.location(state, frame));
    socket.on('accept', async (frame) => socket.emit('reply', await desk.accept(state, frame)));
    socket.on('disconnect', () => desk.leave(state));
    socket.emit('welcome');
  });

  server.listen(port, '127.0.0.1');
}

start(serve);
