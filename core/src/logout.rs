//! Signing out: at the server (OpenID Connect RP-Initiated Logout 1.0), and on the server's word (Back-Channel Logout
//! 1.0 and Front-Channel Logout 1.0).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use crate::jose::{IdToken, LogoutToken};
use crate::pkce::random_text;
use crate::secret::stored;
use crate::store::Which;
use crate::{Client, Cx, Endpoint, Error, ErrorKind, Issuer, Secret, ServerMetadata, Timestamp};

/// The longest request of a server to read.
const MAX: usize = 64 * 1024 + 1024;

/// A sign-out at the server (RP-Initiated Logout 1.0, section 2): the address to send the browser to. End the
/// application's own session before that, whatever the server then does.
///
/// ```
/// use grantflow::{Client, Cx, EndSession, Issuer, Now, ServerMetadata};
///
/// let server = ServerMetadata::new(Issuer::new("https://as.example")?)
///     .end_session_endpoint("https://as.example/end_session")?;
/// # let mut cx = Cx::new(Now::default(), [7; 32]);
/// let end = EndSession::new(&server, &Client::new("web-app"))?
///     .post_logout_redirect_uri("https://app.example/signed-out")
///     .begin(&mut cx)?;
/// assert!(end.url.starts_with("https://as.example/end_session?client_id=web-app&post_logout_redirect_uri="));
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct EndSession {
    endpoint: Endpoint,
    parameters: Vec<(&'static str, Secret)>,
    returns: bool,
}

/// The address to send the browser to for the sign-out, and what to keep until it is back.
pub struct EndingSession {
    /// The address. It may hold an ID token, and does not belong in logs.
    pub url: String,
    /// The check of the browser's return, if it comes back.
    pub pending: Option<PendingLogout>,
}

/// A sign-out under way at the server, by which the browser's return is recognised.
#[derive(Clone, Serialize, Deserialize)]
pub struct PendingLogout {
    #[serde(with = "stored")]
    state: Secret,
}

impl EndSession {
    /// A sign-out at this server, as this client.
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `end_session_endpoint`, or the client is registered at another server.
    pub fn new(server: &ServerMetadata, client: &Client) -> Result<Self, Error> {
        client.check_issuer(server.issuer())?;
        let parameters = vec![("client_id", client.id().into())];
        Ok(Self { endpoint: server.end_session()?.clone(), parameters, returns: false })
    }

    fn set(mut self, name: &'static str, value: &str) -> Self {
        self.parameters.retain(|(known, _)| *known != name);
        self.parameters.push((name, value.into()));
        self
    }

    /// `id_token_hint`: the ID token of the sign-in that ends, which may have expired. Without it most servers ask the user.
    pub fn id_token_hint(self, id_token: &IdToken) -> Self {
        self.set("id_token_hint", id_token.as_secret().expose())
    }

    /// `logout_hint`: who signs out.
    pub fn logout_hint(self, hint: &str) -> Self {
        self.set("logout_hint", hint)
    }

    /// `ui_locales`: the languages of the user, the best first, with a space between them.
    pub fn ui_locales(self, locales: &str) -> Self {
        self.set("ui_locales", locales)
    }

    /// `post_logout_redirect_uri`: where the browser comes back to; registered at the server, character by character.
    pub fn post_logout_redirect_uri(mut self, uri: &str) -> Self {
        self.returns = true;
        self.set("post_logout_redirect_uri", uri)
    }

    /// The address to send the browser to, with a `state` of its own if it comes back.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Entropy`] if there is no randomness.
    pub fn begin(&self, cx: &mut Cx) -> Result<EndingSession, Error> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in &self.parameters {
            query.append_pair(name, value.expose());
        }
        let pending = match self.returns {
            true => Some(random_text(cx, "state of a logout")?),
            false => None,
        };
        if let Some(state) = &pending {
            query.append_pair("state", state.expose());
        }
        let endpoint = self.endpoint.as_str();
        let sign = if endpoint.contains('?') { '&' } else { '?' };
        let url = format!("{endpoint}{sign}{}", query.finish());
        Ok(EndingSession { url, pending: pending.map(|state| PendingLogout { state }) })
    }
}

impl PendingLogout {
    /// Whether the browser came back from this sign-out, by the query of its address. If it did not, do nothing that
    /// belongs to this sign-out. The application's own session has ended in either case.
    pub fn is_answered_by(&self, query: &str) -> bool {
        let query = query.split_once('?').map_or(query, |(_, query)| query);
        let mut states = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "state");
        let first = states.next().is_some_and(|(_, state)| self.state.matches(&state));
        first && states.next().is_none()
    }
}

impl LogoutToken {
    /// The logout token of a server's request: the body of its POST (Back-Channel Logout 1.0, section 2.5).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LogoutToken`] if there is none, or several.
    pub fn in_form(body: &str) -> Result<Secret, Error> {
        let wrong = |why| Error::new(ErrorKind::LogoutToken, why);
        if body.len() > MAX {
            return Err(wrong("the request is longer than any with a logout token"));
        }
        let mut found = form_urlencoded::parse(body.as_bytes()).filter(|(name, _)| name == "logout_token");
        let token = found.next().ok_or_else(|| wrong("the request has no logout_token"))?;
        match found.next() {
            Some(_) => Err(wrong("the request has several logout tokens")),
            None => Ok(token.1.into_owned().into()),
        }
    }

    /// The grants of a store that this logout token ends: for [`EndGrants`](crate::store::EndGrants).
    ///
    /// # Errors
    ///
    /// If its issuer is no address.
    pub fn grants(&self) -> Result<Which, Error> {
        let issuer = Issuer::new(self.issuer())?;
        Ok(match (self.session(), self.subject()) {
            (Some(sid), _) => Which::session(&issuer, sid),
            (None, sub) => Which::subject(&issuer, sub.unwrap_or_default()),
        })
    }
}

/// The logout tokens that one process has seen, so that none counts twice. Processes that share the work keep the
/// [`id`](LogoutToken::id)s where all of them look.
#[derive(Debug, Default)]
pub struct LogoutReplays {
    seen: BTreeMap<(String, String), Timestamp>,
}

impl LogoutReplays {
    /// The most tokens that are remembered: a server that sends more at a time is refused until some have ended.
    const MOST: usize = 100_000;

    /// Remembers a token until it would be refused by its age. `now` is the wall clock's time.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LogoutToken`] if the token was seen before, or if too many are remembered.
    pub fn take(&mut self, token: &LogoutToken, now: Timestamp) -> Result<(), Error> {
        // As long as any verifier's clock may be off.
        const LEEWAY: Duration = Duration::from_secs(300);
        let wrong = |why| Error::new(ErrorKind::LogoutToken, why);
        let name = (token.issuer().to_owned(), token.id().to_owned());
        if self.seen.get(&name).is_some_and(|end| now <= *end) {
            return Err(wrong("the logout token was used before (jti)"));
        }
        if self.seen.len() >= Self::MOST {
            self.seen.retain(|_, end| now <= *end);
        }
        if self.seen.len() >= Self::MOST {
            return Err(wrong("too many logout tokens at a time").transient());
        }
        self.seen.insert(name, token.usable_until(LEEWAY));
        Ok(())
    }
}

/// A request to the `frontchannel_logout_uri` (Front-Channel Logout 1.0, section 2), which the server's page has the
/// user's own browser open. Nothing in it is signed: it ends the session of that browser and no other.
///
/// ```
/// use grantflow::FrontChannelLogout;
///
/// let request = FrontChannelLogout::read("iss=https%3A%2F%2Fas.example&sid=08a5019c")?;
/// assert!(request.ends("https://as.example", Some("08a5019c")));
/// assert!(!request.ends("https://as.example", Some("of another sign-in")));
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct FrontChannelLogout {
    iss: Option<String>,
    sid: Option<String>,
}

impl FrontChannelLogout {
    /// Reads the query of the request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LogoutToken`] if a parameter is there twice, or one of `iss` and `sid` without the other.
    pub fn read(query: &str) -> Result<Self, Error> {
        let wrong = |why| Error::new(ErrorKind::LogoutToken, why);
        let (mut iss, mut sid) = (None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()).take(64) {
            let found = match &*name {
                "iss" => &mut iss,
                "sid" => &mut sid,
                _ => continue,
            };
            if found.replace(value.into_owned()).is_some() {
                return Err(wrong("the request to sign out has a parameter twice"));
            }
        }
        if iss.is_some() != sid.is_some() {
            return Err(wrong("the request to sign out has one of iss and sid, and not the other"));
        }
        Ok(Self { iss, sid })
    }

    /// The issuer and the session (`iss`, `sid`) that the request names, if it does: for sessions that are kept by
    /// these, where no cookie comes along in the frame of another site.
    pub fn session(&self) -> Option<(&str, &str)> {
        self.iss.as_deref().zip(self.sid.as_deref())
    }

    /// Whether the request ends this session, which is that of the browser: by its issuer and session, if it names
    /// them. A request that names none ends any session.
    pub fn ends(&self, issuer: &str, session: Option<&str>) -> bool {
        match (&self.iss, &self.sid) {
            (Some(iss), Some(sid)) => iss == issuer && Some(sid.as_str()) == session,
            _ => true,
        }
    }
}

/// Shows the address without its query.
impl fmt::Debug for EndingSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndingSession").field("url", &crate::shown::without_query(&self.url)).finish_non_exhaustive()
    }
}

impl fmt::Debug for EndSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndSession").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl fmt::Debug for PendingLogout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingLogout(..)")
    }
}

impl fmt::Debug for FrontChannelLogout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontChannelLogout").finish_non_exhaustive()
    }
}
