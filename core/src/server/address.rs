//! Issuers and endpoints: addresses that are checked before anything is sent to them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::Error;
use crate::machine::Reach;

/// The parts of the name that the issuers of many tenants share: before the claim that names the tenant, the claim, which
/// stands in braces, and after it.
pub(crate) fn tenant_parts(name: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = name.split_once('{')?;
    let (claim, after) = rest.split_once('}')?;
    let sound = before.starts_with("https://") && !claim.is_empty() && !after.contains(['{', '}']);
    sound.then_some((before, claim, after))
}

/// The identifier of an authorization server, such as `https://accounts.google.com`.
///
/// Two issuers are equal only if their texts are, character by character: no case is folded, no slash trimmed, no
/// default port removed (RFC 8414, section 3.3; RFC 9207, section 2.4).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Issuer(Arc<Box<str>>);

impl Issuer {
    /// An issuer from its text: an https address, or an http one of a loopback host, without user, query and fragment.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, Error> {
        let text = text.into();
        let url = checked_url("the issuer", &text)?;
        if url.query().is_some() || text.contains('?') {
            return Err(Error::config(format!("the issuer {}: it has a query", crate::shown::without_query(&text))));
        }
        if let Some((before, after)) = text.split_once("/.well-known/") {
            // What stands behind the name of the document is the issuer's own path (RFC 8414, section 3.1).
            let path = after.find('/').and_then(|slash| after.get(slash..)).filter(|path| !path.starts_with("//"));
            let issuer = format!("{before}{}", path.unwrap_or_default());
            return Err(Error::config(format!(
                "{} is the address of a metadata document and no issuer: the issuer is {}, as the document itself names it",
                crate::shown::without_query(&text),
                crate::shown::without_query(&issuer)
            )));
        }
        Ok(Self(Arc::new(text)))
    }

    /// The issuer's text, as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One that is known to be right.
    pub(super) fn known(text: &'static str) -> Self {
        Self(Arc::new(text.into()))
    }

    /// The issuer of a server of which only an endpoint is known: its origin.
    pub(crate) fn of_origin(address: &str) -> Result<Self, Error> {
        let url = Url::parse(address).map_err(|e| Error::config("it is no absolute address").with_source(e))?;
        Self::new(url.origin().ascii_serialization())
    }

    /// The address of its metadata: `suffix` between host and path (RFC 8414, section 3.1).
    pub(super) fn inserted(&self, suffix: &str) -> Result<Endpoint, Error> {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("https", &self.0));
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = path.strip_suffix('/').unwrap_or(path);
        Endpoint::new(&format!("{scheme}://{host}/.well-known/{suffix}{path}"))
    }

    /// The address of its metadata: `suffix` behind the path (OpenID Connect Discovery, section 4).
    pub(super) fn appended(&self, suffix: &str) -> Result<Endpoint, Error> {
        let base = self.0.strip_suffix('/').unwrap_or(&self.0);
        Endpoint::new(&format!("{base}/.well-known/{suffix}"))
    }
}

impl TryFrom<String> for Issuer {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl From<Issuer> for String {
    fn from(issuer: Issuer) -> Self {
        issuer.as_str().to_owned()
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::shown::without_query(&self.0))
    }
}

/// An address that requests may be sent to: https, or http on a loopback host; without user
/// information and fragment. A query is kept (RFC 6749, sections 3.1 and 3.2).
///
/// An endpoint has a [`Reach`], which is serialized with it. It is [inherited](Self::of_stranger) from the document
/// that names the endpoint.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    address: Arc<str>,
    reach: Reach,
}

/// Who named an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Namer {
    /// Those who configured the program, or a document of a server that they have chosen.
    Configured,
    /// Nobody whom they have chosen: it must be global.
    Stranger,
    /// A stranger on this machine: it must be global, or on this machine too.
    StrangerHere,
}

/// What a serialized endpoint of a stranger begins with, which no address does.
const STRANGER: &str = "global ";

impl Endpoint {
    /// An endpoint from its address.
    pub fn new(address: &str) -> Result<Self, Error> {
        let url = checked_url("the endpoint", address)?;
        let reach = if is_loopback(&url) { Reach::Local } else { Reach::Public };
        Ok(Self { address: url.as_str().into(), reach })
    }

    /// An endpoint whose address comes from a stranger: not from the program's configuration, but for example from a
    /// challenge of a resource server (RFC 9728, section 5.1). Its requests go to global addresses alone
    /// ([`Reach::Global`]), so that a stranger cannot have requests sent into the program's own network.
    ///
    /// ```
    /// use grantflow::Endpoint;
    ///
    /// assert!(Endpoint::of_stranger("https://api.example/.well-known/oauth-protected-resource").is_ok());
    /// assert!(Endpoint::of_stranger("https://169.254.169.254/latest/meta-data").is_err());
    /// assert!(Endpoint::of_stranger("http://localhost:8080/token").is_err());
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new); and an error if the host is known not to be on the Internet: see
    /// [`Reach::permits_host`].
    pub fn of_stranger(address: &str) -> Result<Self, Error> {
        Self::new(address)?.into_global()
    }

    /// The same one, as this one names it.
    pub(crate) fn named_by(self, namer: Namer) -> Result<Self, Error> {
        match namer {
            Namer::Configured => Ok(self),
            Namer::StrangerHere if self.is_local() => Ok(self),
            Namer::Stranger | Namer::StrangerHere => self.into_global(),
        }
    }

    /// The same one, as a stranger names it.
    fn into_global(self) -> Result<Self, Error> {
        let url = Url::parse(&self.address).ok();
        let permitted = url.as_ref().and_then(Url::host_str).is_some_and(|host| Reach::Global.permits_host(host));
        if self.reach == Reach::Local || !permitted {
            let address = crate::shown::without_query(&self.address);
            return Err(Error::config(format!("the endpoint {address}: a stranger named it, and it is not global")));
        }
        Ok(Self { reach: Reach::Global, ..self })
    }

    /// One that is known to be right.
    pub(crate) fn known(address: &'static str) -> Self {
        Self { address: address.into(), reach: Reach::Public }
    }

    /// An address of the metadata server, which has no TLS: a caller that names another host answers for it.
    pub(crate) fn metadata_server(address: &str) -> Result<Self, Error> {
        let wrong = || Error::config("the metadata server's host is no host, with a port or without");
        // Only a host and a port may stand between `http://` and the next slash.
        let authority = address.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        if authority.is_empty() || !authority.bytes().all(legal) {
            return Err(wrong());
        }
        let url = Url::parse(address).map_err(|e| wrong().with_source(e))?;
        Ok(Self { address: url.as_str().into(), reach: Reach::Local })
    }

    /// The endpoint's address, in its normal form.
    pub fn as_str(&self) -> &str {
        &self.address
    }

    /// Whether it is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.reach == Reach::Local
    }

    /// The addresses that requests to this endpoint may go to.
    pub fn reach(&self) -> Reach {
        self.reach
    }
}

impl TryFrom<String> for Endpoint {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        match text.strip_prefix(STRANGER) {
            Some(address) => Self::of_stranger(address),
            None => Self::new(&text),
        }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        match endpoint.reach {
            Reach::Global => format!("{STRANGER}{}", endpoint.address),
            _ => endpoint.as_str().to_owned(),
        }
    }
}

/// The address without its query.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::shown::without_query(&self.address))
    }
}

fn checked_url(what: &str, text: &str) -> Result<Url, Error> {
    let wrong = |why: &str| Error::config(format!("{what} {}: {why}", crate::shown::without_query(text)));
    // `Url` would silently drop or mend these.
    if text.bytes().any(|byte| byte <= b' ' || matches!(byte, b'\\' | b'"' | b'<' | b'>' | 0x7f..)) {
        return Err(wrong("it holds a space, a backslash, a quote or a character outside of ASCII"));
    }
    let url = Url::parse(text).map_err(|e| wrong("it is no absolute address").with_source(e))?;
    let secure = match url.scheme() {
        "https" => true,
        "http" => is_loopback(&url),
        _ => false,
    };
    if !secure || !text.contains("://") {
        return Err(wrong("it must be https, or http on a loopback address"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it holds a user name or password"));
    }
    if url.fragment().is_some() {
        return Err(wrong("it has a fragment"));
    }
    Ok(url)
}

/// Whether a host is this machine by name or address.
pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(is_loopback_host)
}

/// The same of an address.
pub(crate) fn is_loopback_address(address: &str) -> bool {
    Url::parse(address).is_ok_and(|url| is_loopback(&url))
}

/// Whether a host, as it stands in an address, is this machine.
pub(crate) fn is_loopback_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ip) => ip.parse().is_ok_and(|ip: Ipv6Addr| ip.is_loopback()),
        None => matches!(host, "127.0.0.1" | "localhost") || host.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, ServerMetadata};

    #[test]
    fn finds_metadata_where_the_standards_put_it() {
        for (issuer, oauth, openid) in [
            ("https://example.com", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"),
            ("https://example.com/", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"),
            (
                "https://example.com/issuer1",
                "/.well-known/oauth-authorization-server/issuer1",
                "/issuer1/.well-known/openid-configuration",
            ),
            (
                "https://example.com/a/b/",
                "/.well-known/oauth-authorization-server/a/b",
                "/a/b/.well-known/openid-configuration",
            ),
        ] {
            let issuer = Issuer::new(issuer).unwrap();
            let found = [issuer.inserted("oauth-authorization-server"), issuer.appended("openid-configuration")];
            let found = found.map(|endpoint| endpoint.unwrap().as_str().replace("https://example.com", ""));
            assert_eq!(found, [oauth, openid]);
        }
        let issuer = Issuer::new("https://example.com:8443/t").unwrap();
        assert_eq!(
            issuer.inserted("oauth-authorization-server").unwrap().as_str(),
            "https://example.com:8443/.well-known/oauth-authorization-server/t"
        );
    }

    #[test]
    fn refuses_addresses_that_lead_elsewhere_than_they_look() {
        for address in [
            "http://as.example/token",
            "ftp://as.example",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "https:/as.example",
            "https://user@as.example",
            "https://user:pw@as.example",
            "https://as.example#x",
            "https://as.example\\@evil.example",
            "https://as.exa mple",
            "https://as.example/\n",
            "https://as.example/\"",
            "https://bücher.example",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "a:$(calc)",
            "-flag",
            "",
        ] {
            assert!(Endpoint::new(address).is_err(), "{address}");
            assert!(Issuer::new(address).is_err(), "{address}");
        }
        for address in ["http://127.0.0.1:8080/t", "http://[::1]/t", "http://localhost:1/t", "https://as.example/t?x=y"]
        {
            assert!(Endpoint::new(address).is_ok(), "{address}");
        }
        assert!(Issuer::new("https://as.example?x").is_err());
    }

    #[test]
    fn an_endpoint_of_a_stranger_is_global_and_stays_so_when_it_is_serialized() {
        let endpoint = Endpoint::of_stranger("https://as.example/token?x=y").unwrap();
        assert_eq!(endpoint.reach(), Reach::Global);
        let text = serde_json::to_string(&endpoint).unwrap();
        let again: Endpoint = serde_json::from_str(&text).unwrap();
        assert_eq!((again.reach(), again.as_str()), (Reach::Global, "https://as.example/token?x=y"));
        assert!(again == endpoint && again != Endpoint::new("https://as.example/token?x=y").unwrap());
        // Neither does a release that knows of no reach forget it.
        assert!(Endpoint::new(&serde_json::from_str::<String>(&text).unwrap()).is_err());
        for (address, reach) in [("https://as.example/token", Reach::Public), ("http://localhost/token", Reach::Local)]
        {
            let endpoint = Endpoint::new(address).unwrap();
            let text = serde_json::to_string(&endpoint).unwrap();
            assert_eq!(text, format!("\"{address}\""));
            assert_eq!(serde_json::from_str::<Endpoint>(&text).unwrap().reach(), reach);
        }
        for inside in [
            "http://127.0.0.1/",
            "https://localhost/",
            "https://a.localhost/",
            "https://10.0.0.1/",
            "https://0x0a.1/",
            "https://[::ffff:10.0.0.1]/",
            "https://[fd00::1]:8443/",
            "https://metadata.google.internal/",
            "ftp://as.example/",
        ] {
            assert!(Endpoint::of_stranger(inside).is_err(), "{inside}");
            let text = serde_json::to_string(&format!("global {inside}")).unwrap();
            assert!(serde_json::from_str::<Endpoint>(&text).is_err(), "{inside}");
        }
    }

    #[test]
    fn metadata_of_another_issuer_is_refused_whole() {
        let issuer = Issuer::new("https://as.example").unwrap();
        for named in [
            "https://as.example/",
            "HTTPS://as.example",
            "https://AS.example",
            "https://as.example:443",
            "https://%61s.example",
            "https://evil.example",
        ] {
            let json = serde_json::json!({"issuer": named, "token_endpoint": "https://as.example/token"});
            let error = ServerMetadata::from_json(json.to_string().as_bytes(), &issuer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Issuer, "{named}");
        }
    }
}
