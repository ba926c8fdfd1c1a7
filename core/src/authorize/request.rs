//! The authorization request (RFC 6749, section 4.1.1), and what is drawn and written for it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::redirect_uri::check_redirect_uri;
use super::way::{Steps, Way};
use super::{PendingAuthorization, VERSION};
use crate::client::{CERTIFICATE_BOUND, SignedBy, check_algorithm, lacks};
use crate::exchange::{is_reserved, push_encoded};
use crate::grant::{check_details, check_resource};
use crate::jose::{JwtSigner, SignInTerms};
use crate::pkce::{check_verifier, random_text, s256};
use crate::{Client, Cx, Endpoint, Error, Scopes, Secret, ServerMetadata, Shown};

/// How long an authorization may take by default.
const LIFETIME: Duration = Duration::from_secs(600);

/// An authorization request, from which the URL for the user's browser is made. It always has PKCE with S256 and a
/// `state`, and a `nonce` if the scope `openid` is asked for.
///
/// ```
/// use grantflow::{AuthorizationRequest, Client, Issuer, ServerMetadata};
///
/// let server = ServerMetadata::new(Issuer::new("https://as.example")?)
///     .authorization_endpoint("https://as.example/authorize")?
///     .token_endpoint("https://as.example/token")?;
/// let client = Client::new("web-app");
/// # fn run<M: grantflow::Machine>(mut machine: M) -> Result<M::Output, grantflow::Error> {
/// #     let mut cx = grantflow::Cx::new(grantflow::Now::default(), [7; 32]);
/// #     match machine.resume(&mut cx, grantflow::Reply::Start) { grantflow::Step::Done(result) => result, _ => panic!() }
/// # }
/// let machine = AuthorizationRequest::new(&server, &client, "https://app.example/callback")
///     .scopes(["openid", "email"])
///     .prompt("consent")
///     .start();
/// let authorization = run(machine)?; // by an adapter's transport or a driver of your own
/// assert!(authorization.url.starts_with("https://as.example/authorize?response_type=code&"));
/// // Send the user to `authorization.url`, keep `authorization.pending` in their session.
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct AuthorizationRequest {
    pub(super) server: ServerMetadata,
    pub(super) client: Client,
    redirect_uri: Arc<str>,
    scopes: Scopes,
    code_verifier: Option<Secret>,
    pub(super) plain: bool,
    /// How the user must have signed in.
    pub(super) terms: SignInTerms,
    /// Whether the signature of the ID token is checked.
    pub(super) verifies: bool,
    resources: Vec<Box<str>>,
    lifetime: Duration,
    pub(super) extras: Vec<(String, String)>,
    /// What signs it, if it is a request object.
    pub(super) signer: Option<JwtSigner>,
    /// Whether it is left at the server before the user is sent.
    pub(super) pushed: bool,
    error: Option<Error>,
}

/// Shows of the extra parameters only the names: a hint says who the user is.
impl fmt::Debug for AuthorizationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extras: Vec<_> = self.extras.iter().map(|(name, _)| Shown::name(name)).collect();
        f.debug_struct("AuthorizationRequest")
            .field("server", &self.server)
            .field("client", &self.client)
            .field("redirect_uri", &Shown::name(&self.redirect_uri))
            .field("scopes", &self.scopes)
            .field("extras", &extras)
            .finish_non_exhaustive()
    }
}

impl AuthorizationRequest {
    /// A request of `client`. The user comes back to `redirect_uri`, which must be registered at the server: https,
    /// http on a loopback host, or a private scheme with a dot in it (RFC 8252, section 7).
    pub fn new(server: &ServerMetadata, client: &Client, redirect_uri: impl Into<Arc<str>>) -> Self {
        Self {
            server: server.clone(),
            client: client.clone(),
            redirect_uri: redirect_uri.into(),
            scopes: Scopes::default(),
            code_verifier: None,
            plain: false,
            terms: SignInTerms::default(),
            verifies: false,
            resources: Vec::new(),
            lifetime: LIFETIME,
            extras: Vec::new(),
            signer: None,
            pushed: false,
            error: None,
        }
    }

    /// Asks for these scopes (RFC 6749, section 3.3).
    pub fn scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.scopes = scopes.into();
        self
    }

    /// Asks for these scopes too.
    pub(super) fn add_scopes(mut self, more: &Scopes) -> Self {
        self.scopes = self.scopes.iter().chain(more.iter().filter(|it| !self.scopes.contains(it))).collect();
        self
    }

    /// `access_type`: `offline` gets a refresh token from Google.
    pub fn access_type(self, access_type: &str) -> Self {
        self.extra("access_type", access_type)
    }

    /// `include_granted_scopes`: the token is to cover the scopes that were granted to Google web clients before.
    pub fn include_granted_scopes(self, include: bool) -> Self {
        self.extra("include_granted_scopes", if include { "true" } else { "false" })
    }

    /// `hd`: the Google Workspace domain to offer accounts of. Check the ID token's `hd` afterwards.
    pub fn hd(self, domain: &str) -> Self {
        self.extra("hd", domain)
    }

    /// `resource`: the address of the protected resource that the token is for; may be called several times
    /// (RFC 8707, section 2.1). The token request names the same resources, unless
    /// [`FinishAuthorization::resource`](super::FinishAuthorization::resource) says otherwise.
    pub fn resource(mut self, resource: &str) -> Self {
        if let Err(error) = check_resource(resource) {
            self.error.get_or_insert(error);
        }
        self.resources.push(resource.into());
        self
    }

    /// `authorization_details`: what is asked for in detail, as an array of objects with a `type` each (RFC 9396,
    /// section 2); beside scopes, or in their place.
    /// [`Token::authorization_details`](crate::Token::authorization_details) tells what was granted, which may be less,
    /// or more. [Push](Self::push) long ones.
    pub fn authorization_details(self, details: &Value) -> Self {
        self.details_text(&details.to_string())
    }

    fn details_text(mut self, details: &str) -> Self {
        match check_details(details) {
            Ok(()) => {
                self.set("authorization_details", details);
                self
            }
            Err(error) => self.fail_with(error),
        }
    }

    /// Sets any other parameter. Of two values the later one holds, and an empty value removes the parameter.
    /// Parameters that make the flow safe cannot be set by this. `max_age`, `acr_values`, `claims`, `id_token_hint` and
    /// `resource` do what the setters of these names do.
    pub fn extra(mut self, name: &str, value: &str) -> Self {
        match (name, value.parse()) {
            ("resource", _) if !value.is_empty() => return self.resource(value),
            ("resource", _) => self.resources.clear(),
            ("max_age", _) if value.is_empty() => self.terms.max_age = None,
            ("acr_values" | "claims" | "id_token_hint", _) if value.is_empty() => self.withdraw(name),
            ("acr_values", _) => return self.acr_values(value.split_whitespace()),
            ("claims", _) => return self.claims_text(value),
            ("authorization_details", _) if !value.is_empty() => return self.details_text(value),
            ("id_token_hint", _) => return self.id_token_hint_text(value),
            ("max_age", Ok(seconds)) => return self.max_age(Duration::from_secs(seconds)),
            // What comes in a fragment never reaches the redirect URI, and other modes cannot be read.
            ("response_mode", _)
                if !["", "query", "form_post", "jwt", "query.jwt", "form_post.jwt"].contains(&value) =>
            {
                return self.fail("a response_mode other than query and form_post, signed or not, cannot be received");
            }
            ("max_age", Err(_)) => return self.fail("max_age is no whole number of seconds"),
            _ => {}
        }
        if is_reserved(name) || matches!(name, "scope" | "request" | "request_uri") {
            return self.fail(format!("the parameter {} cannot be set as an extra one", Shown::name(name)));
        }
        // RFC 6749, section 8.2.
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
            return self.fail("the name of a parameter holds more than letters, digits and -._");
        }
        self.set(name, value);
        self
    }

    /// Sets a parameter, or removes it.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.extras.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.extras.push((name.to_owned(), value.to_owned()));
        }
    }

    /// A parameter that was set.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.extras.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn fail(self, why: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        self.fail_with(Error::config(why))
    }

    pub(super) fn fail_with(mut self, error: Error) -> Self {
        self.error.get_or_insert(error);
        self
    }

    /// Sets the `code_verifier` (RFC 7636, section 4.1: 43 to 128 letters, digits or `-._~`), in place of a random one.
    /// It must be good for this one request only.
    pub fn code_verifier(mut self, verifier: impl Into<Secret>) -> Self {
        self.code_verifier = Some(verifier.into());
        self
    }

    /// Sends the verifier itself as the challenge (`plain`), which protects less. It is only for servers that cannot do
    /// S256.
    pub fn plain_code_challenge(mut self) -> Self {
        self.plain = true;
        self
    }

    /// Sets how long the user may take; 10 minutes by default.
    pub fn lifetime(mut self, time: Duration) -> Self {
        self.lifetime = time;
        self
    }

    /// Checks all of it, draws what nobody may guess, and writes the request in the way that it goes: once, since what is
    /// remembered is taken out of it.
    #[inline]
    pub(super) fn begin(&mut self, cx: &mut Cx) -> Result<(Way, PendingAuthorization), Error> {
        let Self { server, client, redirect_uri, scopes, error, .. } = &*self;
        error.clone().map_or(Ok(()), Err)?;
        client.check_issuer(server.issuer())?;
        client.check_dpop(server)?;
        self.check_profile()?;
        client.check()?;
        check_redirect_uri(redirect_uri)?;
        scopes.check()?;
        self.check_prompt()?;
        if server.lacks_code_challenge_method(self.plain) {
            let method = self.code_challenge_method();
            return Err(Error::config(format!("the server does not know the PKCE method {method}")));
        }
        let code_verifier = match &self.code_verifier {
            Some(verifier) => check_verifier(verifier)?.clone(),
            None => random_text(cx, "pkce verifier")?,
        };
        let state = random_text(cx, "state")?;
        let nonce = if scopes.contains("openid") { Some(random_text(cx, "nonce")?) } else { None };
        let way = self.way(&Drawn { state: &state, code_verifier: &code_verifier, nonce: nonce.as_ref() }, cx)?;
        let jwks_uri = if self.verifies { self.keys()? } else { None };
        let mode = self.get("response_mode").unwrap_or_default();
        let form_post = matches!(mode, "form_post" | "form_post.jwt");
        let answer_keys = if mode.ends_with("jwt") { Some(server.jwks()?.clone()) } else { None };
        let pending = PendingAuthorization {
            version: VERSION,
            state,
            nonce,
            code_verifier,
            issuer: server.issuer().clone(),
            issuer_aliases: server.issuer_aliases(),
            iss_required: server.promises_iss(),
            token_endpoint: client.endpoints_of(server)?.token()?.clone(),
            client_id: client.shared_id(),
            dpop_jkt: client.dpop_key().map(|key| key.thumbprint().into()),
            certificate_bound: client.presents().is_some() && server.says(CERTIFICATE_BOUND),
            rotation: server.rotation(),
            tolerated: server.tolerated(),
            redirect_uri: redirect_uri.clone(),
            scopes: std::mem::take(&mut self.scopes),
            terms: std::mem::take(&mut self.terms),
            jwks_uri,
            answer_keys,
            form_post,
            resources: std::mem::take(&mut self.resources),
            made_at: cx.now().wall,
            lifetime: self.lifetime,
            url_expires_at: None,
        };
        Ok((way, pending))
    }

    /// What the client's profile demands of its request and its server, if it has one.
    fn check_profile(&self) -> Result<(), Error> {
        self.client.check_profile(&self.server)?;
        match self.signer.as_ref().and_then(JwtSigner::algorithm) {
            _ if !self.client.is_fapi() => Ok(()),
            _ if self.plain => Err(lacks("PKCE is by S256, and not plain")),
            None if self.client.signs_messages() => {
                Err(lacks("each authorization request is signed: see AuthorizationRequest::sign"))
            }
            _ if self.client.signs_messages() && !self.get("response_mode").is_some_and(|it| it.ends_with("jwt")) => {
                Err(lacks("each authorization answer is signed: see AuthorizationRequest::signed_response"))
            }
            Some(algorithm) => check_algorithm("request objects", algorithm),
            None => Ok(()),
        }
    }

    /// Where the keys are that the ID token is verified by; nowhere, if it is by the client's secret.
    fn keys(&self) -> Result<Option<Endpoint>, Error> {
        match self.client.id_tokens().signed {
            Some(SignedBy::Secret(_)) => Ok(None),
            _ => self.server.jwks().cloned().map(Some),
        }
    }

    fn code_challenge_method(&self) -> &'static str {
        if self.plain { "plain" } else { "S256" }
    }

    /// The address of the authorization endpoint, up to its first parameter.
    pub(super) fn address(&self, room: usize) -> Result<String, Error> {
        let endpoint = self.server.authorization()?.as_str();
        let mut url = String::with_capacity(endpoint.len().saturating_add(room));
        url.push_str(endpoint);
        url.push_str(if endpoint.as_bytes().contains(&b'?') { "&" } else { "?" });
        Ok(url)
    }

    /// The URL with all parameters: those of [`parameters`](Self::parameters), with what is known of each, since it is
    /// the plain request that is made most.
    fn url(&self, drawn: &Drawn<'_>) -> Result<String, Error> {
        let Self { client, redirect_uri, scopes, .. } = self;
        let mut digest = [0; 43];
        let challenge = self.challenge(drawn, &mut digest);
        let room = redirect_uri.len().saturating_add(scopes.as_str().len()).saturating_add(512);
        let mut url = self.address(room)?;
        url.push_str("response_type=code&client_id=");
        url.push_str(client.encoded_id());
        url.push_str("&redirect_uri=");
        push_encoded(&mut url, redirect_uri);
        if !scopes.is_empty() {
            url.push_str("&scope=");
            push_encoded(&mut url, scopes.as_str());
        }
        let method = self.code_challenge_method();
        for part in ["&state=", drawn.state.expose(), "&code_challenge=", challenge, "&code_challenge_method=", method]
        {
            url.push_str(part);
        }
        if let Some(nonce) = drawn.nonce {
            url.push_str("&nonce=");
            url.push_str(nonce.expose());
        }
        if let Some(key) = client.dpop_key() {
            url.push_str("&dpop_jkt=");
            url.push_str(key.thumbprint());
        }
        if let Some(seconds) = self.terms.max_age {
            url.push_str("&max_age=");
            url.push_str(&seconds.to_string());
        }
        for resource in &self.resources {
            url.push_str("&resource=");
            push_encoded(&mut url, resource);
        }
        for (name, value) in &self.extras {
            ["&", name, "="].into_iter().for_each(|part| url.push_str(part));
            push_encoded(&mut url, value);
        }
        Ok(url)
    }

    #[inline]
    fn challenge<'a>(&self, drawn: &'a Drawn<'_>, digest: &'a mut [u8; 43]) -> &'a str {
        if self.plain { drawn.code_verifier.expose() } else { s256(drawn.code_verifier, digest) }
    }

    /// All parameters, in the order in which they are written.
    pub(super) fn parameters(&self, drawn: &Drawn<'_>, mut put: impl FnMut(&str, &str)) {
        let Drawn { state, nonce, .. } = drawn;
        let mut digest = [0; 43];
        put("response_type", "code");
        put("client_id", self.client.id());
        put("redirect_uri", &self.redirect_uri);
        if !self.scopes.is_empty() {
            put("scope", self.scopes.as_str());
        }
        put("state", state.expose());
        put("code_challenge", self.challenge(drawn, &mut digest));
        put("code_challenge_method", self.code_challenge_method());
        if let Some(nonce) = nonce {
            put("nonce", nonce.expose());
        }
        if let Some(key) = self.client.dpop_key() {
            put("dpop_jkt", key.thumbprint());
        }
        if let Some(seconds) = self.terms.max_age {
            put("max_age", &seconds.to_string());
        }
        for resource in &self.resources {
            put("resource", resource);
        }
        for (name, value) in &self.extras {
            put(name, value);
        }
    }

    /// The way that it goes to the server.
    #[inline]
    fn way(&self, drawn: &Drawn<'_>, cx: &Cx) -> Result<Way, Error> {
        let pushed = self.pushed || self.client.is_fapi() || self.server.demands_pushed_requests();
        if self.signer.is_none() && self.server.demands_signed_requests() {
            return Err(Error::config("the server takes signed requests only: see AuthorizationRequest::sign"));
        }
        if self.signer.is_none() && !pushed {
            return self.url(drawn).map(Way::Url);
        }
        let mut url = self.address(2048)?;
        url.push_str("client_id=");
        url.push_str(self.client.encoded_id());
        if !pushed && self.scopes.contains("openid") {
            // OpenID Connect Core 1.0, section 6.1, wants these beside the object.
            url.push_str("&response_type=code&scope=openid");
        }
        let signing = match &self.signer {
            Some(signer) => Some(signer.sign(&self.signed_claims(drawn, cx.now().wall)?)),
            None => None,
        };
        let push = if pushed { Some(self.pushing(drawn)?) } else { None };
        Ok(Way::Steps(Box::new(Steps::new(url, signing, push))))
    }
}

/// What nobody may guess.
pub(super) struct Drawn<'a> {
    pub(super) state: &'a Secret,
    pub(super) code_verifier: &'a Secret,
    pub(super) nonce: Option<&'a Secret>,
}
