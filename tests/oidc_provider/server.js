// An OpenID provider whose refresh tokens rotate: one that is used twice revokes its login.
//
// It listens on a free port of 127.0.0.1 and prints its address. Besides the provider's own routes it has:
//   POST /logins    makes a login, and answers what google-auth's user credentials are made of
//   GET  /counts    how many requests the token endpoint has answered, and how many logins were revoked
//   POST /hold      holds the next answer of the token endpoint: the refresh token has rotated by then
//   GET  /held      answers as soon as an answer is held
//   POST /release   sends it
// It ends with its standard input.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';

import { Provider } from 'oidc-provider';

const CLIENT = { client_id: 'service', client_secret: randomUUID() };
const SCOPE = 'openid offline_access';

const server = http.createServer().listen(0, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;

const key = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
const provider = new Provider(issuer, {
  clients: [
    {
      ...CLIENT,
      grant_types: ['authorization_code', 'refresh_token'],
      redirect_uris: ['https://client.example.com/callback'],
      token_endpoint_auth_method: 'client_secret_post',
    },
  ],
  cookies: { keys: [randomUUID()] },
  features: { devInteractions: { enabled: false } },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  jwks: { keys: [{ ...key, use: 'sig' }] },
  rotateRefreshToken: true,
  ttl: { AccessToken: 3600, Grant: 86400, IdToken: 3600, RefreshToken: 86400 },
});

const counts = { answered: 0, revoked: 0 };
provider.on('grant.revoked', () => { counts.revoked += 1; });

async function login() {
  const client = await provider.Client.find(CLIENT.client_id);
  const accountId = randomUUID();
  const grant = new provider.Grant({ accountId, clientId: client.clientId });
  grant.addOIDCScope(SCOPE);
  const grantId = await grant.save();
  const token = new provider.RefreshToken({ accountId, client, grantId, gty: 'authorization_code', scope: SCOPE });
  return { ...CLIENT, refresh_token: await token.save(), token_uri: `${issuer}/token` };
}

let gate = null;

function newGate() {
  gate = {};
  gate.held = new Promise((resolve) => { gate.arrive = resolve; });
  gate.released = new Promise((resolve) => { gate.release = resolve; });
  gate.used = false;
}

async function passGate() {
  if (gate === null || gate.used) return;
  gate.used = true;
  gate.arrive();
  await gate.released;
}

const routes = {
  'POST /logins': login,
  'GET /counts': () => counts,
  'POST /hold': newGate,
  'GET /held': () => gate.held,
  'POST /release': () => gate.release(),
};

provider.use(async (ctx, next) => {
  const route = routes[`${ctx.method} ${ctx.path}`];
  if (route !== undefined) {
    ctx.body = (await route()) ?? {};
    return;
  }
  await next();
  if (ctx.path === '/token') {
    counts.answered += 1;
    await passGate();
  }
});

server.on('request', provider.callback());
process.stdin.resume().on('end', () => process.exit());
console.log(issuer);
