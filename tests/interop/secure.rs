//! Clients that authenticate by keys and certificates, and tokens that are bound to them: over TLS, with a test authority.

use std::path::Path;
use std::sync::Arc;

use grantflow::crypto::{Algorithm, SigningKey};
use grantflow::machine::Identity;
use grantflow::source::{Credential, Want};
use grantflow::{
    AuthorizationRequest, Client, ClientAuthentication, Discovery, DpopKey, Error, Issuer, Revocation, ServerMetadata,
    Token, TokenRequest, TokenType, UserInfo,
};
use grantflow_tests::kms::Es256;
use grantflow_tests::secure::{Authority, Certificate};
use grantflow_ureq::grantflow_store::MemoryStore;

use super::openid::{Browser, SECRET};
use super::{Adapter, Async, Done, check, step};

/// Where nobody is.
pub(super) const NATIVE: &str = "http://127.0.0.1:9/callback";
pub(super) const WEB: &str = "https://127.0.0.1:9/callback";

/// Writes what the server and its clients show: each by its name, `.pem` and `.key`.
pub(crate) fn write_certificates(directory: &Path) -> Done {
    let authority = Authority::new("an authority of tests");
    let all = [
        ("authority", authority.certificate().clone()),
        ("localhost", authority.signs("localhost")),
        ("client", authority.signs("client.example")),
        ("other", authority.signs("other.example")),
        ("self-signed", Certificate::self_signed("client.example")),
    ];
    for (name, Certificate { pem, key }) in all {
        std::fs::write(directory.join(name).with_extension("pem"), pem)?;
        std::fs::write(directory.join(name).with_extension("key"), key)?;
    }
    Ok(())
}

/// What both adapters can do besides.
pub(crate) trait Secure: Adapter + Sized {
    fn trusting(authority: &str) -> Result<Self, Box<dyn std::error::Error>>;
    /// With a store of its own.
    fn with_store(&self) -> Result<Self, Box<dyn std::error::Error>>;
    /// The status of a request with a token of this credential, by a client that presents this certificate or none.
    fn get(
        &self,
        url: &str,
        credential: Credential,
        identity: Option<&Identity>,
    ) -> Result<u16, Box<dyn std::error::Error>>;
}

impl Secure for grantflow_ureq::Transport {
    fn trusting(authority: &str) -> Result<Self, Box<dyn std::error::Error>> {
        Ok(Self::builder().root_certificate_pem(authority.as_bytes()).build()?)
    }
    fn with_store(&self) -> Result<Self, Box<dyn std::error::Error>> {
        Ok(self.with_store(MemoryStore::new()))
    }
    fn get(
        &self,
        url: &str,
        credential: Credential,
        identity: Option<&Identity>,
    ) -> Result<u16, Box<dyn std::error::Error>> {
        let agent = identity.map_or_else(|| self.agent(), |identity| self.agent_presenting(identity))?;
        let tokens = grantflow_ureq::TokenManager::new(self, credential, Want::default());
        let api = grantflow_ureq::AuthorizedAgent::new(agent, tokens, [host(url)]);
        Ok(api.run(http::Request::get(url).body(())?)?.status().as_u16())
    }
}

impl Secure for Async {
    fn trusting(authority: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let transport = grantflow_reqwest::Transport::builder().root_certificate_pem(authority.as_bytes()).build()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self(transport, runtime?))
    }
    fn with_store(&self) -> Result<Self, Box<dyn std::error::Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self(self.0.with_store(MemoryStore::new()), runtime?))
    }
    fn get(
        &self,
        url: &str,
        credential: Credential,
        identity: Option<&Identity>,
    ) -> Result<u16, Box<dyn std::error::Error>> {
        self.1.block_on(async {
            let tokens = grantflow_reqwest::TokenManager::new(&self.0, credential, Want::default());
            let api = match identity {
                Some(identity) => {
                    grantflow_reqwest::AuthorizedClient::presenting(tokens, [host(url)], identity).await?
                }
                None => grantflow_reqwest::AuthorizedClient::new(tokens, [host(url)])?,
            };
            Ok(api.send(api.get(url)).await?.status().as_u16())
        })
    }
}

/// Host and port.
fn host(url: &str) -> String {
    url.split('/').nth(2).unwrap_or_default().to_owned()
}

/// What the parts have in common.
pub(super) struct Place<'a, A> {
    pub(super) adapter: &'a A,
    pub(super) server: ServerMetadata,
    client: Identity,
    other: Identity,
    self_signed: Identity,
    pub(super) browser: Arc<Browser>,
}

pub(crate) fn suite<A: Secure + Sync>(name: &str, issuer: &Issuer, directory: &Path) -> Done {
    let step = |what: &str| step(name, what);
    let read = |name: &str| std::fs::read_to_string(directory.join(name));
    let identity = |name: &str| -> Result<Identity, Box<dyn std::error::Error>> {
        Ok(Identity::pem(&read(&format!("{name}.pem"))?, read(&format!("{name}.key"))?))
    };
    let adapter = &A::trusting(&read("authority.pem")?)?;
    let place = Place {
        adapter,
        server: adapter.run(Discovery::new(issuer))?,
        client: identity("client")?,
        other: identity("other")?,
        self_signed: identity("self-signed")?,
        browser: Arc::new(Browser::trusting(&format!("{name}-secure"), directory.join("authority.pem"))),
    };
    place.authentications()?;
    step("client_secret_jwt, private_key_jwt, tls_client_auth and self_signed_tls_client_auth; others are refused");
    place.dpop()?;
    step("DPoP: a code, refresh tokens and tokens bound to a key, with nonces of the server and of its resource");
    place.certificates()?;
    step("tokens bound to a certificate, of no use with another");
    place.fapi()?;
    step("the FAPI 2.0 Security Profile: {private_key_jwt, mTLS} x {DPoP, mTLS}");
    place.requests(step)
}

impl<A: Secure> Place<'_, A> {
    pub(super) fn run<M: grantflow::Machine + Send>(&self, machine: M) -> Result<M::Output, Error>
    where
        M::Output: Send,
    {
        self.adapter.run(machine)
    }

    fn sign_in(&self, client: &Client, callback: &str) -> Result<Token, Error> {
        let request = AuthorizationRequest::new(&self.server, client, callback);
        let request = request.scopes("openid offline_access").prompt("consent").login_hint("alice");
        let authorization = self.run(request.start())?;
        let (_, redirect) = self.browser.curl(&[&authorization.url]).unwrap_or_default();
        self.run(authorization.pending.finish(client, &redirect))
    }

    fn refresh(&self, client: &Client, token: &Token) -> Result<Token, Error> {
        self.run(TokenRequest::refresh(&self.server, client, token)?.exchange())
    }

    /// The status of the resource.
    fn resource(&self, credential: Credential, identity: Option<&Identity>) -> Result<u16, Box<dyn std::error::Error>> {
        let server = match identity {
            Some(_) => self.server.with_mtls_endpoint_aliases()?,
            None => self.server.clone(),
        };
        self.adapter.get(server.userinfo()?.as_str(), credential, identity)
    }

    pub(super) fn key(&self) -> Result<DpopKey, Error> {
        Ok(SigningKey::generate(Algorithm::ES256, &mut self.adapter.cx()?)?.into())
    }

    /// Each client gets a token, and has it revoked; by another key or certificate it does neither.
    fn authentications(&self) -> Done {
        use ClientAuthentication as By;
        let another = SigningKey::generate(Algorithm::ES256, &mut self.adapter.cx()?)?;
        for (id, right, wrong) in [
            ("secret-jwt", By::client_secret_jwt(SECRET), By::client_secret_jwt(format!("not {SECRET}"))),
            ("key-jwt", By::private_key_jwt(Es256::default()), By::private_key_jwt(another)),
            ("certified", By::tls_client_auth(self.client.clone()), By::tls_client_auth(self.other.clone())),
            (
                "self-signed",
                By::self_signed_tls_client_auth(self.self_signed.clone()),
                By::self_signed_tls_client_auth(self.client.clone()),
            ),
        ] {
            let [client, wrong] = [right, wrong].map(|method| Client::new(id).authentication(method));
            let token = self.run(TokenRequest::client_credentials(&self.server, &client)?.scopes("read").exchange())?;
            self.run(Revocation::new(&self.server, &client, &token.access_token().into())?.exchange())?;
            for refused in [
                self.run(TokenRequest::client_credentials(&self.server, &wrong)?.exchange()).map(drop),
                self.run(Revocation::new(&self.server, &wrong, &token.access_token().into())?.exchange()).map(drop),
            ] {
                let error = refused.err().ok_or("another key or certificate is taken")?;
                check(error.server().is_some_and(|it| it.error() == "invalid_client"), &format!("{id}: {error}"))?;
            }
        }
        Ok(())
    }

    /// A public client, whose refresh tokens are bound too.
    fn dpop(&self) -> Done {
        let [client, other] = [self.key()?, self.key()?].map(|key| Client::new("public").dpop(key));
        let token = self.sign_in(&client, NATIVE)?;
        check(*token.token_type() == TokenType::DPoP, "the token is bound")?;
        let claims = self.run(UserInfo::new(&self.server, &token)?.exchange())?;
        check(claims.str("sub") == Some("alice"), "the resource knows alice")?;
        let error = self.refresh(&other, &token).err().ok_or("another key refreshes")?;
        check(error.server().is_some_and(|it| it.error() == "invalid_grant"), &format!("another key: {error}"))?;
        let token = self.refresh(&client, &token)?;
        let credential = Credential::signed_in(self.server.clone(), &client, &token)?;
        check(self.resource(credential, None)? == 200, "requests prove the key")
    }

    /// Each pair of authentication and binding, where both sides are held to the profile.
    fn fapi(&self) -> Done {
        use ClientAuthentication as By;
        for (name, binding) in [("key", "dpop"), ("key", "mtls"), ("certificate", "dpop"), ("certificate", "mtls")] {
            let client = Client::new(format!("fapi-{name}-{binding}"));
            let client = match binding {
                "dpop" => client.dpop(self.key()?),
                _ => client.identity(self.client.clone()),
            };
            let method = match name {
                "key" => By::private_key_jwt(Es256::default()),
                _ => By::tls_client_auth(self.client.clone()),
            };
            let held = client.clone().authentication(method).fapi2_security_profile(&self.server)?;
            let token = self.sign_in(&held, WEB)?;
            let token = self.refresh(&held, &token)?;
            check(token.dpop_key().is_some() == (binding == "dpop"), "the token is bound")?;
            let identity = (binding == "mtls").then_some(&self.client);
            check(self.resource(Credential::fixed(token.clone()), identity)? == 200, "the resource knows alice")?;
            if name == "key" {
                // The server is held to it too: elsewhere it takes this audience.
                let method = By::private_key_jwt_with_legacy_audience(Es256::default(), self.server.token()?.as_str());
                let legacy = client.registered_at(self.server.issuer().clone()).authentication(method);
                let error = self.refresh(&legacy, &token).err().ok_or("another audience is taken")?;
                check(error.server().is_some_and(|it| it.error() == "invalid_client"), &format!("{error}"))?;
            }
        }
        Ok(())
    }

    fn certificates(&self) -> Done {
        let client = Client::new("public-certified").identity(self.client.clone());
        let token = self.sign_in(&client, NATIVE)?;
        let wrong = Client::new("public-certified").identity(self.other.clone());
        let error = self.refresh(&wrong, &token).err().ok_or("another certificate refreshes")?;
        check(
            error.server().is_some_and(|it| it.error() == "invalid_grant"),
            &format!("another certificate: {error}"),
        )?;
        let token = self.refresh(&client, &token)?;
        for (identity, status) in [(Some(&self.client), 200), (Some(&self.other), 401), (None, 401)] {
            let found = self.resource(Credential::fixed(token.clone()), identity)?;
            check(found == status, &format!("the resource answers {found}, not {status}"))?;
        }
        let claims = self.run(UserInfo::new(&self.server, &token)?.identity(self.client.clone()).exchange())?;
        check(claims.str("sub") == Some("alice"), "the resource knows alice")
    }
}
