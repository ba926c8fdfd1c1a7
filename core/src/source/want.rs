//! Which token to mint: [`Want`].

use std::fmt;

use serde_json::Value;

use crate::Scopes;

/// Which token to mint: all that shapes it. Two tokens are interchangeable only if they are of one credential and of
/// equal wants.
///
/// ```
/// use grantflow::source::Want;
///
/// // Order and repetition do not matter, and whose token it is does.
/// assert_eq!(Want::access_token(["b", "a", "b"]), Want::access_token("a b"));
/// assert_ne!(Want::access_token("a"), Want::access_token("a").subject("alice@example.com"));
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Want {
    kind: WantKind,
    scopes: Box<str>,
    /// Account, subject, audience, resource, details: most wants have none of them.
    names: Option<Box<[Option<Box<str>>; 5]>>,
}

/// The kind of token.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum WantKind {
    /// An access token from the server.
    #[default]
    AccessToken,
    /// An ID token.
    IdToken,
    /// A token that the credential signs itself.
    SelfSigned,
}

impl WantKind {
    /// A name that stays the same in all versions.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::IdToken => "id_token",
            Self::SelfSigned => "self_signed",
        }
    }
}

impl Want {
    /// An access token with these scopes; without any, with the scopes that the credential has by itself.
    pub fn access_token(scopes: impl Into<Scopes>) -> Self {
        let scopes = scopes.into();
        let mut sorted: Vec<&str> = scopes.iter().collect();
        sorted.sort_unstable();
        Self { scopes: sorted.join(" ").into(), ..Self::default() }
    }

    /// An ID token for this audience.
    pub fn id_token(audience: &str) -> Self {
        Self { kind: WantKind::IdToken, ..Self::default() }.audience(audience)
    }

    /// A token that the credential signs itself.
    pub fn self_signed(mut self) -> Self {
        self.kind = WantKind::SelfSigned;
        self
    }

    /// Sets which of the credential's accounts to use.
    pub fn account(self, account: &str) -> Self {
        self.name(0, account)
    }

    /// Sets on whose behalf the token is used (`sub`).
    pub fn subject(self, subject: &str) -> Self {
        self.name(1, subject)
    }

    /// Sets for whom the token is meant, by name (`audience`).
    pub fn audience(self, audience: &str) -> Self {
        self.name(2, audience)
    }

    /// Adds a resource that the token is meant for, by its address (RFC 8707); may be called several times, in any
    /// order. An empty address removes those that were named.
    pub fn resource(self, resource: &str) -> Self {
        if resource.is_empty() {
            return self.name(3, resource);
        }
        let mut all: Vec<&str> = self.wanted_resources().chain([resource]).collect();
        all.sort_unstable();
        all.dedup();
        // No address holds a space.
        let all = all.join(" ");
        self.name(3, &all)
    }

    /// Sets `authorization_details`: what the token is to be good for in detail, as a part of what was granted (RFC
    /// 9396, section 6). `null` removes them. A value that is no array of objects with a `type` is an error where the
    /// token is asked for.
    pub fn authorization_details(self, details: &Value) -> Self {
        // Members are written in their order, so that equal details are equal texts.
        let text = if details.is_null() { String::new() } else { details.to_string() };
        self.name(4, &text)
    }

    /// The kind of token.
    pub fn kind(&self) -> WantKind {
        self.kind
    }

    /// The scopes, sorted.
    pub fn scopes(&self) -> Scopes {
        Scopes::from(&*self.scopes)
    }

    pub(crate) fn scopes_text(&self) -> &str {
        &self.scopes
    }

    /// The account: see [`account`](Self::account).
    pub fn wanted_account(&self) -> Option<&str> {
        self.named(0)
    }

    /// The subject: see [`subject`](Self::subject).
    pub fn wanted_subject(&self) -> Option<&str> {
        self.named(1)
    }

    /// The audience: see [`audience`](Self::audience).
    pub fn wanted_audience(&self) -> Option<&str> {
        self.named(2)
    }

    /// The resources: see [`resource`](Self::resource).
    pub fn wanted_resources(&self) -> impl Iterator<Item = &str> {
        self.resources_text().unwrap_or_default().split(' ').filter(|resource| !resource.is_empty())
    }

    /// The authorization details, as a text in JSON: see [`authorization_details`](Self::authorization_details).
    pub fn wanted_authorization_details(&self) -> Option<&str> {
        self.named(4)
    }

    /// Whether it names what the token is for by resources or details.
    pub(crate) fn names_resources(&self) -> bool {
        self.named(3).is_some() || self.named(4).is_some()
    }

    pub(crate) fn resources_text(&self) -> Option<&str> {
        self.named(3)
    }

    fn name(mut self, which: usize, text: &str) -> Self {
        let text = Some(text).filter(|text| !text.is_empty());
        if let Some(name) = self.names.get_or_insert_default().get_mut(which) {
            *name = text.map(Into::into);
        }
        self.names = self.names.filter(|names| names.iter().any(Option::is_some));
        self
    }

    fn named(&self, which: usize) -> Option<&str> {
        self.names.as_ref()?.get(which)?.as_deref()
    }
}

impl fmt::Debug for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}[{}]", self.kind, crate::shown::printable(&self.scopes().to_string(), 200))?;
        for (what, which) in ["account", "subject", "audience", "resource", "authorization_details"].iter().zip(0..) {
            if let Some(name) = self.named(which) {
                write!(f, " {what}={}", crate::Shown::name(name))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_different_wants_are_equal() {
        let wants = [
            Want::access_token(""),
            Want::access_token("a"),
            Want::access_token("b"),
            Want::access_token("a b"),
            Want::access_token("a").subject("b"),
            Want::access_token("a").account("b"),
            Want::access_token("a").audience("b"),
            Want::access_token("a").resource("b"),
            Want::access_token("a").resource("b").resource("c"),
            Want::access_token("a").subject("b").audience("b"),
            Want::access_token("a").authorization_details(&serde_json::json!([{"type": "b"}])),
            Want::access_token("a").authorization_details(&serde_json::json!([{"type": "b", "x": 1}])),
            Want::access_token("a").self_signed(),
            Want::id_token("b"),
        ];
        for (first, one) in wants.iter().enumerate() {
            for (second, other) in wants.iter().enumerate() {
                assert_eq!(one == other, first == second, "{one:?} {other:?}");
            }
        }
        assert_eq!(Want::access_token("a").subject("b").subject(""), Want::access_token("a"));
    }
}
