//! The proxies of requests: [`Proxies`], as the environment names them, and [`Proxy`], one of them.
//!
//! Every HTTP client reads these variables in a way of its own. Here they are read once, as curl reads them, for all
//! drivers; a driver hands its client the result and keeps it from looking for itself.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fmt::Write as _;
use std::net::IpAddr;

use http::Uri;

use crate::server::is_loopback_host;
use crate::{Error, ErrorKind, Secret};

/// The schemes of proxies and their ports, where an address names none.
const SCHEMES: [(&str, u16); 6] =
    [("http", 80), ("https", 443), ("socks4", 1080), ("socks4a", 1080), ("socks5", 1080), ("socks5h", 1080)];

/// The proxies of a program: one for https, one for cleartext, and the addresses that need none.
///
/// ```
/// use grantflow::proxy::Proxies;
///
/// let variables = [("HTTPS_PROXY", "proxy.example:3128"), ("NO_PROXY", ".corp.example, 10.0.0.0/8")];
/// let read = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
/// let proxies = Proxies::from_env(read)?;
/// let proxy = proxies.of(&"https://as.example/token".parse()?).unwrap();
/// assert_eq!(proxy.to_string(), "http://proxy.example:3128, as HTTPS_PROXY says");
/// assert!(proxies.of(&"https://login.corp.example/".parse()?).is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Proxies {
    https: Option<Proxy>,
    http: Option<Proxy>,
    direct: Vec<Direct>,
}

impl Proxies {
    /// The proxies that the environment names; `read` reads a variable.
    ///
    /// - For https: `https_proxy` or `HTTPS_PROXY`; else `all_proxy` or `ALL_PROXY`. In cleartext: `http_proxy`, in
    ///   lower case alone, since a web server hands a header of its callers to programs as `HTTP_PROXY`; else
    ///   `all_proxy` or `ALL_PROXY`. Of two spellings the one in lower case counts; an empty one counts as missing.
    /// - A value is what [`Proxy::new`] takes.
    /// - `no_proxy` or `NO_PROXY` lists what is called directly, separated by commas or blanks: a host name, which
    ///   stands for all names below it too, with or without a dot in front; an IP address, or a range of them such as
    ///   `10.0.0.0/8`; `*` for all. Beyond what curl takes, `*.example` stands for the names below `example` alone,
    ///   and a port behind a host (`example:8443`, `[fd00::1]:8443`) for that one alone.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`] if a variable that counts names no proxy that can be used. Its value is not
    /// shown: it may hold a password.
    pub fn from_env(read: impl Fn(&'static str) -> Option<OsString>) -> Result<Self, Error> {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| read(name).filter(|value| !value.is_empty()).map(|value| (*name, value)))
        };
        let proxy =
            |found: Option<(&'static str, OsString)>| found.map(|(name, value)| Proxy::named(name, &value)).transpose();
        let none = first(&["no_proxy", "NO_PROXY"]).map(|(_, value)| value.to_string_lossy().into_owned());
        Ok(Self {
            https: proxy(first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]))?,
            http: proxy(first(&["http_proxy", "all_proxy", "ALL_PROXY"]))?,
            direct: none.unwrap_or_default().split([',', ' ', '\t']).filter_map(Direct::new).collect(),
        })
    }

    /// This proxy for every request.
    pub fn all(proxy: Proxy) -> Self {
        Self { https: Some(proxy.clone()), http: Some(proxy), direct: Vec::new() }
    }

    /// The proxy for requests to this address; `None` if they are made directly, as those to loopback always are.
    pub fn of(&self, target: &Uri) -> Option<&Proxy> {
        let (proxy, standard) = match target.scheme_str() {
            Some("https") => (self.https.as_ref()?, 443),
            _ => (self.http.as_ref()?, 80),
        };
        let port = target.port_u16().unwrap_or(standard);
        let host = target.host()?.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        if is_loopback_host(host) {
            return None;
        }
        let host = host.trim_matches(['[', ']']);
        let address = host.parse().ok();
        (!self.direct.iter().any(|direct| direct.covers(host, address, port))).then_some(proxy)
    }
}

/// The address of a proxy. `Debug` and `Display` show it without user name and password.
///
/// ```
/// use grantflow::proxy::Proxy;
///
/// let proxy = Proxy::new("http://me:secret@proxy.example:3128")?;
/// assert_eq!(proxy.to_string(), "http://proxy.example:3128");
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct Proxy {
    scheme: &'static str,
    /// An IPv6 address stands in brackets.
    host: Box<str>,
    port: u16,
    /// `user:password`, encoded as a URL holds it.
    user: Option<Secret>,
    variable: Option<&'static str>,
}

impl Proxy {
    /// A proxy from its address, such as `http://user:password@proxy.example:3128`. The scheme is `http` (the default),
    /// `https`, `socks4`, `socks4a`, `socks5` or `socks5h`; the default port is its usual one: 80, 443 or 1080.
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::Config`], without the address, if it is no address of a proxy.
    pub fn new(address: &str) -> Result<Self, Error> {
        Self::read(address).map_err(|why| Error::new(ErrorKind::Config, format!("the proxy's address {why}")))
    }

    fn named(variable: &'static str, value: &OsStr) -> Result<Self, Error> {
        let read = value.to_str().ok_or_else(|| "is no UTF-8".to_owned()).and_then(Self::read);
        let wrong = |why: String| {
            let what = format!("the variable {variable} names no proxy that can be used: its value {why}");
            Error::new(ErrorKind::Config, what)
        };
        Ok(Self { variable: Some(variable), ..read.map_err(wrong)? })
    }

    /// Reads an address, or says in a few words that follow "the address" why it is none, without showing any of it.
    fn read(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{why}; such as http://proxy.example:3128");
        let text = text.trim();
        if text.len() > 1 && ['"', '\''].iter().any(|quote| text.starts_with(*quote) && text.ends_with(*quote)) {
            return Err(wrong("stands in quotes: take them away"));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let known = SCHEMES.iter().find(|(known, _)| scheme.eq_ignore_ascii_case(known));
        let Some((scheme, standard)) = known else {
            let known = SCHEMES.map(|(known, _)| known).join(", ");
            return Err(wrong(&format!("begins with none of the schemes {known}")));
        };
        let (authority, path) =
            rest.split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len())).unwrap_or((rest, ""));
        if !matches!(path, "" | "/") {
            return Err(wrong("has a path"));
        }
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(Secret::from(encoded(user))), place),
            None => (None, authority),
        };
        let (host, port) = split_port(place);
        let port = match port {
            None => *standard,
            Some(port) => {
                port.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong("has no number for a port"))?
            }
        };
        let whole = format!("{scheme}://{host}:{port}/").parse::<Uri>();
        if host.is_empty() || !host.is_ascii() || !whole.is_ok_and(|uri| uri.host() == Some(host)) {
            return Err(wrong("has no name of a host"));
        }
        Ok(Self { scheme, host: host.into(), port, user, variable: None })
    }

    /// The whole address, with user name and password, in the form of a URL: for an HTTP client.
    pub fn url(&self) -> Secret {
        let user = self.user.as_ref().map_or("", Secret::expose);
        let at = if self.user.is_some() { "@" } else { "" };
        let Self { scheme, host, port, .. } = self;
        Secret::from(format!("{scheme}://{user}{at}{host}:{port}"))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, crate::Shown::name(&self.host), self.port)?;
        match self.variable {
            Some(variable) => write!(f, ", as {variable} says"),
            None => Ok(()),
        }
    }
}

/// Of what is called directly, which a person has typed, shows how much it is.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Proxies");
        shown.field("https", &self.https).field("http", &self.http).field("direct", &self.direct.len()).finish()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// User name and password as a URL holds them: people write them plain, or encoded.
fn encoded(user: &str) -> String {
    let hex = |at: usize| user.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    let mut text = String::with_capacity(user.len().saturating_mul(3));
    for (at, byte) in user.bytes().enumerate() {
        let is_escape = byte == b'%' && hex(at.saturating_add(1)) && hex(at.saturating_add(2));
        if is_escape || byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// A host and the text of its port, if there is one. An IPv6 address with a port stands in brackets.
fn split_port(place: &str) -> (&str, Option<&str>) {
    match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') && (host.ends_with(']') || !host.contains(':')) => (host, Some(port)),
        _ => (place, None),
    }
}

/// What is called without a proxy.
#[derive(Clone, Debug, PartialEq)]
enum Direct {
    All,
    /// A host and those below it.
    Name(String, Option<u16>),
    /// Those below it alone.
    Below(String, Option<u16>),
    Address(IpAddr, Option<u16>),
    /// All whose first bits are these.
    Range(IpAddr, u32),
}

impl Direct {
    fn new(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::All);
        }
        let address = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        if let Some((start, bits)) = entry.split_once('/') {
            return Some(Self::Range(address(start)?, bits.parse().ok()?));
        }
        let (host, port) = split_port(entry);
        // What stands behind the colon is no port: then this is no host either.
        let port = port.map(str::parse).transpose().ok()?;
        if let Some(address) = address(host) {
            return Some(Self::Address(address, port));
        }
        let host = host.to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        match (host.strip_prefix("*."), host.strip_prefix('.').unwrap_or(host)) {
            (Some(above), _) if !above.is_empty() => Some(Self::Below(above.to_owned(), port)),
            (_, "") => None,
            (_, name) => Some(Self::Name(name.to_owned(), port)),
        }
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        let here = |only: &Option<u16>| only.is_none_or(|only| only == port);
        let below = |name: &str| host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        match self {
            Self::All => true,
            Self::Name(name, only) => address.is_none() && here(only) && (host == name || below(name)),
            Self::Below(name, only) => address.is_none() && here(only) && below(name),
            Self::Address(known, only) => here(only) && address == Some(*known),
            Self::Range(start, bits) => match (start, address) {
                (IpAddr::V4(start), Some(IpAddr::V4(address))) => {
                    let shift = 32_u32.checked_sub(*bits);
                    let first = |address: u32| shift.map(|shift| address.checked_shr(shift).unwrap_or(0));
                    shift.is_some() && first(start.to_bits()) == first(address.to_bits())
                }
                (IpAddr::V6(start), Some(IpAddr::V6(address))) => {
                    let shift = 128_u32.checked_sub(*bits);
                    let first = |address: u128| shift.map(|shift| address.checked_shr(shift).unwrap_or(0));
                    shift.is_some() && first(start.to_bits()) == first(address.to_bits())
                }
                _ => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, Error> {
        Proxies::from_env(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
    }

    fn chosen(variables: &[(&str, &str)], target: &str) -> String {
        let proxies = proxies(variables).unwrap();
        proxies.of(&target.parse().unwrap()).map_or("direct".into(), |proxy| proxy.url().expose().to_owned())
    }

    #[test]
    fn the_variables_count_in_the_order_of_curl() {
        for (variables, https, http) in [
            (&[][..], "direct", "direct"),
            (&[("https_proxy", "http://a:1"), ("HTTPS_PROXY", "http://b:1")], "http://a:1", "direct"),
            (&[("HTTPS_PROXY", "http://b:1"), ("all_proxy", "http://c:1")], "http://b:1", "http://c:1"),
            (&[("https_proxy", ""), ("HTTPS_PROXY", "http://b:1")], "http://b:1", "direct"),
            (&[("all_proxy", "socks5h://c"), ("ALL_PROXY", "http://d:1")], "socks5h://c:1080", "socks5h://c:1080"),
            (&[("ALL_PROXY", "http://d:1"), ("http_proxy", "http://e:1")], "http://d:1", "http://e:1"),
            (&[("HTTP_PROXY", "http://evil:1")], "direct", "direct"),
            (&[("http_proxy", "http://e:1")], "direct", "http://e:1"),
        ] {
            assert_eq!(chosen(variables, "https://as.example/"), https, "{variables:?}");
            assert_eq!(chosen(variables, "http://as.example/"), http, "{variables:?}");
        }
    }

    #[test]
    fn an_address_is_read_as_people_write_it() {
        for (written, read) in [
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("proxy.example", "http://proxy.example:80"),
            (" HTTP://proxy.example:3128/ ", "http://proxy.example:3128"),
            ("https://proxy.example", "https://proxy.example:443"),
            ("socks5://proxy.example", "socks5://proxy.example:1080"),
            ("socks4a://proxy.example:9", "socks4a://proxy.example:9"),
            ("http://[::1]:3128", "http://[::1]:3128"),
            ("[fd00::1]", "http://[fd00::1]:80"),
            ("10.0.0.1:8080", "http://10.0.0.1:8080"),
            ("user:pass@proxy.example:1", "http://user:pass@proxy.example:1"),
            ("http://user@proxy.example:1", "http://user@proxy.example:1"),
            ("http://user:p@ss%40w%rd ü@proxy.example:1", "http://user:p%40ss%40w%25rd%20%C3%BC@proxy.example:1"),
        ] {
            let proxy = Proxy::new(written).expect(written);
            assert_eq!(proxy.url().expose(), read, "{written}");
            let shown = format!("{proxy} {proxy:?}");
            assert!(!shown.contains("user") && !shown.contains("ss"), "{shown}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_an_error_that_names_the_variable_and_shows_no_value() {
        for value in [
            "ftp://user:canary@proxy.example:1",
            "http://user:canary@",
            "http://user:canary@proxy.example:x",
            "http://user:canary@proxy.example:0",
            "http://user:canary@proxy.example:65536",
            "http://canary proxy",
            "http://proxy.example/canary.pac",
            "\"http://canary.example:1\"",
            "http://",
            ":3128",
            " ",
            "http://canäry",
        ] {
            for name in ["HTTPS_PROXY", "all_proxy", "http_proxy"] {
                let error = proxies(&[(name, value), ("ALL_PROXY", "http://good:1")]).expect_err(value);
                let text = format!("{error} {error:?}");
                assert!(error.kind() == ErrorKind::Config && text.contains(name), "{value}: {text}");
                assert!(text.contains("http://proxy.example:3128"), "{text}");
                assert!(!text.contains("canary") && !text.contains("user"), "{text}");
            }
            assert!(!Proxy::new(value).unwrap_err().to_string().contains("canary"), "{value}");
        }
        // What does not count is not looked at.
        assert!(proxies(&[("https_proxy", "http://a:1"), ("HTTPS_PROXY", "ftp://x"), ("HTTP_PROXY", "?")]).is_ok());
    }

    #[test]
    fn what_is_called_directly_is_read_as_curl_reads_it() {
        let both =
            |list: &str, target: &str| chosen(&[("ALL_PROXY", "http://p:1"), ("NO_PROXY", list)], target) == "direct";
        let (host, other) = ("https://api.corp.example/", "https://as.example/");
        for list in [
            "api.corp.example",
            "corp.example",
            ".corp.example",
            "API.Corp.Example",
            "corp.example.",
            "localhost, .corp.example",
            "localhost .corp.example",
            " corp.example ",
            "localhost,,corp.example,",
            "*.corp.example",
            "corp.example:443",
        ] {
            assert!(both(list, host), "{list:?}");
            assert!(both(list, "https://API.corp.example.:443/"), "{list:?}");
            assert!(!both(list, other), "{list:?}");
        }
        for list in
            ["", ",", "orp.example", "api", "corp.example:8443", "*.api.corp.example", "corp.example:x", "**", "."]
        {
            assert!(!both(list, host), "{list:?}");
        }
        assert!(both("*", host) && both("x, *", other));
        assert!(
            both("corp.example:8443", "https://corp.example:8443/") && both("corp.example", "https://corp.example/")
        );
        assert!(!both("*.corp.example", "https://corp.example/"), "those below it alone");
        for (list, yes, no) in [
            ("10.0.0.0/8", "https://10.1.2.3/", "https://11.1.2.3/"),
            ("10.1.2.3", "https://10.1.2.3/", "https://10.1.2.4/"),
            ("10.1.2.3:8443", "https://10.1.2.3:8443/", "https://10.1.2.3/"),
            ("192.168.1.128/25", "https://192.168.1.200/", "https://192.168.1.100/"),
            ("0.0.0.0/0", "https://8.8.8.8/", "https://[fd00::1]/"),
            ("fd00::1", "https://[fd00::1]/", "https://[fd00::2]/"),
            ("[fd00::1]", "https://[fd00:0::1]:8443/", "https://[fd00::2]/"),
            ("[fd00::1]:8443", "https://[fd00::1]:8443/", "https://[fd00::1]/"),
            ("fd00::/8", "https://[fd12::1]/", "https://[fe80::1]/"),
            ("[fd00::]/8", "https://[fd12::1]/", "https://[fe80::1]/"),
            ("1.2.3.4/33,1.2.3.4", "https://1.2.3.4/", "https://1.2.3.5/"),
            ("3.4,1.2.3.4", "https://1.2.3.4/", "https://2.2.3.4/"),
        ] {
            assert!(both(list, yes), "{list}: {yes}");
            assert!(!both(list, no), "{list}: {no}");
        }
        for loopback in ["https://localhost:8443/", "http://127.0.0.1:1/", "https://[::1]/", "https://LOCALHOST./"] {
            assert!(both("", loopback), "{loopback}");
        }
        let lower = [("ALL_PROXY", "http://p:1"), ("no_proxy", "a.example"), ("NO_PROXY", "as.example")];
        assert_eq!(chosen(&lower, other), "http://p:1", "the one in lower case counts");
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_no_text_is_an_error() {
        use std::os::unix::ffi::OsStringExt as _;
        let read = |name: &str| (name == "https_proxy").then(|| OsString::from_vec(vec![0xff]));
        let error = Proxies::from_env(read).unwrap_err();
        assert!(error.to_string().contains("https_proxy") && error.to_string().contains("UTF-8"), "{error}");
    }
}
