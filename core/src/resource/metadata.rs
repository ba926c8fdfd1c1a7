//! The metadata of a protected resource (RFC 9728, section 2), and the check that it is of the right resource.

use std::fmt;

use serde_json::{Map, Value};
use url::Url;

use crate::json::{self, Object};
use crate::{Deviation, Deviations, Error, ErrorKind, Issuer, Scopes, Shown};

/// The most bytes of a document.
pub(super) const MAX_METADATA: usize = 256 * 1024;
/// The most authorization servers to look at.
const MAX_SERVERS: usize = 16;

/// The metadata of a protected resource (RFC 9728, section 2). Cheap to keep: a document of a few members.
#[derive(Clone)]
pub struct ResourceMetadata {
    resource: Box<str>,
    servers: Vec<Issuer>,
    /// Why one of them cannot be used.
    wrong: Option<Error>,
    scopes: Option<Scopes>,
    found: Deviations,
    members: Map<String, Value>,
}

/// Shows of the members the names alone.
impl fmt::Debug for ResourceMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<_> = self.members.keys().map(|name| Shown::name(name)).collect();
        f.debug_struct("ResourceMetadata")
            .field("resource", &crate::shown::without_query(&self.resource))
            .field("authorization_servers", &self.servers)
            .field("scopes_supported", &self.scopes)
            .field("members", &members)
            .finish_non_exhaustive()
    }
}

impl ResourceMetadata {
    /// Reads a document, and checks that it is of the resource at this address: `resource` must be the address,
    /// character by character (RFC 9728, section 3.3).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidResponse`] if the text is no such document, [`ErrorKind::Issuer`] if it is of another
    /// resource.
    pub fn from_json(json: &[u8], address: &str) -> Result<Self, Error> {
        Self::from_json_tolerating(json, address, Deviations::TOLERATED)
    }

    /// Reads a document as [`from_json`](Self::from_json) does, and tolerates these deviations from the standard: with
    /// [`Deviation::ResourceAbove`] `resource` may also be above the address.
    pub fn from_json_tolerating(json: &[u8], address: &str, tolerated: Deviations) -> Result<Self, Error> {
        let invalid = |why: &str| Error::new(ErrorKind::InvalidResponse, format!("the resource's metadata: {why}"));
        if json.len() > MAX_METADATA {
            return Err(invalid("it is larger than 256 KiB"));
        }
        let Object { members, mut found, .. } = json::object(json).map_err(|_| invalid("it is no JSON object"))?;
        let resource = members.get("resource").and_then(Value::as_str).filter(|text| !text.is_empty());
        let resource = resource.ok_or_else(|| invalid("it names no resource (RFC 9728, section 3.2)"))?;
        if resource != address {
            if !is_above(resource, address) {
                return Err(other(resource, address));
            }
            tolerated.allow(Deviation::ResourceAbove, &mut found, "").map_err(|_| other(resource, address))?;
        }
        let texts = |name| Some(members.get(name)?.as_array()?.iter().filter_map(Value::as_str));
        let named = texts("authorization_servers").into_iter().flatten().take(MAX_SERVERS);
        let (mut servers, mut wrong) = (Vec::new(), None);
        for issuer in named.map(Issuer::new) {
            match issuer {
                Ok(issuer) if servers.contains(&issuer) => {}
                Ok(issuer) => servers.push(issuer),
                Err(error) => {
                    found = found.with(Deviation::OddMember);
                    wrong = wrong.or(Some(error));
                }
            }
        }
        let scopes = texts("scopes_supported").map(Iterator::collect);
        Ok(Self { resource: resource.into(), servers, wrong, scopes, found, members })
    }

    /// What is assumed of a resource without a document, as MCP of 2025-03-26 has it: its origin is its server.
    pub(super) fn assumed(address: &str, issuer: Issuer) -> Self {
        let found = Deviations::NONE.with(Deviation::NoResourceMetadata);
        let (servers, members) = (vec![issuer], Map::new());
        Self { resource: address.into(), servers, wrong: None, scopes: None, found, members }
    }

    /// `resource`: the name by which tokens for the resource are asked for (RFC 8707), as the document writes it.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// `authorization_servers`: the servers whose tokens the resource accepts, in its order.
    pub fn authorization_servers(&self) -> &[Issuer] {
        &self.servers
    }

    /// Why there is no authorization server to ask.
    pub(super) fn no_server(&self) -> Error {
        let why = match &self.wrong {
            Some(_) => "none of the authorization servers that the resource names can be used",
            None => "the resource names no authorization server",
        };
        let error = Error::new(ErrorKind::InvalidResponse, why);
        self.wrong.iter().fold(error, |error, wrong| error.with_source(wrong.clone()))
    }

    /// `scopes_supported`: scopes that requests to the resource may need, if the document names them.
    pub fn scopes_supported(&self) -> Option<&Scopes> {
        self.scopes.as_ref()
    }

    /// `dpop_bound_access_tokens_required`: whether the resource accepts only tokens that are bound to a key (RFC
    /// 9449).
    pub fn dpop_bound_access_tokens_required(&self) -> bool {
        self.get("dpop_bound_access_tokens_required") == Some(&Value::Bool(true))
    }

    /// The deviations that were tolerated in the document.
    pub fn deviations(&self) -> Deviations {
        self.found
    }

    /// A member of the document by its name, as the resource wrote it.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }
}

fn other(resource: &str, address: &str) -> Error {
    let (resource, address) = (crate::shown::without_query(resource), crate::shown::without_query(address));
    let why = format!("the metadata of {address} is of another resource, {resource}: no token is asked for it");
    Error::new(ErrorKind::Issuer, why)
}

/// Whether an address lies within a resource: the same origin, and its path begins with the resource's, segment by segment.
/// A resource that has a query is that of addresses with the same one.
pub(super) fn is_above(resource: &str, address: &str) -> bool {
    let (Ok(resource), Ok(address)) = (Url::parse(resource), Url::parse(address)) else { return false };
    let plain = resource.username().is_empty() && resource.password().is_none() && resource.fragment().is_none();
    let plain = plain && (resource.query().is_none() || resource.query() == address.query());
    let above = resource.path().strip_suffix('/').unwrap_or(resource.path());
    let below = address.path().strip_prefix(above);
    plain && resource.origin() == address.origin() && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_above_what_lies_within_it_and_no_other() {
        for (resource, address, above) in [
            ("https://rs.example/mcp", "https://rs.example/mcp", true),
            ("https://rs.example", "https://rs.example/mcp", true),
            ("https://rs.example/", "https://rs.example/a/b", true),
            ("https://rs.example/a", "https://rs.example/a/b?tenant=7", true),
            ("https://rs.example:443/a/", "https://rs.example/a", true),
            ("https://rs.example/a?tenant=7", "https://rs.example/a?tenant=7", true),
            ("https://rs.example/a?tenant=7", "https://rs.example/a?tenant=8", false),
            ("https://rs.example/a?tenant=7", "https://rs.example/a", false),
            ("https://rs.example/a", "https://rs.example/ab", false),
            ("https://rs.example/a/b", "https://rs.example/a", false),
            ("https://rs.example/a", "https://rs.example/A", false),
            ("https://rs.example", "http://rs.example", false),
            ("https://rs.example:8443", "https://rs.example", false),
            ("https://evil.example/mcp", "https://rs.example/mcp", false),
            ("https://rs.example.evil.example", "https://rs.example", false),
            ("https://user@rs.example", "https://rs.example", false),
            ("https://rs.example#x", "https://rs.example", false),
            ("rs.example", "https://rs.example", false),
        ] {
            assert_eq!(is_above(resource, address), above, "{resource} {address}");
        }
    }

    #[test]
    fn a_document_of_another_resource_is_refused_whole() {
        let json = |resource: &str| {
            format!(r#"{{"resource": {resource:?}, "authorization_servers": ["https://as.example"]}}"#)
        };
        let address = "https://rs.example/mcp";
        let lenient = Deviations::TOLERATED.with(Deviation::ResourceAbove);
        for (resource, strict, tolerated) in [
            ("https://rs.example/mcp", true, true),
            ("https://rs.example", false, true),
            ("https://rs.example/mcp/", false, true),
            ("HTTPS://RS.example/mcp", false, true),
            ("https://rs.example/other", false, false),
            ("https://evil.example/mcp", false, false),
            ("", false, false),
        ] {
            let read =
                |tolerated| ResourceMetadata::from_json_tolerating(json(resource).as_bytes(), address, tolerated);
            assert_eq!(read(Deviations::TOLERATED).is_ok(), strict, "{resource}");
            match read(lenient) {
                Ok(metadata) => {
                    assert_eq!((metadata.resource(), tolerated), (resource, true));
                    assert_eq!(metadata.deviations().contains(Deviation::ResourceAbove), !strict);
                }
                Err(error) => {
                    let kind = if resource.is_empty() { ErrorKind::InvalidResponse } else { ErrorKind::Issuer };
                    assert!(!tolerated && error.kind() == kind, "{resource}: {error}");
                }
            }
        }
    }

    #[test]
    fn an_issuer_that_cannot_be_used_costs_itself_alone() {
        let json =
            br#"{"resource": "https://rs.example", "authorization_servers": ["http://as.example", "https://as.example",
            7, "https://as.example"], "scopes_supported": ["read", "write"]}"#;
        let metadata = ResourceMetadata::from_json(json, "https://rs.example").unwrap();
        assert_eq!(metadata.authorization_servers(), [Issuer::new("https://as.example").unwrap()]);
        assert_eq!(metadata.scopes_supported().unwrap().as_str(), "read write");
        assert!(metadata.deviations().contains(Deviation::OddMember));
        let json = br#"{"resource": "https://rs.example", "authorization_servers": ["http://as.example"]}"#;
        let metadata = ResourceMetadata::from_json(json, "https://rs.example").unwrap();
        assert!(
            metadata.authorization_servers().is_empty() && metadata.no_server().to_string().contains("can be used")
        );
    }
}
