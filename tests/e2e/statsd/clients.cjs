// SPDX-License-Identifier: Apache-2.0
//
// node clients.cjs CLIENT PROTOCOL PORT ROUNDS, in a folder with node_modules: sends the same metrics so many times by a client that people use.
'use strict';
Math.random = () => 0; // a sampled metric is always sent, with its rate
const [client, protocol, port, rounds] = process.argv.slice(2);
const { createRequire } = require('node:module');
const load = createRequire(process.cwd() + '/');

function hotShots() {
  const StatsD = load('hot-shots');
  const statsd = new StatsD({
    host: '127.0.0.1', port: Number(port), protocol, prefix: 'hot.', maxBufferSize: 1000, bufferFlushInterval: 5, globalTags: { env: 'test' },
    errorHandler: (error) => { console.error(error); process.exit(1); },
  });
  for (let i = 0; i < Number(rounds); i++) {
    statsd.increment('hits');
    statsd.increment('hits', 4, ['b:2', 'a:1']);
    statsd.increment('sampled', 3, 0.1);
    statsd.decrement('down');
    statsd.gauge('level', i);
    statsd.gaugeDelta('delta', i % 2 ? -1 : 3);
    statsd.timing('wait', 1.5 + i);
    statsd.histogram('size', 10 + i);
    statsd.set('users', `user-${i % 10}`);
    statsd.distribution('dist', 1);
    statsd.event('deploy', 'done');
    statsd.check('up', statsd.CHECKS.OK);
  }
  return new Promise((resolve) => statsd.close(resolve));
}

function nodeStatsd() {
  const StatsD = load('node-statsd');
  const statsd = new StatsD({ host: '127.0.0.1', port: Number(port), prefix: 'old.' });
  let left = 0;
  return new Promise((resolve) => {
    const sent = () => { if (--left === 0) { statsd.close(); resolve(); } };
    const send = (call) => { left++; call(sent); };
    for (let i = 0; i < Number(rounds); i++) {
      send((done) => statsd.increment('hits', 1, undefined, undefined, done));
      send((done) => statsd.increment('hits', 4, 1, ['b:2', 'a:1'], done));
      send((done) => statsd.increment('sampled', 3, 0.1, undefined, done));
      send((done) => statsd.gauge('level', i, undefined, undefined, done));
      send((done) => statsd.timing('wait', 1.5 + i, undefined, undefined, done));
      send((done) => statsd.histogram('size', 10 + i, undefined, undefined, done));
      send((done) => statsd.set('users', `user-${i % 10}`, undefined, undefined, done));
    }
  });
}

(client === 'hot-shots' ? hotShots() : nodeStatsd()).then(() => process.exit(0));
