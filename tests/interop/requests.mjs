// What a provider needs for requests that nobody can forge, for what they ask in detail, for clients that register themselves,
// and for sign-ins without a browser. It tells what it has seen of each client, and with an interval between two questions.
import { errors } from 'oidc-provider';

/// What people who are asked without a browser will decide, by the client: after its first question, or a while before its ping.
const undecided = new Map();
const ACCOUNT = 'DE40100100103307118608';
const asked = (ctx) => JSON.parse(ctx.oidc.params.authorization_details ?? 'null');

export const features = {
  pushedAuthorizationRequests: { enabled: true },
  requestObjects: { enabled: true },
  jwtResponseModes: { enabled: true },
  registration: { enabled: true, initialAccessToken: 'an-initial-access-token' },
  registrationManagement: { enabled: true, rotateRegistrationAccessToken: true },
  richAuthorizationRequests: {
    enabled: true,
    types: Object.fromEntries(['payment_initiation', 'account_information'].map((type) => [type, { validate() {} }])),
    // The person says which account; a request for a token may ask for some of it.
    authorizationDetailsForGrantSource: (ctx) => asked(ctx)?.map((detail) => ({ ...detail, account: ACCOUNT })),
    authorizationDetailsForAccessToken: (ctx, _, source) => {
      const types = asked(ctx)?.map((detail) => detail.type);
      return source.rar?.filter((detail) => types?.includes(detail.type) ?? true);
    },
    authorizationDetailsForIntrospection: (_, token) => token.rar,
  },
  // Without a resource it takes no details.
  resourceIndicators: { enabled: true, getResourceServerInfo: () => ({ scope: 'read' }) },
  ciba: {
    enabled: true,
    deliveryModes: ['poll', 'ping'],
    processLoginHint: (_, hint) => (['alice', 'nobody'].includes(hint) ? hint : undefined),
    processLoginHintToken: (_, token) => (token === 'the token of alice' ? 'alice' : undefined),
    verifyUserCode() {},
    validateRequestContext() {},
    async triggerAuthenticationDevice({ oidc: { provider } }, request, { accountId }, { clientId, backchannelTokenDeliveryMode }) {
      const decide = async () => {
        if (accountId === 'nobody') return provider.backchannelResult(request, new errors.AccessDenied(undefined, 'the person said no'));
        const grant = new provider.Grant({ accountId, clientId });
        grant.addOIDCScope(request.scope);
        return provider.backchannelResult(request, await grant.save());
      };
      if (backchannelTokenDeliveryMode === 'ping') setTimeout(() => decide().catch((error) => console.error(error)), 300);
      else undecided.set(clientId, decide);
    },
  },
};

/// Notes what clients send to this provider, and returns what tells it: for `/seen/` and a client's id.
export function record(provider) {
  const seen = new Map();
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.body?.auth_req_id) ctx.body.interval = 1;
    const { route, client, body, trusted, params } = ctx.oidc ?? {};
    if (!client) return;
    const sent = Object.keys(body ?? ctx.query);
    if (ctx.body?.error === 'authorization_pending') await undecided.get(client.clientId)();
    const all = seen.get(client.clientId) ?? [];
    seen.set(client.clientId, [...all, { route, sent, trusted: trusted ?? [], understood: { ...params } }]);
  });
  return (request, response) => response.end(JSON.stringify(seen.get(request.url.split('/').pop()) ?? []));
}
