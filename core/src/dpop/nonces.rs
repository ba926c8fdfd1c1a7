//! The nonces that servers gave for proofs.

use std::fmt;

use http::{HeaderMap, StatusCode, Uri};

use super::nonce_in;
use crate::Challenge;

/// Of how many origins the nonces are kept.
const MAX_ORIGINS: usize = 256;

/// The nonces that resource servers gave for proofs, each for its own origin alone (RFC 9449, sections 8.2 and 9): for
/// programs that send requests with [bound](crate::Token::dpop_key) tokens themselves.
///
/// ```
/// # use grantflow::dpop::DpopNonces;
/// # use http::{HeaderMap, StatusCode, Uri};
/// let mut nonces = DpopNonces::default();
/// let uri: Uri = "https://api.example/orders".parse()?;
/// let mut headers = HeaderMap::new();
/// headers.insert("www-authenticate", r#"DPoP error="use_dpop_nonce""#.parse()?);
/// headers.insert("dpop-nonce", "eyJ7S_zG.eyJH0-Z.HX4w-7v".parse()?);
/// assert!(nonces.learn(&uri, StatusCode::UNAUTHORIZED, &headers), "send it once more, with a new proof");
/// assert_eq!(nonces.get(&uri), Some("eyJ7S_zG.eyJH0-Z.HX4w-7v"));
/// assert_eq!(nonces.get(&"https://api.example:8443/orders".parse()?), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct DpopNonces(Vec<(Box<str>, Box<str>)>);

impl DpopNonces {
    /// The newest nonce of the origin of this address.
    pub fn get(&self, uri: &Uri) -> Option<&str> {
        if self.0.is_empty() {
            return None;
        }
        let origin = origin(uri)?;
        self.0.iter().find(|(known, _)| **known == *origin).map(|(_, nonce)| &**nonce)
    }

    /// Keeps the nonce of an answer from this address, whatever its status. Returns whether the answer asks for the
    /// same request with that nonce: by status 401 and the error `use_dpop_nonce`. Repeat a request once for this.
    pub fn learn(&mut self, uri: &Uri, status: StatusCode, headers: &HeaderMap) -> bool {
        let (Some(nonce), Some(origin)) = (nonce_in(headers), origin(uri)) else { return false };
        match self.0.iter_mut().find(|(known, _)| **known == *origin) {
            Some((_, known)) if **known == *nonce => {}
            Some((_, known)) => *known = nonce.into(),
            None => {
                if self.0.len() >= MAX_ORIGINS {
                    self.0.remove(0);
                }
                self.0.push((origin.into(), nonce.into()));
            }
        }
        let asks = |challenge: &Challenge| challenge.is("DPoP") && challenge.error() == Some("use_dpop_nonce");
        status == StatusCode::UNAUTHORIZED && Challenge::all(headers).iter().any(asks)
    }
}

impl fmt::Debug for DpopNonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DpopNonces({} origins)", self.0.len())
    }
}

/// Scheme, host and port.
fn origin(uri: &Uri) -> Option<String> {
    let (scheme, host) = (uri.scheme_str()?.to_ascii_lowercase(), uri.host()?.to_ascii_lowercase());
    let port = uri.port_u16().unwrap_or(if scheme == "http" { 80 } else { 443 });
    Some(format!("{scheme}://{host}:{port}"))
}
