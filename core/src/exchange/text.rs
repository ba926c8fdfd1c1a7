//! What may stand in a request: names that are taken, characters that are legal, and how pairs are written.

use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::Error;

/// Headers that say how a request travels (RFC 9110, sections 7.2, 7.6.1, 8.6 and 10.1.1; RFC 9112, section 6.1), and
/// which codings the client can undo.
pub(super) const CLIENTS_HEADERS: [&str; 11] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Parameters that only grants and client authentications set.
pub(super) const RESERVED: [&str; 25] = [
    "access_token",
    "actor_token",
    "actor_token_type",
    "assertion",
    "client_assertion",
    "client_assertion_type",
    "client_id",
    "client_secret",
    "code",
    "code_challenge",
    "code_challenge_method",
    "code_verifier",
    "device_code",
    "dpop_jkt",
    "grant_type",
    "nonce",
    "password",
    "redirect_uri",
    "refresh_token",
    "requested_token_type",
    "response_type",
    "state",
    "subject_token",
    "subject_token_type",
    "token",
];

/// Whether a caller may not set this parameter of an authorization or token request.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// Refuses text outside of %x20-7E (RFC 6749, appendix A): it would end up in headers and forms.
pub(crate) fn vschar(name: &str, value: &str) -> Result<(), Error> {
    if is_printable(value, b' ') {
        return Ok(());
    }
    Err(Error::config(format!("{} holds a character outside of printable ASCII", crate::Shown::name(name))))
}

/// Refuses blanks at the ends, which come of pasting: no server has such an id or secret, and all that it says is
/// that it does not know it.
pub(crate) fn unpadded(name: &str, value: &str) -> Result<(), Error> {
    if value.trim() == value {
        return Ok(());
    }
    Err(Error::config(format!("{} begins or ends with a blank: take it away", crate::Shown::name(name))))
}

/// Refuses an id that stands in quotes, or that nobody filled in: what a configuration file or a shell left of it.
pub(crate) fn filled_in(id: &str) -> Result<(), Error> {
    let within = |begin: &str, end: &str| id.len() > 1 && id.starts_with(begin) && id.ends_with(end);
    let why = if within("\"", "\"") || within("'", "'") {
        "stands in quotes: take them away"
    } else if within("${", "}") || within("{{", "}}") || within("<", ">") || within("%", "%") {
        "is the place for one, which nobody has filled in"
    } else {
        return Ok(());
    };
    Err(Error::config(format!("client_id {why}")))
}

/// Whether all is ASCII from `lowest` to `~`. It does not end at the first wrong byte, so that the compiler
/// can look at many at a time.
pub(crate) fn is_printable(text: &str, lowest: u8) -> bool {
    text.bytes().fold(true, |legal, byte| legal & (lowest..=b'~').contains(&byte))
}

/// Form-encodes for HTTP Basic. A space becomes `%20`: servers that do not decode `+` are
/// many, servers that do not decode `%20` were not met.
pub(super) fn userinfo(text: &str) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(String::with_capacity(text.len().saturating_mul(3)));
    for part in form_urlencoded::byte_serialize(text.as_bytes()) {
        encoded.push_str(if part == "+" { "%20" } else { part });
    }
    encoded
}

/// Texts one after another, in memory that is wiped: growth would leave copies of a part behind.
pub(super) fn joined(parts: &[&str]) -> Zeroizing<String> {
    let size = parts.iter().fold(0, |sum: usize, part| sum.saturating_add(part.len()));
    let mut text = Zeroizing::new(String::with_capacity(size));
    parts.iter().for_each(|part| text.push_str(part));
    text
}

/// Whether text is the same when it is form-encoded.
pub(super) fn is_encoded(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'*' | b'-' | b'.' | b'_'))
}

/// Appends a pair to a form.
pub(super) fn write_pair(form: &mut String, name: &str, value: &str) {
    if !form.is_empty() {
        form.push('&');
    }
    form.extend(form_urlencoded::byte_serialize(name.as_bytes()));
    form.push('=');
    form.extend(form_urlencoded::byte_serialize(value.as_bytes()));
}

/// Counts the bytes that are written to it.
pub(super) struct Size(pub(super) usize);

impl std::io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
