//! A pending authorization in an encrypted cookie of the browser that began.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::answer::not_the_answer;
use super::pending::PendingAuthorization;
use crate::crypto::SealingKeys;
use crate::{Cx, Error, ErrorKind, Timestamp};

/// How the names of these cookies begin; the pending authorization's name stands behind it. No other site of the domain can
/// set one that begins with `__Host-`, and it goes over https alone (RFC 6265bis, section 4.1.3.2).
const PREFIX: &str = "__Host-pending-";
/// The same for applications in development, on `http://localhost`.
const PLAIN: &str = "pending-";
/// The most bytes of name, value and attributes together: what browsers keep (RFC 6265, section 6.1).
const MOST: usize = 4096;
/// How many cookies of one name are looked at: another site of the domain may have set some.
const SAME: usize = 4;

/// The cookie of a sign-in under way. Each sign-in has its own, so that two tabs of one browser can sign in at once.
pub struct PendingCookie {
    name: String,
    value: String,
    max_age: Duration,
    form_post: bool,
}

impl PendingAuthorization {
    /// Seals this authorization in a cookie, with the cookie's name and end. Only a server that has the key can
    /// [open](Self::from_cookies) it, for the redirect that answers it, until its life is over.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Entropy`] if there is no randomness; [`ErrorKind::Config`] if this crate was built without a
    /// library for encryption, or the cookie would be larger than browsers keep.
    pub fn to_cookie(&self, keys: &SealingKeys, cx: &mut Cx) -> Result<PendingCookie, Error> {
        let name = cookie_name(&self.redirect_uri, &self.name());
        let failed = |error| Error::new(ErrorKind::Config, "the sign-in cannot be kept in a cookie").with_source(error);
        let text = Zeroizing::new(serde_json::to_vec(self).map_err(failed)?);
        let value = URL_SAFE_NO_PAD.encode(keys.seal(name.as_bytes(), &text, cx)?);
        let cookie =
            PendingCookie { name, value, max_age: self.expires_at().since(cx.now().wall), form_post: self.form_post };
        let length = cookie.set().len();
        if length > MOST {
            return Err(Error::config(format!(
                "the cookie of the sign-in has {length} bytes, and browsers keep {MOST}"
            )));
        }
        Ok(cookie)
    }

    /// Opens the pending authorization that a redirect answers. `cookies` is the value of the header `Cookie` that came
    /// with the redirect; `now` is the wall clock's time.
    ///
    /// A cookie stays good until its life is over: have the browser [forget](PendingCookie::forget) it with the answer
    /// to the redirect. The authorization server sees to it that a code is used once.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRedirect`] if no cookie of this browser belongs to the redirect, or it was not sealed by one
    /// of these keys; [`ErrorKind::Expired`] if its life is over.
    pub fn from_cookies(keys: &SealingKeys, redirect: &str, cookies: &str, now: Timestamp) -> Result<Self, Error> {
        let name = Self::name_in(redirect)?;
        // Each is sealed with its name, so that one does not pass for the other.
        let names = [PREFIX, PLAIN].map(|prefix| format!("{prefix}{name}"));
        let of_name = |cookie: &'_ str| {
            let (its, value) = cookie.split_once('=')?;
            let name = names.iter().find(|name| *name == its.trim())?;
            Some((name, value.trim().trim_matches('"').to_owned()))
        };
        let mut refused = not_the_answer("no sign-in is under way in this browser");
        for (name, value) in cookies.split(';').filter_map(of_name).filter(|(_, value)| value.len() <= MOST).take(SAME)
        {
            let Ok(sealed) = URL_SAFE_NO_PAD.decode(&value) else { continue };
            let text = match keys.open(name.as_bytes(), &sealed) {
                Ok(text) => text,
                Err(why) => {
                    refused = not_the_answer("the cookie of the sign-in cannot be opened").with_source(why);
                    continue;
                }
            };
            let failed = |error: serde_json::Error| {
                not_the_answer("the cookie of the sign-in cannot be read").with_source(error)
            };
            let pending: Self = serde_json::from_slice(&text).map_err(failed)?;
            if now > pending.expires_at() {
                return Err(Error::new(ErrorKind::Expired, "the sign-in took longer than allowed"));
            }
            return Ok(pending);
        }
        Err(refused)
    }
}

impl PendingCookie {
    /// The value of a header `Set-Cookie` (RFC 6265, section 4.1). The cookie is out of reach of scripts and of other
    /// sites, and goes over https only, unless the redirect URI is in development on `http://localhost`. If the
    /// server's page [posts](crate::AuthorizationRequest::form_post) the answer, the cookie is `SameSite=None`: no
    /// other one comes along with a post of another site.
    pub fn set(&self) -> String {
        let Self { name, value, max_age, form_post } = self;
        let rest = match (*form_post, name.starts_with(PREFIX)) {
            (true, _) => "None; Secure",
            (false, true) => "Lax; Secure",
            (false, false) => "Lax",
        };
        format!("{name}={value}; Path=/; Max-Age={}; HttpOnly; SameSite={rest}", max_age.as_secs())
    }

    /// The value of a header `Set-Cookie` that deletes the cookie of the sign-in that `redirect` answers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRedirect`] if the redirect answers none.
    pub fn forget(redirect_uri: &str, redirect: &str) -> Result<String, Error> {
        let name = cookie_name(redirect_uri, &PendingAuthorization::name_in(redirect)?);
        let secure = if name.starts_with(PREFIX) { "; Secure" } else { "" };
        Ok(format!("{name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax{secure}"))
    }

    /// The cookie's name, for frameworks that make the header themselves.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cookie's value: base64url, encrypted.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// How long the browser is to keep the cookie.
    pub fn max_age(&self) -> Duration {
        self.max_age
    }
}

impl fmt::Debug for PendingCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCookie").field("max_age", &self.max_age).finish_non_exhaustive()
    }
}

fn cookie_name(redirect_uri: &str, pending: &str) -> String {
    format!("{}{pending}", if redirect_uri.starts_with("https:") { PREFIX } else { PLAIN })
}
