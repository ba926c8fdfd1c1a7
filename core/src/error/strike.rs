//! Secrets are struck out of what an error says.

use std::borrow::Cow;

use crate::Secret;
use crate::shown::{MAX_TEXT, printable, swept};

/// A message without what looks like a secret.
pub(super) fn clean(message: Cow<'static, str>) -> Cow<'static, str> {
    match swept(&message) {
        Cow::Owned(message) => message.into(),
        Cow::Borrowed(_) => message,
    }
}

/// A server's text without these secrets, cut to a length that can be shown.
#[cold]
pub(crate) fn struck_out(text: &str, secrets: &[Secret]) -> String {
    // A character that is not shown could stand in the middle of a secret.
    let mut text = printable(text, usize::MAX);
    for secret in secrets.iter().map(Secret::expose) {
        // Shorter ones are no secrets, and would strike out half of any text.
        if secret.len() >= 4 && text.contains(secret) {
            text = text.replace(secret, "***");
        }
    }
    strike_jwts(&mut text);
    printable(&swept(&text), MAX_TEXT)
}

/// Strikes out what looks like a JWT (RFC 7515, section 7.1), whose header begins with `{"`: a client's assertion, a
/// proof or an ID token, of which a request may hold another at each try.
fn strike_jwts(text: &mut String) {
    const HEAD: &str = "eyJ";
    let mut struck = String::new();
    let mut rest = text.as_str();
    while let Some((before, jwt)) = rest.find(HEAD).and_then(|at| rest.split_at_checked(at)) {
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let end = jwt.find(|c| !part(c)).unwrap_or(jwt.len());
        let (jwt, after) = jwt.split_at_checked(end).unwrap_or((jwt, ""));
        struck.push_str(before);
        struck.push_str(if jwt.contains('.') { "***" } else { jwt });
        rest = after;
    }
    if !struck.is_empty() {
        struck.push_str(rest);
        *text = struck;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jwts_are_struck_out_of_a_servers_words() {
        for (text, shown) in [
            ("no", "no"),
            ("eyJ is no JWT, nor is eyJhbGciOiJub25lIn0", "eyJ is no JWT, nor is eyJhbGciOiJub25lIn0"),
            ("eyJhbGciOiJub25lIn0.e30.", "***"),
            ("bad \"eyJhbGciOiJub25lIn0.e30.c2ln\" and eyJ.x, ü", "bad \"***\" and ***, ü"),
            ("cut eyJhbGciOiJub25lIn0.e3", "cut ***"),
        ] {
            let mut struck = text.to_owned();
            strike_jwts(&mut struck);
            assert_eq!(struck, shown);
        }
    }
}
