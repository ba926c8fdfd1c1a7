//! A sign-in that another site begins (OpenID Connect Core 1.0, section 4).

use std::fmt;

use url::{Url, form_urlencoded};

use super::answer::not_the_answer;
use super::request::AuthorizationRequest;
use crate::{Error, ErrorKind, Issuer};

/// The longest request to read.
const MAX: usize = 16 * 1024;

/// A request to the application's `initiate_login_uri`: another site, such as a portal or the server itself, sends the
/// browser there to begin a sign-in. Any site can do so, so that the request says nothing about the person at the
/// browser. It only chooses among the servers that the application knows; the sign-in is the usual one.
///
/// ```
/// use grantflow::authorize::ThirdPartyLogin;
/// use grantflow::{AuthorizationRequest, Client, Issuer, ServerMetadata};
///
/// # let known = [ServerMetadata::new(Issuer::new("https://as.example")?)];
/// # let client = Client::new("app");
/// let login = ThirdPartyLogin::read("iss=https%3A%2F%2Fas.example&target_link_uri=https%3A%2F%2Fapp.example%2Finbox")?;
/// let server = known.iter().find(|server| login.is_for(server.issuer())).expect("a server that is known");
/// let request = AuthorizationRequest::new(server, &client, "https://app.example/callback").initiated_by(&login);
/// // After the sign-in, if it is a page of the application's own:
/// assert_eq!(login.target_link_uri("https://app.example"), Some("https://app.example/inbox"));
/// # let _ = request;
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct ThirdPartyLogin {
    iss: String,
    login_hint: Option<String>,
    target_link_uri: Option<String>,
}

impl ThirdPartyLogin {
    /// Reads the parameters: the query of a GET, or the body of a POST.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRedirect`] if they have no `iss`, or a parameter twice.
    pub fn read(parameters: &str) -> Result<Self, Error> {
        if parameters.len() > MAX {
            return Err(not_the_answer("it is longer than 16 KiB"));
        }
        let (mut iss, mut login_hint, mut target_link_uri) = (None, None, None);
        for (name, value) in form_urlencoded::parse(parameters.as_bytes()) {
            let found = match &*name {
                "iss" => &mut iss,
                "login_hint" => &mut login_hint,
                "target_link_uri" => &mut target_link_uri,
                _ => continue,
            };
            if found.replace(value.into_owned()).is_some() {
                return Err(not_the_answer("it has a parameter twice"));
            }
        }
        let iss = iss.ok_or_else(|| not_the_answer("it names no server to sign in at (iss)"))?;
        Ok(Self { iss, login_hint, target_link_uri })
    }

    /// Whether the request names this server, character by character.
    pub fn is_for(&self, issuer: &Issuer) -> bool {
        self.iss == issuer.as_str()
    }

    /// `target_link_uri`: where to send the browser after the sign-in, if that is an address of this origin, such as
    /// `https://app.example`. Any other would make an open redirector of the application.
    pub fn target_link_uri(&self, origin: &str) -> Option<&str> {
        let target = self.target_link_uri.as_deref()?;
        let plain = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        let (url, own) = (Url::parse(target).ok()?, Url::parse(origin).ok()?);
        let sound = matches!(url.scheme(), "https" | "http") && url.username().is_empty() && url.password().is_none();
        (plain && sound && url.origin() == own.origin()).then_some(target)
    }
}

impl AuthorizationRequest {
    /// Begins the sign-in that another site asks for, with its `login_hint`. A request for another server is an error
    /// of kind [`ErrorKind::Issuer`] when the authorization starts.
    pub fn initiated_by(self, login: &ThirdPartyLogin) -> Self {
        if !login.is_for(self.server.issuer()) {
            let why = format!("the sign-in was asked for at another server than {}", self.server.issuer());
            return self.fail_with(Error::new(ErrorKind::Issuer, why));
        }
        match &login.login_hint {
            Some(hint) => self.login_hint(hint),
            None => self,
        }
    }
}

/// Shows the server.
impl fmt::Debug for ThirdPartyLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThirdPartyLogin").field("iss", &crate::Shown::name(&self.iss)).finish_non_exhaustive()
    }
}
