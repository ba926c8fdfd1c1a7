//! The settings of an installed application's sign-in, before a port is known.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::redirect::{Host, Redirect};
use super::{is_loopback, openable};
use crate::crypto::Signer;
use crate::exchange::is_reserved;
use crate::google::{ClientKind, ClientSecrets};
use crate::source::Want;
use crate::store::RecordKey;
use crate::{Client, DeviceCode, Error, Scopes, ServerMetadata};

/// The sign-in of a person to an application on their own machine: with the system's browser (RFC 8252), or by a code
/// that they enter on another device (RFC 8628). It is plain data, which an adapter's `sign_in` carries out.
///
/// A value that a setter cannot take is an error of kind [`ErrorKind::Config`](crate::ErrorKind::Config) when the
/// sign-in starts.
///
/// ```
/// use grantflow::google::ClientSecrets;
/// use grantflow::InstalledApp;
///
/// # let file = br#"{"installed": {"client_id": "1234567890-demo.apps.googleusercontent.com",
/// #     "client_secret": "GOCSPX-demo_secret", "auth_uri": "https://accounts.google.com/o/oauth2/auth",
/// #     "token_uri": "https://oauth2.googleapis.com/token"}}"#;
/// let app = InstalledApp::google(&ClientSecrets::from_json(file)?)
///     .scopes(["https://www.googleapis.com/auth/drive.readonly"])
///     .success_message("The backup starts now. You may close this window.");
/// # let _ = app;
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct InstalledApp {
    pub(super) server: ServerMetadata,
    pub(super) client: Client,
    pub(super) scopes: Scopes,
    /// Those that a grant must have, where it may lack others that are asked for.
    pub(super) needed: Option<Scopes>,
    pub(super) extras: Vec<(String, String)>,
    pub(super) redirect: Redirect,
    pub(super) bind: Option<IpAddr>,
    /// `None` for the usual one, an empty one for none.
    pub(super) prompt_message: Option<String>,
    pub(super) success_heading: String,
    pub(super) success_message: String,
    pub(super) open_browser: bool,
    pub(super) browser: Option<String>,
    pub(super) paste: bool,
    pub(super) timeout: Duration,
    pub(super) resources: Vec<String>,
    pub(super) token_audience: Option<String>,
    pub(super) token_extras: Vec<(String, String)>,
    pub(super) show: Option<Show<str>>,
    pub(super) device: bool,
    pub(super) show_code: Option<Show<DeviceCode>>,
    pub(super) accepts_partial_consent: bool,
    pub(super) scopes_at_refresh: bool,
    pub(super) verifies: bool,
    pub(super) pushed: bool,
    pub(super) signer: Option<Arc<dyn Signer>>,
    pub(super) error: Option<Error>,
}

type Show<T> = Arc<dyn Fn(&T) + Send + Sync>;

impl InstalledApp {
    /// A sign-in at this server, as this client.
    pub fn new(server: &ServerMetadata, client: &Client) -> Self {
        Self {
            server: server.clone(),
            client: client.clone(),
            scopes: Scopes::default(),
            needed: None,
            extras: Vec::new(),
            redirect: Redirect::default(),
            bind: None,
            prompt_message: None,
            success_heading: "Sign-in received".into(),
            success_message: "You may close this window and go back to the application.".into(),
            open_browser: true,
            browser: None,
            paste: false,
            timeout: Duration::from_secs(600),
            resources: Vec::new(),
            token_audience: None,
            token_extras: Vec::new(),
            show: None,
            device: false,
            show_code: None,
            accepts_partial_consent: false,
            scopes_at_refresh: false,
            verifies: false,
            pushed: false,
            signer: None,
            error: None,
        }
    }

    /// A sign-in at Google with a client file, which asks for a refresh token (`access_type=offline`).
    ///
    /// A client of the kind `web` gets its redirect URI from the file: the first one on a loopback
    /// host. If there is none, [`port`](Self::port) must name a registered one.
    pub fn google(secrets: &ClientSecrets) -> Self {
        let app = Self::new(secrets.server(), secrets.client()).extra("access_type", "offline");
        if secrets.kind() == ClientKind::Installed {
            return app;
        }
        let local = |uri: &&String| uri.starts_with("http://") && Url::parse(uri).is_ok_and(|url| is_loopback(&url));
        let mut app = match secrets.redirect_uris().iter().find(local) {
            Some(uri) => app.redirect_uri(uri),
            None => app,
        };
        if app.redirect.registered.is_some() && app.redirect.port == 0 {
            app.redirect.port = 80;
        }
        app.redirect.fixed = true;
        app
    }

    fn fail(mut self, why: String) -> Self {
        self.error.get_or_insert(Error::config(why));
        self
    }

    /// Asks for these scopes (RFC 6749, section 3.3).
    pub fn scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.scopes = scopes.into();
        self
    }

    /// Asks nobody again as long as a grant that was kept has these scopes.
    pub(crate) fn needs(mut self, scopes: Scopes) -> Self {
        self.needed = Some(scopes);
        self
    }

    /// For adapters: this sign-in with the scopes of `earlier` besides: those that were asked for with a kept grant for
    /// the same resource that does not suffice.
    #[must_use]
    pub fn beside(&self, earlier: &Scopes) -> Self {
        let mut app = self.clone();
        if self.needed.is_some() {
            let more = earlier.iter().filter(|scope| !self.scopes.contains(scope));
            app.scopes = self.scopes.iter().chain(more).collect();
        }
        app
    }

    /// Takes host, port and path from a redirect URI as it is registered, for servers that compare redirect URIs
    /// character by character: http, on a loopback host. A URI without a port gets any free one, as servers must allow
    /// (RFC 8252, section 7.3); port 80 is named as `:80`.
    pub fn redirect_uri(mut self, uri: &str) -> Self {
        let url = Url::parse(uri).ok().filter(|url| openable(uri).is_ok() && url.scheme() == "http");
        let host = url.as_ref().and_then(Url::host_str).and_then(Host::parse);
        let (Some(url), Some(host)) = (url, host) else {
            return self.fail(format!("the redirect URI {}: an installed application's is http on a loopback address, such as http://127.0.0.1:8080/callback", crate::shown::without_query(uri)));
        };
        self.redirect.host = host;
        let authority = uri.split('/').nth(2).unwrap_or_default();
        let names_80 = authority.split('?').next().is_some_and(|authority| authority.ends_with(":80"));
        self.redirect.port = url.port().unwrap_or(if names_80 { 80 } else { 0 });
        self.redirect.path = url.path().to_owned();
        self.redirect.registered = Some(uri.to_owned());
        self
    }

    /// The redirect URI to register: on this port, unless one is set.
    pub(crate) fn redirect_uri_to_register(&self, port: u16) -> Result<String, Error> {
        let own = self.redirect.port;
        Ok(self.redirect.uri(if own == 0 { port } else { own })?.0)
    }

    /// Whether the person signs in by a device's code.
    pub(crate) fn is_for_devices(&self) -> bool {
        self.device
    }

    /// The server where the person signs in.
    pub fn server(&self) -> &ServerMetadata {
        &self.server
    }

    /// The client of the application.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The key under which a store keeps the person's grant: it names the server, the client, and the
    /// [resources](Self::resource) if there are some; `label` tells one person's grants apart. Use one label for one
    /// set of scopes: programs, or parts of one, that share a label and ask for different scopes replace each other's
    /// grant, and the person is asked time and again.
    pub fn record_key(&self, label: &str) -> RecordKey {
        let key = RecordKey::new(self.server.issuer(), &self.client, label);
        self.resources.iter().fold(key, |key, resource| key.for_resource(resource))
    }

    /// Sets the host in the redirect URI: `127.0.0.1` by default, another loopback address such as `[::1]`, or
    /// `localhost`, which some servers want, but which may lead elsewhere (RFC 8252, section 8.3).
    pub fn host(mut self, host: &str) -> Self {
        match Host::parse(host) {
            Some(host) => {
                self.redirect.host = host;
                self.redirect.registered = None;
                self
            }
            None => self
                .fail(format!("the host {:?} is neither localhost nor a loopback address", crate::Shown::name(host))),
        }
    }

    /// Sets the port in the redirect URI; 0, the default, takes any free one.
    pub fn port(mut self, port: u16) -> Self {
        self.redirect.port = port;
        self.redirect.registered = None;
        self
    }

    /// Sets the path of the redirect URI, such as `/oauth2callback`; `/` by default. The slash in front may be left
    /// out.
    pub fn path(mut self, path: &str) -> Self {
        self.redirect.path = format!("/{}", path.strip_prefix('/').unwrap_or(path));
        self.redirect.registered = None;
        self
    }

    /// Sets whether the redirect URI keeps the slash at its end: `http://127.0.0.1:50123/`, the default, or
    /// `http://127.0.0.1:50123`.
    pub fn trailing_slash(mut self, slash: bool) -> Self {
        self.redirect.trailing_slash = slash;
        self.redirect.registered = None;
        self
    }

    /// Listens on this address instead of loopback, so that other machines may reach it: only for a
    /// container whose port is published on the loopback interface of its host. The redirect URI
    /// does not change.
    pub fn bind_beyond_loopback(mut self, ip: IpAddr) -> Self {
        self.bind = Some(ip);
        self
    }

    /// Sets the text that is printed for the user on the standard error, with `{url}` in it, and with `{code}` if they
    /// sign in by [`device`](Self::device); `None` prints nothing. Where no browser is opened, a text without `{url}`
    /// is refused.
    pub fn prompt_message(mut self, message: Option<&str>) -> Self {
        self.prompt_message = Some(message.unwrap_or_default().to_owned());
        self
    }

    /// Gives the URL to this function, and does not print it.
    pub fn show(mut self, show: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.show = Some(Arc::new(show));
        self
    }

    /// Signs in by a code and without a browser on this machine (RFC 8628): the person opens an address on any other
    /// device, and enters the code there. The settings of redirects and browsers then have no effect.
    pub fn device(mut self) -> Self {
        self.device = true;
        self
    }

    /// As [`device`](Self::device), with a function that shows the code in its own way, perhaps as a QR code, so that
    /// nothing is printed. It is called once, before the server is asked for the token.
    pub fn show_code(mut self, show: impl Fn(&DeviceCode) + Send + Sync + 'static) -> Self {
        self.show_code = Some(Arc::new(show));
        self.device()
    }

    /// Sets the heading of the page shown at success; "Sign-in received" by default. It is text, not HTML.
    pub fn success_heading(mut self, heading: &str) -> Self {
        heading.clone_into(&mut self.success_heading);
        self
    }

    /// Sets the text of the page shown at success. It is text, not HTML.
    pub fn success_message(mut self, message: &str) -> Self {
        message.clone_into(&mut self.success_message);
        self
    }

    /// Sets whether to open the user's browser; true by default.
    pub fn open_browser(mut self, open: bool) -> Self {
        self.open_browser = open;
        self
    }

    /// Sets which browser to open, such as `firefox`; by default the system's.
    pub fn browser(mut self, name: &str) -> Self {
        self.browser = Some(name.to_owned());
        self
    }

    /// Sets whether the redirect's address may also be pasted in on the terminal, for a browser on another machine;
    /// false by default.
    pub fn paste(mut self, paste: bool) -> Self {
        self.paste = paste;
        self
    }

    /// Sets how long the user may take; 10 minutes by default. A device's code may expire sooner.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// Adds a `resource`: the address of the protected resource that the token is for; may be called several times (RFC
    /// 8707). Every request for a token names it: the authorization request, the one with the code, and each refresh.
    pub fn resource(mut self, resource: &str) -> Self {
        self.resources.push(resource.to_owned());
        self
    }

    /// Adds a parameter of the server's own to the request that exchanges the code, or a device's code, for the token.
    /// Parameters of the grant and of client authentication cannot be set by this.
    pub fn token_extra(mut self, name: &str, value: &str) -> Self {
        if is_reserved(name) {
            let name = crate::Shown::name(name);
            return self.fail(format!("the parameter {name} of the token request cannot be set as an extra one"));
        }
        self.token_extras.retain(|(known, _)| known != name);
        self.token_extras.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Accepts the scopes that a person grants, where they may choose among them. They are not asked again for the rest
    /// as long as the application asks for nothing new; without this, the next `load_or_sign_in` asks again.
    /// [`Token::scopes`](crate::Token::scopes) says which scopes were granted.
    ///
    /// It is also for servers whose names for the granted scopes cannot be recognised
    /// ([`is_covered_by`](Self::is_covered_by)).
    pub fn accept_partial_consent(mut self) -> Self {
        self.accepts_partial_consent = true;
        self
    }

    /// Names the granted scopes at each refresh of a kept grant, and `offline_access` if that was asked for: for
    /// servers that refuse a refresh without scopes, as Microsoft Entra does where an application asks for tokens for
    /// itself. By default no scopes are named, which means all that were granted (RFC 6749, section 6).
    pub fn scopes_at_refresh(mut self) -> Self {
        self.scopes_at_refresh = true;
        self
    }

    /// Checks the signature of the ID token by the server's keys: see
    /// [`AuthorizationRequest::verify_id_token_signature`](crate::AuthorizationRequest::verify_id_token_signature).
    pub fn verify_id_token_signature(mut self) -> Self {
        self.verifies = true;
        self
    }

    /// Leaves the request at the server before the browser opens: see [`AuthorizationRequest::push`](crate::AuthorizationRequest::push).
    pub fn push(mut self) -> Self {
        self.pushed = true;
        self
    }

    /// Signs the request: see [`AuthorizationRequest::sign`](crate::AuthorizationRequest::sign).
    pub fn sign(mut self, signer: impl Signer + 'static) -> Self {
        self.signer = Some(Arc::new(signer));
        self
    }

    /// Has the server sign its answer: see [`AuthorizationRequest::signed_response`](crate::AuthorizationRequest::signed_response).
    pub fn signed_response(self) -> Self {
        let mode = if self.response_mode().starts_with("form_post") { "form_post.jwt" } else { "jwt" };
        self.extra("response_mode", mode)
    }

    /// Has the server's page post its answer to the loopback address: see
    /// [`AuthorizationRequest::form_post`](crate::AuthorizationRequest::form_post).
    pub fn form_post(self) -> Self {
        let mode = if self.response_mode().ends_with("jwt") { "form_post.jwt" } else { "form_post" };
        self.extra("response_mode", mode)
    }

    fn response_mode(&self) -> &str {
        let mode = self.extras.iter().find(|(name, _)| name == "response_mode");
        mode.map_or("", |(_, mode)| mode)
    }

    /// Sets `authorization_details`: what is asked for in detail (RFC 9396). Tokens of the grant are asked for with the
    /// same.
    pub fn authorization_details(self, details: &Value) -> Self {
        self.extra("authorization_details", &details.to_string())
    }

    /// The want for a token manager of the grant: tokens for the same [audience](Self::token_audience),
    /// [resources](Self::resource) and [details](Self::authorization_details).
    pub fn want(&self) -> Want {
        let want = self.token_audience.iter().fold(Want::default(), |want, audience| want.audience(audience));
        let details = self.extras.iter().find(|(name, _)| name == "authorization_details");
        let details = details.and_then(|(_, details)| serde_json::from_str(details).ok());
        let want = details.iter().fold(want, |want, details| want.authorization_details(details));
        self.resources.iter().fold(want, |want, resource| want.resource(resource))
    }

    /// `audience` of the token request: what the token is for, by the name the server gives it.
    pub fn token_audience(mut self, audience: &str) -> Self {
        self.token_audience = Some(audience.to_owned()).filter(|audience| !audience.is_empty());
        self
    }

    /// `prompt`: what the server must show, such as `consent` or `select_account`.
    pub fn prompt(self, prompt: &str) -> Self {
        self.extra("prompt", prompt)
    }

    /// `login_hint`: who is expected to sign in.
    pub fn login_hint(self, hint: &str) -> Self {
        self.extra("login_hint", hint)
    }

    /// Sets any other parameter of the authorization request, or of the request for a device's code; of two values the
    /// later one holds. Parameters that make the flow safe cannot be set by this.
    pub fn extra(mut self, name: &str, value: &str) -> Self {
        self.extras.retain(|(known, _)| known != name);
        self.extras.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl fmt::Debug for InstalledApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstalledApp")
            .field("server", &self.server)
            .field("client", &self.client)
            .field("scopes", &self.scopes)
            .field("redirect", &self.redirect)
            .field("bind", &self.bind)
            .field("device", &self.device)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
