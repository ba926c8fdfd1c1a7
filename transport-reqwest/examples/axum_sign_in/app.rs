//! The application.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum_extra::extract::PrivateCookieJar;
use axum_extra::extract::cookie::{Cookie, Key, SameSite};
use grantflow_reqwest::Transport;
use grantflow_reqwest::grantflow::authorize::{PendingCookie, ThirdPartyLogin};
use grantflow_reqwest::grantflow::crypto::SealingKeys;
use grantflow_reqwest::grantflow::jose::{IdToken, LogoutToken};
use grantflow_reqwest::grantflow::source::Want;
use grantflow_reqwest::grantflow::store::{EndGrants, RecordKey, SaveGrant, Which};
use grantflow_reqwest::grantflow::{
    self, AuthorizationRequest, Client, EndSession, ErrorKind, FrontChannelLogout, LogoutReplays, PendingAuthorization,
    PendingLogout, ServerMetadata, Verifier,
};

use crate::sessions::{Session, Sessions};

/// How long a sign-in may take.
const LIFETIME: Duration = Duration::from_secs(600);

/// A server where people can sign in.
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) server: ServerMetadata,
    pub(crate) client: Client,
    /// Its own: an answer that comes to it can be of no other server (mix-up, COAT).
    pub(crate) redirect_uri: String,
    /// Whether it posts its answers.
    pub(crate) form_post: bool,
}

#[derive(Clone)]
pub(crate) struct App {
    /// As browsers see it, such as `https://app.example`.
    pub(crate) origin: Arc<str>,
    /// Bound to the store of people's grants.
    pub(crate) transport: Transport,
    pub(crate) providers: Arc<[Provider]>,
    /// They encrypt the cookies of sign-ins under way. Those that are kept outlive a restart, and serve several processes.
    pub(crate) sealing: SealingKeys,
    /// It encrypts all other cookies.
    pub(crate) key: Key,
    pub(crate) sessions: Sessions,
    pub(crate) replays: Arc<Mutex<LogoutReplays>>,
}

impl FromRef<App> for Key {
    fn from_ref(app: &App) -> Self {
        app.key.clone()
    }
}

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/login/{provider}", get(login))
        .route("/login", get(initiated))
        .route("/callback/{provider}", get(redirected).post(posted))
        .route("/logout", post(logout))
        .route("/logout/everywhere", post(logout_everywhere))
        .route("/signed-out", get(signed_out))
        .route("/backchannel-logout/{provider}", post(backchannel_logout))
        .route("/frontchannel-logout", get(frontchannel_logout))
        .with_state(app)
}

impl App {
    fn provider(&self, name: &str) -> Result<&Provider, Failed> {
        self.providers.iter().find(|provider| provider.name == name).ok_or_else(|| Failed::new("no such provider"))
    }

    /// On https no other site of the domain can set it (`__Host-`).
    fn cookie_name(&self, name: &str) -> String {
        if self.origin.starts_with("https:") { format!("__Host-{name}") } else { name.to_owned() }
    }

    /// A cookie for this application's own pages, which no script and no other site gets at. `Lax`: it comes along when a
    /// person is sent or sent back here, and with no post of another site, so that nobody else signs them out.
    fn cookie(&self, name: &str, value: String) -> Cookie<'static> {
        Cookie::build((self.cookie_name(name), value))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(self.origin.starts_with("https:"))
            .build()
    }

    fn forget(&self, jar: PrivateCookieJar, name: &str) -> PrivateCookieJar {
        jar.remove(Cookie::build(self.cookie_name(name)).path("/").secure(self.origin.starts_with("https:")).build())
    }

    fn session_name(&self, jar: &PrivateCookieJar) -> Option<String> {
        jar.get(&self.cookie_name("session")).map(|cookie| cookie.value().to_owned())
    }
}

async fn home(State(app): State<App>, jar: PrivateCookieJar) -> Response {
    match app.session_name(&jar).and_then(|name| app.sessions.get(&name)) {
        Some(Session { id_token, .. }) => {
            let form = |action, text| format!("<form method=post action={action}><button>{text}</button></form>");
            let who = id_token.verified_email().map_or(id_token.subject().to_owned(), str::to_owned);
            let who = escape(&format!("{who} of {}", id_token.issuer()));
            let ways = [form("/logout", "Sign out"), form("/logout/everywhere", "Sign out everywhere")].concat();
            page(StatusCode::OK, &format!("<p>Signed in as {who}.</p>{ways}"))
        }
        None => {
            let link = |it: &Provider| format!("<p><a href=/login/{0}>Sign in at {0}</a></p>", it.name);
            let links: String = app.providers.iter().map(link).collect();
            page(StatusCode::OK, &format!("<p>Not signed in.</p>{links}"))
        }
    }
}

async fn login(State(app): State<App>, Path(name): Path<String>) -> Result<Response, Failed> {
    begin(&app, app.provider(&name)?, None).await
}

/// The `initiate_login_uri`: a portal has a sign-in begin.
async fn initiated(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, Failed> {
    let login = ThirdPartyLogin::read(&query.unwrap_or_default())?;
    let known = app.providers.iter().find(|provider| login.is_for(provider.server.issuer()));
    begin(&app, known.ok_or_else(|| Failed::new("no such provider"))?, Some(&login)).await
}

/// Each sign-in has a cookie of its own, so that two tabs of a browser can sign in at once.
async fn begin(app: &App, provider: &Provider, login: Option<&ThirdPartyLogin>) -> Result<Response, Failed> {
    let Provider { server, client, redirect_uri, form_post, .. } = provider;
    let mut request = AuthorizationRequest::new(server, client, redirect_uri.clone())
        .scopes(["openid", "email"])
        .verify_id_token_signature()
        .lifetime(LIFETIME);
    if *form_post {
        request = request.form_post();
    }
    if let Some(login) = login {
        request = request.initiated_by(login);
    }
    let authorization = app.transport.run(request.start()).await?;
    let cookie = authorization.pending.to_cookie(&app.sealing, &mut app.transport.cx()?)?;
    Ok((AppendHeaders([(header::SET_COOKIE, cookie.set())]), Redirect::to(&authorization.url)).into_response())
}

async fn redirected(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    jar: PrivateCookieJar,
    RawQuery(query): RawQuery,
) -> Response {
    callback(&app, &name, &headers, jar, &query.unwrap_or_default()).await
}

/// The server's page posts the answer: a post of another site, with which the cookie of the sign-in comes alone.
async fn posted(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    jar: PrivateCookieJar,
    body: String,
) -> Response {
    callback(&app, &name, &headers, jar, &body).await
}

/// Where the server sends the person back to. Whatever comes of it, what was pending is over.
async fn callback(app: &App, name: &str, headers: &HeaderMap, jar: PrivateCookieJar, answer: &str) -> Response {
    let provider = match app.provider(name) {
        Ok(provider) => provider,
        Err(failed) => return failed.into_response(),
    };
    let forget = match PendingCookie::forget(&provider.redirect_uri, answer) {
        Ok(forget) => AppendHeaders([(header::SET_COOKIE, forget)]),
        Err(error) => return Failed::from(error).into_response(),
    };
    match finish(app, provider, headers, answer).await {
        Ok(id_token) => {
            // A session has a new name after each sign-in: one that was planted or seen before is worth nothing.
            if let Some(old) = app.session_name(&jar) {
                app.sessions.end(&old);
            }
            let Ok(cx) = &mut app.transport.cx() else { return Failed::new("no randomness").into_response() };
            let Ok(name) = cx.random::<32>("session") else { return Failed::new("no randomness").into_response() };
            let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
            app.sessions.begin(&name, Session { provider: provider.name.clone(), id_token });
            // Away from this address, which holds the code.
            (forget, jar.add(app.cookie("session", name)), Redirect::to("/")).into_response()
        }
        Err(failed) => (forget, failed).into_response(),
    }
}

/// Checks the answer, gets the token and says who signed in.
async fn finish(app: &App, provider: &Provider, headers: &HeaderMap, answer: &str) -> Result<IdToken, Failed> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let cookies = cookies.collect::<Vec<_>>().join("; ");
    // Only the browser that began has it: an answer that was sent to somebody else is of no use.
    let pending = PendingAuthorization::from_cookies(&app.sealing, answer, &cookies, app.transport.now().wall)?;
    if pending.redirect_uri() != provider.redirect_uri {
        return Err(Failed::new("the answer came to the redirect URI of another server"));
    }
    let token = app.transport.run(pending.finish(&provider.client, answer)).await?;
    let id_token = token.id_token().ok_or_else(|| Failed::new("the server does not say who this is"))?.clone();
    if token.refresh_token().is_some() {
        let save = SaveGrant::new(key(provider, id_token.subject()), Want::default(), &token);
        app.transport.run(save).await?;
    }
    Ok(id_token)
}

/// Where the grant of a person lies.
fn key(provider: &Provider, subject: &str) -> RecordKey {
    RecordKey::new(provider.server.issuer(), &provider.client, subject)
}

/// Signs out here first, and then at the server, if it has a page for that.
async fn logout(State(app): State<App>, jar: PrivateCookieJar) -> Result<Response, Failed> {
    let session = app.session_name(&jar).and_then(|name| app.sessions.end(&name));
    leave(&app, app.forget(jar, "session"), session)
}

fn leave(app: &App, jar: PrivateCookieJar, session: Option<Session>) -> Result<Response, Failed> {
    let Some(session) = session else { return Ok((jar, Redirect::to("/")).into_response()) };
    let provider = app.provider(&session.provider)?;
    let Ok(end) = EndSession::new(&provider.server, &provider.client) else {
        return Ok((jar, Redirect::to("/")).into_response());
    };
    let end = end.id_token_hint(&session.id_token).post_logout_redirect_uri(&format!("{}/signed-out", app.origin));
    let end = end.begin(&mut app.transport.cx()?)?;
    let pending = serde_json::to_string(&end.pending).map_err(|error| Failed::new(&error.to_string()))?;
    Ok((jar.add(app.cookie("signing-out", pending)), Redirect::to(&end.url)).into_response())
}

/// Ends all sessions of the person here, and their grants here and at the server.
async fn logout_everywhere(State(app): State<App>, jar: PrivateCookieJar) -> Result<Response, Failed> {
    let session = app.session_name(&jar).and_then(|name| app.sessions.end(&name));
    if let Some(Session { provider, id_token }) = &session {
        let (iss, sub) = (id_token.issuer(), id_token.subject());
        app.sessions.end_those(|other| other.issuer() == iss && other.subject() == sub);
        let Provider { server, client, .. } = app.provider(provider)?;
        let grants = EndGrants::sign_out(Which::subject(server.issuer(), sub), server, client);
        if let Some((_, error)) = app.transport.run(grants).await?.failed.into_iter().next() {
            return Err(error.into());
        }
    }
    leave(&app, app.forget(jar, "session"), session)
}

/// Where the server sends the browser after a sign-out. The session here has ended already, whatever comes.
async fn signed_out(
    State(app): State<App>,
    jar: PrivateCookieJar,
    RawQuery(query): RawQuery,
) -> (PrivateCookieJar, Response) {
    let pending = jar.get(&app.cookie_name("signing-out"));
    let pending = pending.and_then(|cookie| serde_json::from_str::<PendingLogout>(cookie.value()).ok());
    let came_back = pending.is_some_and(|pending| pending.is_answered_by(&query.unwrap_or_default()));
    let text = if came_back { "Signed out here and at the server." } else { "Signed out here." };
    (app.forget(jar, "signing-out"), page(StatusCode::OK, &format!("<p>{text}</p>")))
}

/// The server says that a session, or a person, has signed out (Back-Channel Logout 1.0, section 2.8).
async fn backchannel_logout(State(app): State<App>, Path(name): Path<String>, body: String) -> Response {
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    match ended_by_server(&app, &name, &body).await {
        Ok(()) => (StatusCode::OK, no_store).into_response(),
        Err(Failed(_, why)) => {
            let body = format!("{{\"error\":\"invalid_request\",\"error_description\":{why:?}}}");
            (StatusCode::BAD_REQUEST, no_store, body).into_response()
        }
    }
}

async fn ended_by_server(app: &App, name: &str, body: &str) -> Result<(), Failed> {
    let Provider { server, client, .. } = app.provider(name)?;
    let token = LogoutToken::in_form(body)?;
    let logout = app.transport.run(Verifier::logout_tokens_of(server, client)?.verify(token.expose())).await?;
    let now = app.transport.now().wall;
    app.replays.lock().unwrap_or_else(PoisonError::into_inner).take(&logout, now)?;
    app.sessions.end_those(|id_token| logout.ends(id_token));
    app.transport.run(EndGrants::delete(logout.grants()?)).await?;
    Ok(())
}

/// The server's page opens this in a frame (Front-Channel Logout 1.0). No cookie comes along in a frame of another site, so
/// that the session is found by its name at the server, which only the two know.
async fn frontchannel_logout(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, Failed> {
    let logout = FrontChannelLogout::read(&query.unwrap_or_default())?;
    if let Some((issuer, session)) = logout.session() {
        app.sessions.end_those(|own| own.issuer() == issuer && own.session() == Some(session));
    }
    let framed = (header::CONTENT_SECURITY_POLICY, "default-src 'none'");
    Ok(([framed, (header::CACHE_CONTROL, "no-store")], Html("")).into_response())
}

/// An error as a page.
pub(crate) struct Failed(StatusCode, String);

impl Failed {
    fn new(message: &str) -> Self {
        Self(StatusCode::BAD_REQUEST, message.to_owned())
    }
}

impl From<grantflow::Error> for Failed {
    fn from(error: grantflow::Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Authorization | ErrorKind::InvalidRedirect | ErrorKind::Expired | ErrorKind::LogoutToken => {
                StatusCode::BAD_REQUEST
            }
            _ => StatusCode::BAD_GATEWAY,
        };
        Self(status, error.to_string())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let Self(status, message) = self;
        page(status, &format!("<p>The sign-in failed: {}.</p><p><a href=/>Try again</a></p>", escape(&message)))
    }
}

fn page(status: StatusCode, body: &str) -> Response {
    const HEADERS: [(HeaderName, &str); 3] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A form to sign out leads on to the server's page.
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; form-action 'self' https:; frame-ancestors 'none'"),
    ];
    (status, HEADERS, Html(format!("<!doctype html><meta charset=utf-8><title>Sign in</title>{body}"))).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
