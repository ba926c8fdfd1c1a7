//! The redirect URI of an installed application, before its port is known (RFC 8252, section 7.3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use url::Url;

use crate::Error;

/// The redirect URI, but for its port.
#[derive(Clone)]
pub(super) struct Redirect {
    pub(super) host: Host,
    /// 0 for any free one.
    pub(super) port: u16,
    pub(super) path: String,
    pub(super) trailing_slash: bool,
    /// As it was registered, which may leave out the port 80 or have a query.
    pub(super) registered: Option<String>,
    /// Whether the server knows no other ports than those registered.
    pub(super) fixed: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Host {
    Localhost,
    Ip(IpAddr),
}

impl Host {
    pub(super) fn parse(host: &str) -> Option<Self> {
        if host == "localhost" {
            return Some(Self::Localhost);
        }
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        bare.parse().ok().filter(IpAddr::is_loopback).map(Self::Ip)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Localhost => f.write_str("localhost"),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl Default for Redirect {
    /// `http://127.0.0.1:{any free port}/`.
    fn default() -> Self {
        Self {
            host: Host::Ip(Ipv4Addr::LOCALHOST.into()),
            port: 0,
            path: "/".into(),
            trailing_slash: true,
            registered: None,
            fixed: false,
        }
    }
}

impl Redirect {
    /// The redirect URI with this port, and the same parsed.
    pub(super) fn uri(&self, port: u16) -> Result<(String, Url), Error> {
        let Self { host, path, .. } = self;
        let path = if self.trailing_slash { path } else { path.trim_end_matches('/') };
        let start = format!("http://{host}");
        let uri = match self.registered.as_deref() {
            Some(uri) if port == self.port => uri.to_owned(),
            // Registered without a port: any will do (RFC 8252, section 7.3).
            Some(uri) if self.port == 0 && uri.starts_with(&start) => {
                format!("{start}:{port}{}", uri.get(start.len()..).unwrap_or_default())
            }
            _ => format!("{start}:{port}{path}"),
        };
        let url = Url::parse(&uri).map_err(|e| Error::config("the redirect URI is no address").with_source(e))?;
        if self.registered.is_none() && (path.starts_with("//") || path.contains("://")) {
            let path = crate::Shown::name(path.trim_start_matches('/'));
            return Err(Error::config(format!(
                "the path {path:?} of the redirect URI: it is a whole address; name the path alone, such as /callback, or \
                 call redirect_uri"
            )));
        }
        // A browser asks for the path in its normal form, and servers compare it as it is written.
        let normal = if path.is_empty() { "/" } else { path };
        if self.registered.is_none() && (url.path() != normal || url.query().is_some() || url.fragment().is_some()) {
            let path = crate::Shown::name(path);
            let why = "it holds a query, a fragment, or what a browser would write in another way";
            return Err(Error::config(format!("the path {path:?} of the redirect URI: {why}")));
        }
        Ok((uri, url))
    }
}

impl std::fmt::Debug for Redirect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redirect")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("path", &crate::Shown::name(&self.path))
            .field("registered", &self.registered.as_deref().map(crate::Shown::name))
            .finish_non_exhaustive()
    }
}
