//! The redirect: its parameters, and the answer to an authorization request (RFC 6749, sections 4.1.2 and 4.1.2.1; RFC
//! 9207).

use std::fmt;

use sha2::{Digest, Sha256};
use url::form_urlencoded;

use crate::crypto::hex;
use crate::{Error, ErrorKind, Secret, ServerError};

/// The longest redirect to read.
const MAX_REDIRECT: usize = 64 * 1024;

/// The most parameters without a name here that are kept.
pub(super) const MAX_OTHERS: usize = 16;

/// The answer to one authorization request: an authorization code that came with the right `state` and from the right
/// server, or a signed answer that says so. It is good for the [`PendingAuthorization`](super::PendingAuthorization) that received it and for no other.
pub struct Answer {
    pub(super) came: Came,
    pub(super) request: RequestId,
    pub(super) others: Vec<(Box<str>, Secret)>,
}

/// What an answer holds.
pub(super) enum Came {
    Code(Secret),
    /// A JWT (JARM), whose signature is checked when the authorization is finished.
    Signed(Secret),
}

impl Answer {
    /// A parameter that is not of OAuth or OpenID Connect, such as Apple's `user`, which holds the name at the first
    /// sign-in alone. It is not authenticated. A signed answer has none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.others.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.expose())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer(..)")
    }
}

/// Which authorization request something belongs to: the digest of its `state`, from which nobody can make the `state`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestId([u8; 32]);

impl RequestId {
    pub(super) fn of(state: &Secret) -> Self {
        Self(Sha256::digest(state.expose()).into())
    }

    /// As 64 hexadecimal digits.
    pub(super) fn name(self) -> String {
        hex(&self.0)
    }
}

/// The parameters of an authorization response.
#[derive(Default)]
pub(super) struct Parameters {
    pub(super) state: Option<Secret>,
    pub(super) iss: Option<String>,
    pub(super) code: Option<Secret>,
    pub(super) error: Option<ServerError>,
    /// All of it as a JWT (JARM, section 2.3).
    pub(super) response: Option<Secret>,
    /// Those that have no name here.
    pub(super) others: Vec<(Box<str>, Secret)>,
    /// A parameter other than `state` is there twice, which RFC 6749, section 3.1, forbids.
    pub(super) repeated: bool,
}

impl Parameters {
    /// Those that have a name here.
    pub(super) const KNOWN: [&str; 8] =
        ["state", "code", "iss", "error", "error_description", "error_uri", "error_subtype", "response"];

    /// Reads a URL, its query or its fragment, the body of a form post, or `code#state`, which some servers show to be
    /// copied. What copying and terminals add is passed over: its `state` tells whether it is the answer.
    pub(super) fn parse(redirect: &str) -> Result<Self, Error> {
        if redirect.len() > MAX_REDIRECT {
            return Err(not_the_answer("it is longer than 64 KiB"));
        }
        let redirect = bare(redirect);
        // A line that the terminal or a mail has broken; and a request's line has more than the address.
        let unbroken: Secret;
        let redirect = match redirect.split(" HTTP/1").next().unwrap_or_default() {
            one if one.contains(char::is_whitespace) => {
                unbroken = one.chars().filter(|c| !c.is_whitespace()).collect::<String>().into();
                unbroken.expose()
            }
            one => one,
        };
        let query = redirect.split_once('?').map_or(redirect, |(_, query)| query);
        let (query, fragment) = query.split_once('#').unwrap_or((query, ""));
        let found = Self::read(query)?;
        if found.state.is_some() || found.response.is_some() {
            return Ok(found);
        }
        // As a page's source writes an address; and as a server answers that knows fragments only.
        for (sign, text) in [("&amp;", query), ("state=", fragment), ("response=", fragment)] {
            if text.contains(sign) {
                let text = Secret::from(text.replace("&amp;", "&"));
                return Self::read(text.expose());
            }
        }
        if !fragment.is_empty() && !redirect.contains(['?', ':']) {
            return Ok(Self { code: present(query), state: present(fragment), ..Self::default() });
        }
        Ok(found)
    }

    fn read(query: &str) -> Result<Self, Error> {
        let (mut answer, mut description, mut uri, mut subtype, mut error) = (Self::default(), None, None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let again = match &*name {
                "state" => {
                    if answer.state.replace(value.into_owned().into()).is_some() {
                        return Err(not_the_answer("it has a state twice"));
                    }
                    false
                }
                "code" => answer.code.replace(value.into_owned().into()).is_some(),
                "iss" => answer.iss.replace(value.into_owned()).is_some(),
                "response" => answer.response.replace(value.into_owned().into()).is_some(),
                "error" => error.replace(value.into_owned()).is_some(),
                "error_description" => description.replace(value.into_owned()).is_some(),
                "error_uri" => uri.replace(value.into_owned()).is_some(),
                "error_subtype" => subtype.replace(value.into_owned()).is_some(),
                _ if answer.others.len() < MAX_OTHERS => {
                    answer.others.push((name.into(), value.into_owned().into()));
                    false
                }
                _ => false,
            };
            answer.repeated |= again;
        }
        answer.state = answer.state.filter(|state| !state.is_empty());
        answer.code = answer.code.filter(|code| !code.is_empty());
        answer.response = answer.response.filter(|response| !response.is_empty());
        // What is empty counts as missing.
        let said = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        answer.iss = said(answer.iss);
        answer.error = said(error).map(|error| ServerError {
            error,
            error_description: said(description),
            error_uri: said(uri),
            error_subtype: said(subtype),
        });
        Ok(answer)
    }
}

/// A text without the quotes, brackets and invisible characters that come along when it is copied or pasted.
fn bare(text: &str) -> &str {
    let text = text.trim();
    // Bracketed paste, which a shell may have left on.
    let text = text.strip_prefix("\u{1b}[200~").unwrap_or(text);
    let text = text.strip_suffix("\u{1b}[201~").unwrap_or(text);
    let around = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || "\"'`<>".contains(c)
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2018}'..='\u{201f}' | '\u{feff}')
    };
    text.trim_matches(around)
}

fn present(text: &str) -> Option<Secret> {
    Some(text).filter(|text| !text.is_empty()).map(Secret::from)
}

pub(crate) fn not_the_answer(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidRedirect, why).during("reading the redirect", None)
}
