//! Where tokens may be sent.

use std::sync::Arc;

use http::Uri;

use crate::server::is_loopback_host;
use crate::{Error, ErrorKind};

/// The hosts that a token may be sent to, over https; a loopback host may be called in cleartext.
///
/// `api.example` is that host on its standard port, `api.example:8443` on that one, and `*.example` any host
/// below `example`.
///
/// ```
/// use grantflow::Hosts;
///
/// let hosts = Hosts::from(["*.googleapis.com", "127.0.0.1:8080"]);
/// assert!(hosts.check(&"https://storage.googleapis.com/b".parse()?).is_ok());
/// assert!(hosts.check(&"http://127.0.0.1:8080/".parse()?).is_ok());
/// assert!(hosts.check(&"https://googleapis.com.evil.example/".parse()?).is_err());
/// assert!(hosts.check(&"http://storage.googleapis.com/b".parse()?).is_err());
/// # Ok::<(), http::uri::InvalidUri>(())
/// ```
#[derive(Clone, Debug)]
pub struct Hosts(Arc<[String]>);

impl<S: AsRef<str>, const N: usize> From<[S; N]> for Hosts {
    fn from(hosts: [S; N]) -> Self {
        hosts.iter().collect()
    }
}

impl<S: AsRef<str>> FromIterator<S> for Hosts {
    fn from_iter<I: IntoIterator<Item = S>>(hosts: I) -> Self {
        Self(hosts.into_iter().map(|host| host.as_ref().to_ascii_lowercase()).collect())
    }
}

impl Hosts {
    /// Refuses an address that is none of these hosts', or that would be called in cleartext.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`].
    pub fn check(&self, uri: &Uri) -> Result<(), Error> {
        let wrong = |why: &str| {
            let shown = crate::error::without_query(&uri.to_string());
            Error::new(ErrorKind::Config, format!("no token is sent to {shown}: {why}"))
        };
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => is_loopback_host(&host),
            _ => false,
        };
        if !secure {
            return Err(wrong("it is not https"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("it has a user name"));
        }
        let standard = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(standard);
        let allowed = self.0.iter().any(|known| {
            let (name, known_port) = split_port(known);
            known_port.unwrap_or(standard) == port
                && match name.strip_prefix("*.") {
                    Some(above) => host
                        .strip_suffix(above)
                        .and_then(|below| below.strip_suffix('.'))
                        .is_some_and(|b| !b.is_empty()),
                    None => host == name,
                }
        });
        if allowed { Ok(()) } else { Err(wrong("it is not among the allowed hosts")) }
    }
}

/// A host and its port, if one is named. An IPv6 address stands in brackets.
fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port.parse().ok()),
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_to_their_hosts_and_nowhere_else() {
        let hosts = Hosts::from(["api.example", "api.example:8443", "*.cloud.example", "127.0.0.1:8080", "[::1]:8080"]);
        for good in [
            "https://api.example/",
            "https://API.example/x?y",
            "https://api.example:443/",
            "https://api.example:8443/",
            "https://a.cloud.example/",
            "https://a.b.cloud.example/",
            "http://127.0.0.1:8080/",
            "https://127.0.0.1:8080/",
            "http://[::1]:8080/",
        ] {
            assert!(hosts.check(&good.parse().unwrap()).is_ok(), "{good}");
        }
        for bad in [
            "http://api.example/",
            "https://api.example:8080/",
            "https://api.example.evil.example/",
            "https://evil-api.example/",
            "https://cloud.example/",
            "https://evilcloud.example/",
            "https://.cloud.example/",
            "https://api.example@evil.example/",
            "https://evil.example@api.example/",
            "http://127.0.0.1/",
            "http://127.0.0.1:8081/",
            "/relative",
        ] {
            let Ok(uri) = bad.parse() else { continue };
            assert!(hosts.check(&uri).is_err(), "{bad}");
        }
        assert!(Hosts::from([""; 0]).check(&"https://api.example/".parse().unwrap()).is_err());
    }
}
