//! Which redirect URIs a client may have (RFC 6749, section 3.1.2; RFC 8252, section 7).

use crate::Error;
use crate::server::is_loopback_host;

/// Looks at the text itself and mends nothing: what is sent is what was registered.
pub(crate) fn check_redirect_uri(uri: &str) -> Result<(), Error> {
    let wrong = |why: &str| Err(Error::config(format!("the redirect URI {}: {why}", crate::shown::without_query(uri))));
    // Without a branch, so that the compiler can look at many at a time.
    let illegal = |byte: u8| b"\"#<>\\".iter().fold(!byte.is_ascii_graphic(), |found, other| found | (byte == *other));
    if uri.bytes().fold(false, |found, byte| found | illegal(byte)) {
        return wrong("it holds a fragment, a space, a backslash, a quote or a character outside of ASCII");
    }
    let secure = uri.strip_prefix("https://");
    let Some(rest) = secure.or_else(|| uri.strip_prefix("http://")) else {
        return match uri.split_once(':') {
            Some((scheme, _)) if is_private_scheme(scheme) => Ok(()),
            _ => wrong("it must be https, http on a loopback address, or a private scheme with a dot"),
        };
    };
    let end = rest.bytes().position(|byte| byte == b'/' || byte == b'?').unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    let colon = authority.bytes().rposition(|byte| byte == b':');
    let host = match colon.and_then(|at| authority.split_at_checked(at)) {
        Some((host, port)) if port.bytes().skip(1).all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let has = |wanted| host.bytes().fold(false, |found, byte| found | (byte == wanted));
    if host.is_empty() || has(b'@') || has(b':') && !host.ends_with(']') {
        return wrong("it has no host, a user name, or a port that is no number");
    }
    if secure.is_none() && !is_loopback_host(host) {
        return wrong("http is only for loopback addresses");
    }
    Ok(())
}

/// Whether this is a scheme of an application's own, by a domain name of its maker (RFC 8252, section 7.1).
fn is_private_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && scheme.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn redirect_uris_lead_to_https_to_this_machine_or_to_an_application() {
        for uri in [
            "https://app.example/callback",
            "https://app.example:8443?x=1",
            "http://127.0.0.1:53682/",
            "http://127.0.0.9/",
            "http://localhost",
            "http://[::1]:1/",
            "http://[::1]/callback",
            "com.example.app:/oauth2redirect",
        ] {
            assert!(check_redirect_uri(uri).is_ok(), "{uri}");
        }
        for uri in [
            "",
            "/callback",
            "https:///callback",
            "https://user@app.example/",
            "https://app.example:80x/",
            "https://app.example:x:80/",
            "https://[::1",
            "https://:80/",
            "https://app.example/#part",
            "https://app.example/a b",
            "https://app.example\\@evil.example/",
            "https://app.exämple/",
            "http://app.example/",
            "http://127.0.0.1.evil.example/",
            "http://127.0.0.1@evil.example/",
            "http://127.0.0.1:80@evil.example/",
            "http://[::2]/",
            "http://localhost.evil.example/",
            "myapp:/callback",
            "javascript:alert(1.0)",
            "1com.example:/callback",
            "urn:ietf:wg:oauth:2.0:oob",
        ] {
            assert_eq!(check_redirect_uri(uri).unwrap_err().kind(), ErrorKind::Config, "{uri}");
        }
    }
}
