//! The texts of a request: names that are taken, legal characters, and how pairs are written.

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
    let is_visible = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_graphic);
    if is_visible(value.as_bytes().first()) && is_visible(value.as_bytes().last()) || value.trim() == value {
        return Ok(());
    }
    Err(Error::config(format!("{} begins or ends with a blank: take it away", crate::Shown::name(name))))
}

/// Refuses an id that stands in quotes, or that nobody filled in: what a configuration file or a shell left of it.
pub(crate) fn filled_in(id: &str) -> Result<(), Error> {
    if id.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) {
        return Ok(());
    }
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

/// What a form holds as it is, by its byte.
#[allow(clippy::indexing_slicing, reason = "it happens while this is compiled")]
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < plain.len() {
        plain[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'*' | b'-' | b'.' | b'_');
        byte += 1;
    }
    plain
};

/// Appends text as a form holds it (WHATWG URL, section 5.2). What needs no encoding, which is most of it, is copied in
/// long runs.
#[inline]
pub(crate) fn push_encoded(form: &mut String, value: &str) {
    let mut done: usize = 0;
    for (at, byte) in value.bytes().enumerate() {
        if is_plain(byte) {
            continue;
        }
        form.push_str(value.get(done..at).unwrap_or_default());
        match byte {
            b' ' => form.push('+'),
            b'/' => form.push_str("%2F"),
            b':' => form.push_str("%3A"),
            _ => [b'%', hex(byte >> 4), hex(byte & 15)].into_iter().for_each(|byte| form.push(char::from(byte))),
        }
        done = at.saturating_add(1);
    }
    form.push_str(value.get(done..).unwrap_or_default());
}

/// Whether a form holds this byte as it is.
#[inline]
fn is_plain(byte: u8) -> bool {
    PLAIN.get(usize::from(byte)) == Some(&true)
}

/// The digit for a value below 16.
fn hex(value: u8) -> u8 {
    value.wrapping_add(if value < 10 { b'0' } else { b'A' - 10 })
}

/// Whether text is the same when it is form-encoded.
pub(super) fn is_encoded(text: &str) -> bool {
    text.bytes().all(is_plain)
}

/// Appends a pair to a form.
pub(super) fn write_pair(form: &mut String, name: &str, value: &str) {
    if !form.is_empty() {
        form.push('&');
    }
    push_encoded(form, name);
    form.push('=');
    push_encoded(form, value);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_form_encoded() {
        for value in ["", "plain-._*", "a b+c/d?e&f=g%", "ä€\u{1f600}x", " ", "~"] {
            let mut text = String::new();
            push_encoded(&mut text, value);
            assert_eq!(text, form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>());
        }
    }
}
