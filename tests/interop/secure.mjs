// The provider once more at https://localhost, for clients that authenticate by keys and certificates, and for tokens that are
// bound to them. At a second port it asks for a certificate: there are its `mtls_endpoint_aliases`. Every proof of a key must
// hold its nonce. The clients whose names begin with `fapi-` are held to the FAPI 2.0 Security Profile. See requests.mjs too.
import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join } from 'node:path';
import Provider from 'oidc-provider';
import * as requests from './requests.mjs';

const CALLBACK = 'https://127.0.0.1:9/callback';
const AUTHENTICATIONS = ['none', 'client_secret_basic', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth', 'self_signed_tls_client_auth'];

/// Starts it with the certificates of this directory, and returns its issuer. `key` is the public key that clients sign by.
export async function secure(directory, { settings, key, agree, watch }) {
  const read = (name) => readFileSync(join(directory, name));
  const tls = { cert: read('localhost.pem'), key: read('localhost.key') };
  const [plain, asking] = [createServer(tls), createServer({ ...tls, ca: read('authority.pem'), requestCert: true, rejectUnauthorized: false })];
  const listen = async (server) => {
    await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
    return `https://localhost:${server.address().port}`;
  };
  const [issuer, mtls] = [await listen(plain), await listen(asking)];

  const jwks = { keys: [key] };
  const own = new X509Certificate(read('self-signed.pem'));
  const known = {
    ...own.publicKey.export({ format: 'jwk' }),
    use: 'sig',
    x5c: [own.raw.toString('base64')],
    'x5t#S256': createHash('sha256').update(own.raw).digest('base64url'),
  };
  const certified = { token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_san_dns: 'client.example' };
  const batch = (client) => ({ redirect_uris: [], response_types: [], grant_types: ['client_credentials'], scope: 'read', ...client });
  const person = (client) => ({
    redirect_uris: [CALLBACK],
    response_types: ['code'],
    grant_types: ['authorization_code', 'refresh_token'],
    ...client,
  });
  const byKey = { token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: 'ES256', jwks };
  const bound = { dpop: { dpop_bound_access_tokens: true }, mtls: { tls_client_certificate_bound_access_tokens: true } };
  const fapi = (name, authentication, binding) =>
    person({
      client_id: `fapi-${name}-${binding}`,
      id_token_signed_response_alg: 'ES256',
      require_pushed_authorization_requests: true,
      ...authentication,
      ...bound[binding],
    });

  const base = settings();
  const provider = new Provider(issuer, {
    ...base,
    // A client's address for pings is https by the standard: here TLS ends before it.
    fetch: (url, options) => base.fetch(url.replace(/^https:/, 'http:'), options),
    clientAuthMethods: AUTHENTICATIONS,
    clients: [
      batch({ client_id: 'secret-jwt', client_secret: 'the secret of a client, longer than 32 bytes', token_endpoint_auth_method: 'client_secret_jwt' }),
      batch({ client_id: 'key-jwt', ...byKey }),
      batch({ client_id: 'certified', ...certified, ...bound.mtls }),
      batch({ client_id: 'self-signed', token_endpoint_auth_method: 'self_signed_tls_client_auth', jwks: { keys: [known] }, ...bound.mtls }),
      person({ client_id: 'public', application_type: 'native', redirect_uris: ['http://127.0.0.1/callback'], token_endpoint_auth_method: 'none', ...bound.dpop }),
      person({ client_id: 'public-certified', application_type: 'native', redirect_uris: ['http://127.0.0.1/callback'], token_endpoint_auth_method: 'none', ...bound.mtls }),
      ...['dpop', 'mtls'].flatMap((binding) => [fapi('key', byKey, binding), fapi('certificate', certified, binding)]),
      { ...fapi('signing', byKey, 'dpop'), require_signed_request_object: true, authorization_signed_response_alg: 'ES256' },
    ],
    discovery: {
      mtls_endpoint_aliases: {
        token_endpoint: `${mtls}/token`,
        revocation_endpoint: `${mtls}/token/revocation`,
        userinfo_endpoint: `${mtls}/me`,
        pushed_authorization_request_endpoint: `${mtls}/request`,
      },
    },
    features: {
      ...base.features,
      ...requests.features,
      jwtUserinfo: { enabled: false },
      dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
      fapi: { enabled: true, profile: (_, client) => (client?.clientId.startsWith('fapi-') ? '2.0' : undefined) },
      mTLS: {
        enabled: true,
        certificateBoundAccessTokens: true,
        selfSignedTlsClientAuth: true,
        tlsClientAuth: true,
        getCertificate: (ctx) => ctx.socket.getPeerX509Certificate?.(),
        certificateAuthorized: (ctx) => ctx.socket.authorized,
        certificateSubjectMatches: (ctx, property, expected) =>
          property === 'tls_client_auth_san_dns' && ctx.socket.getPeerX509Certificate().checkHost(expected, { subject: 'never' }) === expected,
      },
    },
  });
  watch(provider);
  const seen = requests.record(provider);
  const serve = provider.callback();
  for (const server of [plain, asking]) {
    server.on('request', (request, response) => {
      if (request.url.startsWith('/seen/')) return seen(request, response);
      return request.url.startsWith('/agree/') ? agree(provider, request, response) : serve(request, response);
    });
  }
  return issuer;
}
