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

/// How the names of these cookies begin; the pending authorization's name stands behind it.
const PREFIX: &str = "pending-";
/// The most bytes of name, value and attributes together: what browsers keep (RFC 6265, section 6.1).
const MOST: usize = 4096;
/// How many cookies of one name are looked at: another site of the domain may have set some.
const SAME: usize = 4;

/// The cookie of a sign-in under way. Each sign-in has its own, so that two tabs of one browser can sign in at once.
pub struct PendingCookie {
    name: String,
    value: String,
    max_age: Duration,
}

impl PendingAuthorization {
    /// This in a cookie, encrypted: its name and its end are sealed with it. Only the server that has the key can
    /// [open](Self::from_cookies) it, for the redirect that answers it, until its life is over.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Entropy`] if there is no randomness; [`ErrorKind::Config`] if this was built without a library for
    /// encryption, or the cookie were larger than what browsers keep.
    pub fn to_cookie(&self, keys: &SealingKeys, cx: &mut Cx) -> Result<PendingCookie, Error> {
        let name = cookie_name(&self.name());
        let failed = |error| Error::new(ErrorKind::Config, "the sign-in cannot be kept in a cookie").with_source(error);
        let text = Zeroizing::new(serde_json::to_vec(self).map_err(failed)?);
        let value = URL_SAFE_NO_PAD.encode(keys.seal(name.as_bytes(), &text, cx)?);
        let cookie = PendingCookie { name, value, max_age: self.expires_at().since(cx.now().wall) };
        let length = cookie.set("/", true).len();
        if length > MOST {
            return Err(Error::config(format!(
                "the cookie of the sign-in has {length} bytes, and browsers keep {MOST}"
            )));
        }
        Ok(cookie)
    }

    /// The pending authorization that a redirect answers, from the cookies that came with it: the value of the header
    /// `Cookie`. `now` is the wall clock's time.
    ///
    /// A cookie stays good until its life is over: have the browser [forget](PendingCookie::forget) it with the answer.
    /// That a code is of use once is up to the server.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRedirect`] if no cookie of this browser belongs to the redirect, or it was not sealed by one of
    /// these keys; [`ErrorKind::Expired`] if its life is over.
    pub fn from_cookies(keys: &SealingKeys, redirect: &str, cookies: &str, now: Timestamp) -> Result<Self, Error> {
        let name = cookie_name(&Self::name_in(redirect)?);
        let of_name = |cookie: &'_ str| {
            let (its, value) = cookie.split_once('=')?;
            (its.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
        };
        let mut refused = not_the_answer("no sign-in is under way in this browser");
        for value in cookies.split(';').filter_map(of_name).filter(|value| value.len() <= MOST).take(SAME) {
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
    /// The value of a header `Set-Cookie` (RFC 6265, section 4.1) that keeps this for the pages under `path`, out of reach
    /// of scripts and of other sites. `secure`: over https only; not for development on `http://localhost`.
    pub fn set(&self, path: &str, secure: bool) -> String {
        let secure = if secure { "; Secure" } else { "" };
        let Self { name, value, max_age } = self;
        format!("{name}={value}; Path={path}; Max-Age={}; HttpOnly; SameSite=Lax{secure}", max_age.as_secs())
    }

    /// The value of a header `Set-Cookie` that ends the cookie of the sign-in that a redirect answers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRedirect`] if it answers none.
    pub fn forget(redirect: &str, path: &str) -> Result<String, Error> {
        let name = cookie_name(&PendingAuthorization::name_in(redirect)?);
        Ok(format!("{name}=; Path={path}; Max-Age=0; HttpOnly; SameSite=Lax"))
    }

    /// Its name, for frameworks that make the header themselves.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value: base64url, encrypted.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// How long the browser is to keep it.
    pub fn max_age(&self) -> Duration {
        self.max_age
    }
}

impl fmt::Debug for PendingCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCookie").field("max_age", &self.max_age).finish_non_exhaustive()
    }
}

fn cookie_name(pending: &str) -> String {
    format!("{PREFIX}{pending}")
}
