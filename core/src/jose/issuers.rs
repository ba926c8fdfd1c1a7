//! The issuers whose ID tokens are accepted: one by its names, or each tenant of a server.

use super::claims::Claims;
use super::jwk::Jwk;
use crate::server::tenant_parts;
use crate::{Error, ErrorKind};

/// Whose tokens are taken.
#[derive(Clone, Debug)]
pub(super) enum Issuers {
    /// By one of these names.
    Named(Vec<Box<str>>),
    /// Of each tenant, whose identifier stands in a claim and between these parts of its issuer.
    Tenants { before: Box<str>, claim: Box<str>, after: Box<str>, allowed: Vec<Box<str>> },
}

impl Issuers {
    /// A name with one claim in braces.
    pub(super) fn template(name: &str) -> Option<Self> {
        tenant_parts(name).map(|(before, claim, after)| Self::tenants(before, claim, after))
    }

    pub(super) fn tenants(before: &str, claim: &str, after: &str) -> Self {
        Self::Tenants { before: before.into(), claim: claim.into(), after: after.into(), allowed: Vec::new() }
    }

    pub(super) fn check(&self, iss: &str, claims: &Claims) -> Result<(), Error> {
        match self {
            Self::Named(names) if names.iter().any(|name| is_issuer(name, iss, claims)) => Ok(()),
            Self::Named(_) => Err(wrong("the ID token is another issuer's (iss)")),
            Self::Tenants { before, claim, after, allowed } => {
                let tenant = claims.str(claim).filter(|it| !it.is_empty() && !it.contains(['/', '?', '#', '%']));
                let tenant = tenant.ok_or_else(|| wrong("the ID token names no tenant"))?;
                let rest = iss.strip_prefix(&**before).and_then(|rest| rest.strip_suffix(&**after));
                if rest != Some(tenant) {
                    return Err(wrong("the ID token is another issuer's (iss)"));
                }
                match allowed.is_empty() || allowed.iter().any(|it| **it == *tenant) {
                    true => Ok(()),
                    false => Err(wrong("the ID token is of a tenant that is not taken here")),
                }
            }
        }
    }

    /// Whether a token may be signed by this key: those that tenants share may say whose they are.
    pub(super) fn may_sign(&self, key: &Jwk, claims: &Claims) -> bool {
        match self {
            Self::Named(names) => may_sign(names.iter().map(|name| &**name), key, claims),
            Self::Tenants { claim, .. } => key.issuer().is_none_or(|named| is_of_tenant(named, claim, claims)),
        }
    }
}

/// Whether a token of an issuer with these names may be signed by this key. Where the name is that of one issuer, all keys
/// at its address are its own, whatever they say.
pub(super) fn may_sign<'a>(mut names: impl Iterator<Item = &'a str>, key: &Jwk, claims: &Claims) -> bool {
    let (Some(_), Some(iss)) = (key.issuer(), claims.str("iss")) else { return true };
    let tenants = names.find_map(|name| Issuers::template(name).filter(|it| it.check(iss, claims).is_ok()));
    tenants.is_none_or(|tenants| tenants.may_sign(key, claims))
}

/// Whether the issuer that a key names is the token's own: as it is, or with something in braces in the place of its
/// tenant. Entra writes `{tenantid}` there, whose claim is `tid`.
fn is_of_tenant(named: &str, claim: &str, claims: &Claims) -> bool {
    let (Some(iss), Some(tenant)) = (claims.str("iss"), claims.str(claim)) else { return false };
    let parts = named.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?.1)));
    match parts {
        Some((before, after)) => iss.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)) == Some(tenant),
        None => named == iss,
    }
}

/// Whether this names the issuer of a token: as it is, or with the name of a claim in braces in the place of its value.
pub(super) fn is_issuer(name: &str, iss: &str, claims: &Claims) -> bool {
    match Issuers::template(name) {
        Some(issuers) => issuers.check(iss, claims).is_ok(),
        None => name == iss,
    }
}

fn wrong(why: &'static str) -> Error {
    Error::new(ErrorKind::IdToken, why)
}
