//! What an installed application wants of its sign-in, before a port is known.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::redirect::{Host, Redirect};
use super::{is_loopback, openable};
use crate::google::{ClientKind, ClientSecrets};
use crate::source::Want;
use crate::store::RecordKey;
use crate::{
    AuthorizationRequest, Client, DeviceAuthorization, DeviceCode, DevicePolling, Error, Scopes, ServerMetadata,
};

/// How a person signs in to an application on their own machine, with the system's browser
/// (RFC 8252), or by a code that they enter elsewhere (RFC 8628): plain data, which an adapter's `sign_in` carries
/// out.
///
/// What a setter cannot take is an error of kind [`ErrorKind::Config`](crate::ErrorKind::Config) when
/// the sign-in starts.
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
    server: ServerMetadata,
    pub(super) client: Client,
    scopes: Scopes,
    extras: Vec<(String, String)>,
    pub(super) redirect: Redirect,
    bind: Option<IpAddr>,
    /// `None` for the usual one, an empty one for none.
    prompt_message: Option<String>,
    pub(super) success_heading: String,
    pub(super) success_message: String,
    open_browser: bool,
    browser: Option<String>,
    paste: bool,
    timeout: Duration,
    resources: Vec<String>,
    pub(super) token_audience: Option<String>,
    pub(super) token_extras: Vec<(String, String)>,
    show: Option<Show<str>>,
    device: bool,
    show_code: Option<Show<DeviceCode>>,
    error: Option<Error>,
}

type Show<T> = Arc<dyn Fn(&T) + Send + Sync>;

impl InstalledApp {
    /// Signs in at this server, as this client.
    pub fn new(server: &ServerMetadata, client: &Client) -> Self {
        Self {
            server: server.clone(),
            client: client.clone(),
            scopes: Scopes::default(),
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
            error: None,
        }
    }

    /// Signs in at Google with a client file, and asks for a refresh token (`access_type=offline`).
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

    /// Takes host, port and path from a redirect URI as it is registered, for clients whose redirect
    /// URIs are compared character by character: http, on a loopback host. One without a port gets any free one, as
    /// servers must allow (RFC 8252, section 7.3); port 80 is named as `:80`.
    pub fn redirect_uri(mut self, uri: &str) -> Self {
        let url = Url::parse(uri).ok().filter(|url| openable(uri).is_ok() && url.scheme() == "http");
        let host = url.as_ref().and_then(Url::host_str).and_then(Host::parse);
        let (Some(url), Some(host)) = (url, host) else {
            return self.fail(format!("the redirect URI {}: not http on loopback", crate::error::without_query(uri)));
        };
        self.redirect.host = host;
        let authority = uri.split('/').nth(2).unwrap_or_default();
        let names_80 = authority.split('?').next().is_some_and(|authority| authority.ends_with(":80"));
        self.redirect.port = url.port().unwrap_or(if names_80 { 80 } else { 0 });
        self.redirect.path = url.path().to_owned();
        self.redirect.registered = Some(uri.to_owned());
        self
    }

    /// The server that the person signs in at.
    pub fn server(&self) -> &ServerMetadata {
        &self.server
    }

    /// The client that asks.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where what the person grants is kept in a store; `label` tells one person's grants apart.
    pub fn record_key(&self, label: &str) -> RecordKey {
        RecordKey::new(self.server.issuer(), &self.client, label)
    }

    /// Whether what was granted has all the scopes that are asked for. Google's short names are understood,
    /// which come back as addresses. `offline_access` asks for a refresh token, and many servers do not name it
    /// again.
    pub fn is_covered_by(&self, granted: &Scopes) -> bool {
        self.scopes.iter().all(|scope| scope == "offline_access" || granted.grants(scope))
    }

    /// The host in the redirect URI: `127.0.0.1` unless told, another loopback address such as `[::1]`,
    /// or `localhost`, which some servers want, but which may lead elsewhere (RFC 8252, section 8.3).
    pub fn host(mut self, host: &str) -> Self {
        match Host::parse(host) {
            Some(host) => {
                self.redirect.host = host;
                self.redirect.registered = None;
                self
            }
            None => self.fail(format!("the host {host:?} is neither localhost nor a loopback address")),
        }
    }

    /// The port in the redirect URI; 0, the default, for any free one.
    pub fn port(mut self, port: u16) -> Self {
        self.redirect.port = port;
        self.redirect.registered = None;
        self
    }

    /// The path of the redirect URI, such as `/oauth2callback`; `/` unless told. The slash in front may be left out.
    pub fn path(mut self, path: &str) -> Self {
        self.redirect.path = format!("/{}", path.strip_prefix('/').unwrap_or(path));
        self.redirect.registered = None;
        self
    }

    /// Whether the redirect URI keeps the slash at its end: `http://127.0.0.1:50123/`, the default, or
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

    /// What to print for the user on the standard error, with `{url}` in it, and `{code}` if they sign in by
    /// [`device`](Self::device); `None` prints nothing. Where no browser is opened, one without `{url}` is refused.
    pub fn prompt_message(mut self, message: Option<&str>) -> Self {
        self.prompt_message = Some(message.unwrap_or_default().to_owned());
        self
    }

    /// Gives the URL to this function instead of printing it.
    pub fn show(mut self, show: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.show = Some(Arc::new(show));
        self
    }

    /// Signs in by a code instead of a browser on this machine (RFC 8628), for machines without one: the person opens
    /// an address on any other device and enters the code there. What concerns redirects and browsers means
    /// nothing then.
    pub fn device(mut self) -> Self {
        self.device = true;
        self
    }

    /// As [`device`](Self::device), and gives the code to this function instead of printing it, to show it as it
    /// likes, with a QR code perhaps. It is called once, before the server is asked for the token.
    pub fn show_code(mut self, show: impl Fn(&DeviceCode) + Send + Sync + 'static) -> Self {
        self.show_code = Some(Arc::new(show));
        self.device()
    }

    /// The heading of the page shown at success; "Sign-in received" unless told. It is text, not HTML.
    pub fn success_heading(mut self, heading: &str) -> Self {
        heading.clone_into(&mut self.success_heading);
        self
    }

    /// The text of the page shown at success. It is text, not HTML.
    pub fn success_message(mut self, message: &str) -> Self {
        message.clone_into(&mut self.success_message);
        self
    }

    /// Whether to open the user's browser; true unless told.
    pub fn open_browser(mut self, open: bool) -> Self {
        self.open_browser = open;
        self
    }

    /// Which browser to open, such as `firefox`; the system's default unless told.
    pub fn browser(mut self, name: &str) -> Self {
        self.browser = Some(name.to_owned());
        self
    }

    /// Whether the redirect's address may also be pasted in on the terminal, for a browser on another
    /// machine; false unless told.
    pub fn paste(mut self, paste: bool) -> Self {
        self.paste = paste;
        self
    }

    /// How long the user may take; 10 minutes unless told. A device's code may end sooner.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// `resource`: the address of the protected resource that the token is for; may be called several times (RFC 8707).
    /// It is named wherever a token is asked for: in the authorization request, with the code, at each refresh.
    pub fn resource(mut self, resource: &str) -> Self {
        self.resources.push(resource.to_owned());
        self
    }

    /// Adds a parameter of the server's own to the request that exchanges the code, or a device's code, for the token.
    /// Those that the grant and client authentications set cannot be set by this.
    pub fn token_extra(mut self, name: &str, value: &str) -> Self {
        self.token_extras.retain(|(known, _)| known != name);
        self.token_extras.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What to ask a token manager of the grant for: tokens for the same [audience](Self::token_audience) and
    /// [resources](Self::resource).
    pub fn want(&self) -> Want {
        let want = self.token_audience.iter().fold(Want::default(), |want, audience| want.audience(audience));
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

    /// Sets any other parameter of the authorization request, or of the request for a device's code; given twice,
    /// the later value holds. Those that make the flow safe cannot be set by this.
    pub fn extra(mut self, name: &str, value: &str) -> Self {
        self.extras.retain(|(known, _)| known != name);
        self.extras.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        self.error.clone().map_or(Ok(()), Err)?;
        if self.redirect.fixed && self.redirect.port == 0 {
            return Err(Error::config(
                "a web client's redirect URIs are fixed, and its file names none on loopback: register one, and set its port",
            ));
        }
        if !self.open_browser && self.is_silent() && !self.prompt_or("").is_empty() {
            return Err(Error::config("no browser is opened, and the prompt message has no {url} in it"));
        }
        self.redirect.uri(self.redirect.port).map(drop)
    }

    /// Where to listen. The first address must be bound; if its port is 0, the others are bound to the
    /// port it got. Of those, one that this machine does not have may be passed over, but not one
    /// that another program holds: that program would be sent the answer.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>, Error> {
        self.check()?;
        let ips: &[IpAddr] = match (self.bind, self.redirect.host) {
            (Some(ip), _) | (None, Host::Ip(ip)) => &[ip],
            (None, Host::Localhost) => &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        };
        Ok(ips.iter().map(|ip| SocketAddr::new(*ip, self.redirect.port)).collect())
    }

    pub(super) fn authorization_request(&self, redirect_uri: String) -> AuthorizationRequest {
        let request = AuthorizationRequest::new(&self.server, &self.client, redirect_uri)
            .scopes(self.scopes.clone())
            .lifetime(self.timeout);
        let request = self.resources.iter().fold(request, |request, resource| request.resource(resource));
        self.extras.iter().fold(request, |request, (name, value)| request.extra(name, value))
    }

    /// For adapters: gives the URL to whoever wants to [show](Self::show) it, or returns what to print.
    pub fn announce(&self, url: &str) -> Option<String> {
        match &self.show {
            Some(show) => {
                show(url);
                None
            }
            None => Some(self.prompt_or("Open this URL in your browser to sign in:\n{url}").replace("{url}", url))
                .filter(|message| !message.is_empty()),
        }
    }

    fn prompt_or<'a>(&'a self, usual: &'a str) -> &'a str {
        self.prompt_message.as_deref().unwrap_or(usual)
    }

    /// For adapters: whether the URL is neither shown nor printed, so that a browser must be opened.
    pub fn is_silent(&self) -> bool {
        self.show.is_none() && !self.prompt_or("{url}").contains("{url}")
    }

    /// For adapters: what gets a code to show, if the person signs in by [`device`](Self::device).
    ///
    /// # Errors
    ///
    /// Whatever a setter could not take; if nobody would be shown the code, or the server takes no devices.
    pub fn device_authorization(&self) -> Result<Option<DeviceAuthorization>, Error> {
        if !self.device {
            return Ok(None);
        }
        self.error.clone().map_or(Ok(()), Err)?;
        let prompt = self.prompt_or("{url}{code}");
        if self.show_code.is_none() && !(prompt.contains("{code}") && prompt.contains("{url}")) {
            return Err(Error::config(
                "nobody is shown the code to sign in with: the prompt message lacks {code} or {url}",
            ));
        }
        let mut request =
            DeviceAuthorization::new(&self.server, &self.client)?.scopes(self.scopes.clone()).lifetime(self.timeout);
        // Google gives devices a refresh token without being asked.
        for (name, value) in self.extras.iter().filter(|(name, _)| name != "access_type") {
            request = request.extra(name, value);
        }
        request = self.resources.iter().fold(request, |request, resource| request.resource(resource));
        Ok(Some(request))
    }

    /// For adapters: gives the code to whoever wants to [show](Self::show_code) it, or returns what to print.
    pub fn announce_code(&self, code: &DeviceCode) -> Option<String> {
        match &self.show_code {
            Some(show) => {
                show(code);
                None
            }
            None => {
                let message = self
                    .prompt_or("To sign in, open this URL on any device:\n{url}\nand enter this code there: {code}");
                Some(message.replace("{url}", code.verification_uri()).replace("{code}", code.user_code()))
            }
        }
    }

    /// For adapters: what asks for the token once the code is shown.
    ///
    /// # Errors
    ///
    /// If the server is known without a `token_endpoint`.
    pub fn poll(&self, code: DeviceCode) -> Result<DevicePolling, Error> {
        let polling = code.poll(&self.server, &self.client)?;
        let polling = self.token_audience.iter().fold(polling, |polling, audience| polling.audience(audience));
        let polling = self.resources.iter().fold(polling, |polling, resource| polling.resource(resource));
        Ok(self.token_extras.iter().fold(polling, |polling, (name, value)| polling.extra(name, value)))
    }

    /// For adapters: whether to open a browser.
    pub fn opens_browser(&self) -> bool {
        self.open_browser
    }

    /// For adapters: which browser to open, if not the default one.
    pub fn browser_name(&self) -> Option<&str> {
        self.browser.as_deref()
    }

    /// For adapters: whether to read lines to [paste](super::Receiver::paste).
    pub fn takes_paste(&self) -> bool {
        self.paste
    }

    /// For adapters: how long to wait for the answer.
    pub fn time_limit(&self) -> Duration {
        self.timeout
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
