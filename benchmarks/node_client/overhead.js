// What a token costs in Node: metadata by hand beside google-auth-library's call credentials. It is told on
// standard input, as JSON, where the server is and what to do; it answers with the seconds per RPC of each turn.
'use strict';

const fs = require('node:fs');
const grpc = require('@grpc/grpc-js');
const {OAuth2Client} = require('google-auth-library');

const told = JSON.parse(fs.readFileSync(0, 'utf8'));
const PATH = '/aio_authgrpc.benchmarks.Echo/Echo';
const PAYLOAD = Buffer.alloc(32, 'x');
const same = (bytes) => bytes;

function contender(credentials, metadata) {
  const client = new grpc.Client(told.target, credentials);
  return () => new Promise((resolve, reject) => {
    client.makeUnaryRequest(PATH, same, same, PAYLOAD, metadata, (error, answer) => {
      if (error) reject(error); else resolve(answer);
    });
  });
}

function contenders() {
  const trusted = grpc.credentials.createSsl(Buffer.from(told.ca_pem));
  const byHand = new grpc.Metadata();
  byHand.set('authorization', `Bearer ${told.token}`);
  const login = new OAuth2Client();
  login.setCredentials({access_token: told.token, expiry_date: Date.now() + 3600 * 1000});
  const called = grpc.credentials.combineChannelCredentials(
    trusted, grpc.credentials.createFromGoogleCredential(login));
  return {
    'plain': contender(trusted, byHand),
    'plain again': contender(trusted, byHand),
    'google-auth-library': contender(called, new grpc.Metadata()),
  };
}

const MODES = {
  sequential: async (call, rpcs) => {
    for (let done = 0; done < rpcs; done++) await call();
  },
  wide: async (call, rpcs) => {
    let left = rpcs;
    const again = async () => { while (left-- > 0) await call(); };
    await Promise.all(Array.from({length: told.wide}, again));
  },
};

async function measure(mode, call, rpcs) {
  const cpu = process.cpuUsage();
  const start = process.hrtime.bigint();
  await MODES[mode](call, rpcs);
  const wall = Number(process.hrtime.bigint() - start) / 1e9;
  const {user, system} = process.cpuUsage(cpu);
  return {cpu: (user + system) / 1e6 / rpcs, wall: wall / rpcs};
}

function shuffled(names) {
  return names.map((name) => [Math.random(), name]).sort(([a], [b]) => a - b).map(([, name]) => name);
}

async function main() {
  const calls = contenders();
  const turns = {};
  for (const [mode, rpcs] of Object.entries(told.modes)) {
    turns[mode] = Object.fromEntries(Object.keys(calls).map((name) => [name, []]));
    // The first turns compile, and are not counted.
    for (let round = -2; round < told.rounds; round++) {
      for (const name of shuffled(Object.keys(calls))) {
        const cost = await measure(mode, calls[name], rpcs);
        if (round >= 0) turns[mode][name].push(cost);
      }
    }
  }
  process.stdout.write(JSON.stringify({node: process.version, turns}), () => process.exit(0));
}

main();
