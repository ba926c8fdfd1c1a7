//! A choice among the grants of a store: by a prefix of their labels, or by their person or session.

use std::fmt;

use super::key::{RecordKey, name_of};
use crate::{Issuer, Shown};

/// The names by which a store finds a grant beside its key. They are made of the `sub` and the `sid` of the ID token
/// that the grant came with: each is the SHA-256 of the issuer and the value, so that a store's index shows no person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// The name of the person, if an ID token named one.
    pub sub: Option<String>,
    /// The name of the session at the server, if an ID token named one.
    pub sid: Option<String>,
}

impl Tags {
    /// The names of this person and this session at this server.
    pub fn new(issuer: &Issuer, sub: Option<&str>, sid: Option<&str>) -> Self {
        Self {
            sub: sub.map(|sub| name_of(["sub", issuer.as_str(), sub])),
            sid: sid.map(|sid| name_of(["sid", issuer.as_str(), sid])),
        }
    }
}

/// A choice among the grants of a store. Not every store carries out a [`StoreOp`](super::StoreOp) with one.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq)]
pub enum Which {
    /// The grants whose label begins with this text; with an empty one, all.
    Label(String),
    /// The grants of the person of this name, as in [`Tags::sub`].
    Subject(String),
    /// The grants of the session of this name, as in [`Tags::sid`].
    Session(String),
}

impl Which {
    /// All grants whose label begins like this, of all servers and clients that share the store.
    pub fn label(prefix: impl Into<String>) -> Self {
        Self::Label(prefix.into())
    }

    /// All grants of one person: the ID token's `sub` at this server (OpenID Connect Core 1.0, section 2).
    pub fn subject(issuer: &Issuer, sub: &str) -> Self {
        Self::Subject(name_of(["sub", issuer.as_str(), sub]))
    }

    /// All grants of one session at the server: the `sid` of an ID token, or of a logout token (OpenID Connect
    /// Back-Channel Logout 1.0, section 2.4).
    pub fn session(issuer: &Issuer, sid: &str) -> Self {
        Self::Session(name_of(["sid", issuer.as_str(), sid]))
    }

    /// Whether the grant under this key, with these tags, is among the chosen ones.
    pub fn has(&self, key: &RecordKey, tags: &Tags) -> bool {
        match self {
            Self::Label(prefix) => key.label().starts_with(&**prefix),
            Self::Subject(name) => tags.sub.as_ref() == Some(name),
            Self::Session(name) => tags.sid.as_ref() == Some(name),
        }
    }
}

impl fmt::Debug for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(prefix) => write!(f, "Label({:?})", Shown::name(prefix)),
            Self::Subject(name) => write!(f, "Subject({:?})", Shown::name(name)),
            Self::Session(name) => write!(f, "Session({:?})", Shown::name(name)),
        }
    }
}

/// A page of the grants that were asked for.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The keys of the grants, in the store's order.
    pub keys: Vec<RecordKey>,
    /// Whether there may be more: then ask for the page after the last of these keys.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_one_at_one_server_and_no_session() {
        let issuer = |text| Issuer::new(text).unwrap();
        let (one, other) = (issuer("https://as.example"), issuer("https://other.example"));
        let tags = Tags::new(&one, Some("7"), None);
        let key = RecordKey::new(&one, &crate::Client::new("app"), "alice");
        assert!(Which::subject(&one, "7").has(&key, &tags) && Which::label("al").has(&key, &tags));
        for which in
            [Which::subject(&other, "7"), Which::subject(&one, "77"), Which::session(&one, "7"), Which::label("b")]
        {
            assert!(!which.has(&key, &tags), "{which:?}");
        }
        assert!(!format!("{tags:?}").contains("\"7\""));
    }
}
