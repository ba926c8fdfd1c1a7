// A certified OpenID provider on loopback, with a person who signs in and agrees to everything. It is there a second time over
// TLS, with the certificates of the directory that is named: see secure.mjs.
// Prints its issuers in one line when both are ready.
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';
import { secure } from './secure.mjs';

const server = createServer();
await new Promise((ready) => server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', ready));
const issuer = `http://127.0.0.1:${server.address().port}`;

// The public halves of the tests' keys: PKCS#1 for RS256; for ES256, of the private key in PKCS#8.
const der = (name) => Buffer.from(readFileSync(new URL(`../data/google/${name}.b64`, import.meta.url), 'utf8'), 'base64');
const keys = [
  [createPublicKey({ key: der('public_key'), format: 'der', type: 'pkcs1' }), 'RS256', 'rs-1'],
  [createPublicKey({ key: `-----BEGIN PRIVATE KEY-----\n${der('ec_private_key').toString('base64')}\n-----END PRIVATE KEY-----\n` }), 'ES256', 'es-1'],
];
const signing = (alg) => ({
  client_id: `signing-${alg}`,
  token_endpoint_auth_method: 'private_key_jwt',
  token_endpoint_auth_signing_alg: alg,
  jwks: { keys: keys.filter((key) => key[1] === alg).map(([key, alg, kid]) => ({ ...key.export({ format: 'jwk' }), alg, kid, use: 'sig' })) },
  redirect_uris: [],
  grant_types: ['client_credentials'],
  response_types: [],
  scope: 'read',
});

// For ID tokens and userinfo: keys of each kind, and newer ones after each rotation.
const kinds = {
  RS256: ['rsa', { modulusLength: 2048 }],
  PS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  ES384: ['ec', { namedCurve: 'P-384' }],
  EdDSA: ['ed25519', {}],
};
const generation = (number) =>
  Object.entries(kinds).map(([alg, [type, options]]) => ({
    ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }),
    alg,
    use: 'sig',
    kid: `${alg}-${number}`,
  }));
const algorithms = [...Object.keys(kinds), 'HS256'];
const openid = (alg) => ({
  client_id: `openid-${alg}`,
  client_secret: 'the secret of a client, longer than 32 bytes',
  application_type: 'native',
  token_endpoint_auth_method: 'client_secret_basic',
  redirect_uris: ['http://127.0.0.1/callback'],
  post_logout_redirect_uris: ['http://127.0.0.1/signed-out'],
  grant_types: ['authorization_code'],
  response_types: ['code'],
  id_token_signed_response_alg: alg,
  ...(alg in kinds ? { userinfo_signed_response_alg: alg } : {}),
  backchannel_logout_uri: `${issuer}/seen/${alg}`,
  backchannel_logout_session_required: true,
});

let jwks = generation(1);
const settings = () => ({
  jwks: { keys: jwks },
  // Unless told, it sends no logout token to this machine.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  enabledJWA: { idTokenSigningAlgValues: algorithms, userinfoSigningAlgValues: algorithms },
  clients: [
    {
      client_id: 'native-app',
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      redirect_uris: ['http://127.0.0.1/', 'http://localhost/'], // any port (RFC 8252, section 7.3)
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      response_types: ['code'],
    },
    {
      client_id: 'batch',
      client_secret: 'a secret of: letters+signs %20/~',
      token_endpoint_auth_method: 'client_secret_basic',
      redirect_uris: [],
      grant_types: ['client_credentials'],
      response_types: [],
      scope: 'read',
    },
    signing('RS256'),
    signing('ES256'),
    ...algorithms.map(openid),
  ],
  scopes: ['openid', 'offline_access', 'email', 'read'],
  claims: { openid: ['sub'], email: ['email', 'email_verified'] },
  conformIdTokenClaims: false,
  findAccount: (_, accountId) => ({
    accountId,
    claims: () => ({ sub: accountId, email: `${accountId}@example.com`, email_verified: true }),
  }),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
    backchannelLogout: { enabled: true },
    jwtUserinfo: { enabled: true },
  },
  rotateRefreshToken: true,
  interactions: { url: (_, interaction) => `/agree/${interaction.uid}` },
  cookies: { keys: ['only for this run'] },
  ttl: { AccessToken: 600, ClientCredentials: 600, IdToken: 600, RefreshToken: 86400, Session: 600, Interaction: 600, Grant: 86400 },
});

/// Says what went wrong, for those who read why a run failed.
function watch(provider) {
  provider.on('server_error', (_, error) => console.error(error));
  const places = ['grant', 'pushed_authorization_request', 'authorization', 'userinfo', 'revocation', 'backchannel_authentication', 'registration_create', 'registration_update'];
  for (const name of places.map((place) => `${place}.error`)) {
    provider.on(name, (_, error) => console.error(name, error.error, error.error_detail ?? error.error_description));
  }
  provider.on('backchannel.error', (_, error) => console.error(error));
}

let provider, serve;
// What it remembers is kept by the process, and outlives a provider.
function start() {
  provider = new Provider(issuer, settings());
  watch(provider);
  serve = provider.callback();
}
start();

let number = 1;
const seen = new Map();
/// Newer keys, with the old ones or without; and what a client was sent when a session ended.
async function extra(request, response) {
  if (request.url.startsWith('/rotate/')) {
    jwks = [...generation(++number), ...(request.url === '/rotate/keep' ? jwks : [])];
    start();
  } else if (request.method === 'POST') {
    const parts = [];
    for await (const part of request) parts.push(part);
    seen.set(request.url, Buffer.concat(parts).toString());
  }
  response.end(request.method === 'GET' ? (seen.get(request.url) ?? '') : '');
}

/// What a person would do on the pages for signing in and for consent.
async function agree(provider, request, response) {
  try {
    await answer(provider, request, response);
  } catch (error) {
    console.error(error);
    response.writeHead(500).end();
  }
}

async function answer(provider, request, response) {
  const { prompt, params, session } = await provider.interactionDetails(request, response);
  if (params.login_hint === 'nobody') {
    return provider.interactionFinished(request, response, { error: 'access_denied', error_description: 'the person said no' });
  }
  if (prompt.name === 'login') {
    return provider.interactionFinished(request, response, { login: { accountId: params.login_hint ?? 'alice' } });
  }
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  for (const detail of JSON.parse(params.authorization_details ?? '[]')) grant.addRar(detail);
  const result = { consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

server.on('request', (request, response) => {
  if (/^\/(seen|rotate)\//.test(request.url)) return extra(request, response);
  if (!request.url.startsWith('/agree/')) return serve(request, response);
  return agree(provider, request, response);
});
const [key, alg, kid] = keys[1];
const second = await secure(process.argv[2], { settings, agree, watch, key: { ...key.export({ format: 'jwk' }), alg, kid, use: 'sig' } });
console.log(issuer, second);
