//! The hosts that tokens may be sent to.

use std::net::Ipv6Addr;
use std::sync::Arc;

use http::Uri;

use crate::server::is_loopback_host;
use crate::{Error, ErrorKind};

/// The hosts that a token may be sent to, over https; a loopback host may be called in cleartext.
///
/// `api.example` is that host on its standard port, `api.example:8443` on that one, and `*.example` any host below
/// `example`. `https://api.example/` is understood as `api.example`. With an entry that is no host, such as an address
/// with a path, no token is sent anywhere, and [`check`](Self::check) names the entry.
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
pub struct Hosts(Arc<[Entry]>);

#[derive(Clone, Debug)]
enum Entry {
    /// A host in lower case, and its port if one is named. An IPv6 address stands in brackets.
    Host(String, Option<u16>),
    /// Any host below this one.
    Below(String, Option<u16>),
    /// What is none, as it may be shown, and why.
    Wrong(String, &'static str),
}

impl Entry {
    fn new(text: &str) -> Self {
        Self::parse(text)
            .unwrap_or_else(|why| Self::Wrong(crate::Shown::name(&crate::shown::without_query(text)).to_string(), why))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim().to_ascii_lowercase();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => ("https", &*text),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !matches!(path, "" | "/") {
            return Err("a host has no path");
        }
        let (host, port) = split_port(authority).ok_or("its port is no number")?;
        let name = host.strip_prefix("*.").unwrap_or(host);
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let ip = name.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
        if name.is_empty() || !(name.bytes().all(legal) || ip.is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok())) {
            return Err("name one as in api.example, api.example:8443 or *.example");
        }
        match scheme {
            "https" => {}
            "http" if is_loopback_host(host) => {}
            _ => return Err("tokens go over https, and over http to this machine alone"),
        }
        // A port that the scheme implies is none to demand.
        let port = port.or((scheme == "http").then_some(80));
        Ok(if name == host { Self::Host(name.to_owned(), port) } else { Self::Below(name.to_owned(), port) })
    }

    fn allows(&self, host: &str, port: u16, standard: u16) -> bool {
        self.port_of(host, standard) == Some(port)
    }

    /// The port that is allowed of this host, if one is.
    fn port_of(&self, host: &str, standard: u16) -> Option<u16> {
        let (is_it, own) = match self {
            Self::Host(name, own) => (host == name, own),
            Self::Below(above, own) => {
                let below = host.strip_suffix(&**above).and_then(|below| below.strip_suffix('.'));
                (below.is_some_and(|below| !below.is_empty()), own)
            }
            Self::Wrong(..) => return None,
        };
        is_it.then(|| own.unwrap_or(standard))
    }
}

impl<S: AsRef<str>> FromIterator<S> for Hosts {
    fn from_iter<I: IntoIterator<Item = S>>(hosts: I) -> Self {
        Self(hosts.into_iter().map(|host| Entry::new(host.as_ref())).collect())
    }
}

impl<S: AsRef<str>, const N: usize> From<[S; N]> for Hosts {
    fn from(hosts: [S; N]) -> Self {
        hosts.iter().collect()
    }
}

impl<S: AsRef<str>> From<&[S]> for Hosts {
    fn from(hosts: &[S]) -> Self {
        hosts.iter().collect()
    }
}

impl<S: AsRef<str>> From<Vec<S>> for Hosts {
    fn from(hosts: Vec<S>) -> Self {
        hosts.iter().collect()
    }
}

impl<S: AsRef<str>> From<&Vec<S>> for Hosts {
    fn from(hosts: &Vec<S>) -> Self {
        hosts.iter().collect()
    }
}

impl From<&String> for Hosts {
    fn from(host: &String) -> Self {
        [host].into()
    }
}

impl From<&str> for Hosts {
    fn from(host: &str) -> Self {
        [host].into()
    }
}

impl From<String> for Hosts {
    fn from(host: String) -> Self {
        [host].into()
    }
}

impl Hosts {
    /// Refuses an address whose host is none of these, or that would be called in cleartext.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`]; for any address if an entry is no host.
    pub fn check(&self, uri: &Uri) -> Result<(), Error> {
        let wrong = |why: &str| {
            let shown = crate::shown::without_query(&uri.to_string());
            Error::new(ErrorKind::Config, format!("no token is sent to {shown}: {why}"))
        };
        for entry in self.0.iter() {
            if let Entry::Wrong(shown, why) = entry {
                return Err(wrong(&format!("{shown:?} among the allowed hosts is no host: {why}")));
            }
        }
        let Some(host) = uri.host().filter(|host| !host.is_empty()) else {
            return Err(wrong("it has no host; tokens are for addresses with scheme and host"));
        };
        let host = host.to_ascii_lowercase();
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
        if self.0.iter().any(|entry| entry.allows(&host, port, standard)) {
            return Ok(());
        }
        if self.0.is_empty() {
            return Err(wrong("no host is allowed"));
        }
        // Of the right host, it is the port that is another.
        match self.0.iter().find_map(|entry| entry.port_of(&host, standard)) {
            Some(own) => Err(wrong(&format!(
                "of this host port {own} is allowed, and not {port}: name the port too, as in {host}:{port}"
            ))),
            None => Err(wrong("it is not among the allowed hosts")),
        }
    }
}

/// A host and its port, if one is named; nothing if that is no port.
fn split_port(host: &str) -> Option<(&str, Option<u16>)> {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => Some((name, Some(port.parse().ok()?))),
        _ => Some((host, None)),
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

    #[test]
    fn what_is_pasted_as_a_host_is_understood_or_refused_by_name() {
        let check = |hosts: Hosts, uri: &str| hosts.check(&uri.parse().unwrap()).map_err(|error| error.to_string());
        for (host, uri) in [
            ("https://api.example", "https://api.example/x"),
            ("https://api.example/", "https://api.example/x"),
            (" HTTPS://API.example:8443/\n", "https://api.example:8443/x"),
            ("https://*.example", "https://a.example/"),
            ("http://localhost:8080/", "http://localhost:8080/"),
            ("http://[::1]", "http://[::1]/"),
            ("_dmarc.api.example", "https://_dmarc.api.example/"),
        ] {
            assert_eq!(check(host.into(), uri), Ok(()), "{host}");
        }
        for (host, says) in [
            ("api.example/v1", "\"api.example/v1\" among the allowed hosts is no host: a host has no path"),
            ("https://api.example/v1?key=secret", "\"https://api.example/v1\" among the allowed hosts is no host"),
            ("http://api.example", "tokens go over https, and over http to this machine alone"),
            ("ftp://api.example", "tokens go over https, and over http to this machine alone"),
            ("api.example:https", "its port is no number"),
            ("api.example:65536", "its port is no number"),
            ("user@api.example", "name one as in"),
            ("*", "name one as in"),
            ("a.*.example", "name one as in"),
            ("[::1", "name one as in"),
            ("", "\"\" among the allowed hosts is no host: name one as in"),
        ] {
            let error = check(vec!["good.example", host].into(), "https://good.example/").unwrap_err();
            assert!(error.contains(says) && !error.contains("secret"), "{host}: {error}");
        }
        for (host, uri, says) in [
            ("127.0.0.1", "http://127.0.0.1:9797/", "of this host port 80 is allowed, and not 9797: name the port too"),
            ("*.example", "https://a.example:8443/", "port 443 is allowed, and not 8443"),
            ("api.example:8443", "https://api.example/", "port 8443 is allowed, and not 443"),
            ("api.example", "https://api.example.evil.example/", "it is not among the allowed hosts"),
        ] {
            let error = check(host.into(), uri).unwrap_err();
            assert!(error.contains(says), "{host}: {error}");
        }
        let error = check("api.example".into(), "/a.b.Service/Method").unwrap_err();
        assert!(error.contains("it has no host"), "{error}");
    }
}
