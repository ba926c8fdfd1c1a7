//! The name under which a store keeps a grant.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::crypto::hex;
use crate::{Client, Error, ErrorKind, Issuer, Shown};

/// What ends the label of the key that is leased while a person signs in.
const SIGN_IN: &str = "\n(sign-in)";
/// How the labels begin of what is no grant.
pub(super) const NO_GRANT: &str = "\n(";
/// What stands in the label between the account and a resource.
const RESOURCE: &str = "\nfor ";
/// The label under which a client's DPoP key lies.
const DPOP_KEY: &str = "\n(DPoP key)";
/// What begins the label of a registration.
const REGISTRATION: &str = "\n(registration)";

/// The key of a grant in a store: its issuer, its client, and the caller's label for the account.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordKey {
    issuer: Issuer,
    client_id: String,
    label: String,
}

impl RecordKey {
    /// The key of the grant of this client at this server, for the account that the caller calls `label`.
    pub fn new(issuer: &Issuer, client: &Client, label: &str) -> Self {
        Self { issuer: issuer.clone(), client_id: client.id().to_owned(), label: label.to_owned() }
    }

    /// The server of the grant.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The `client_id` of the grant's client.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Whether the grant that lies there is of this client at that server.
    pub(crate) fn check(&self, issuer: &Issuer, client: &Client) -> Result<(), Error> {
        if self.issuer != *issuer {
            let why = format!("the stored grant {self} is not of {issuer}");
            return Err(Error::new(ErrorKind::Issuer, why));
        }
        if self.client_id != client.id() {
            let other = Shown::name(client.id());
            return Err(Error::config(format!("the stored grant {self} is not of the client {other:?}")));
        }
        Ok(())
    }

    /// The caller's label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// A name of 64 hexadecimal digits, which is safe in a file system and the same on every machine.
    pub fn name(&self) -> String {
        name_of([self.issuer.as_str(), &self.client_id, &self.label])
    }

    /// The key beside this one that keeps two processes from asking the same person to sign in.
    #[must_use]
    pub fn for_sign_in(&self) -> Self {
        Self { label: format!("{}{SIGN_IN}", self.label), ..self.clone() }
    }

    /// The key of the grant of the same account for this protected resource (RFC 8707).
    #[must_use]
    pub fn for_resource(&self, resource: &str) -> Self {
        Self { label: format!("{}{RESOURCE}{resource}", self.label), ..self.clone() }
    }

    /// The caller's label without what keys of this crate add to it.
    pub(crate) fn account(&self) -> &str {
        self.label.split(RESOURCE).next().unwrap_or_default()
    }

    /// The key of the DPoP key of this client at this server, which all its grants are bound to: see
    /// [`DpopKeyInStore`](super::DpopKeyInStore).
    pub fn of_dpop_key(issuer: &Issuer, client: &Client) -> Self {
        Self::new(issuer, client, DPOP_KEY)
    }

    /// The key of a client's registration at this server, which the caller calls `label`: see
    /// [`RegistrationInStore`](super::RegistrationInStore). It has no `client_id`, since that comes with the
    /// registration.
    pub fn of_registration(issuer: &Issuer, label: &str) -> Self {
        Self { issuer: issuer.clone(), client_id: String::new(), label: format!("{REGISTRATION}{label}") }
    }

    /// Whether something else than a grant lies there.
    pub(super) fn is_no_grant(&self) -> bool {
        self.label == DPOP_KEY || self.label.starts_with(REGISTRATION)
    }
}

/// A name that no other three texts have, of 64 hexadecimal digits.
pub(super) fn name_of(parts: [&str; 3]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        // The length in front keeps the parts apart.
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    hex(&digest.finalize())
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(label) = self.label.strip_prefix(REGISTRATION) {
            return write!(f, "registration {:?} at {:?}", Shown::name(label), self.issuer);
        }
        let (label, what) = match self.label.strip_suffix(SIGN_IN) {
            Some(label) => (label, " (sign-in)"),
            None if self.label == DPOP_KEY => ("", " (DPoP key)"),
            None => (&*self.label, ""),
        };
        let (label, resources) = label.split_once(RESOURCE).unwrap_or((label, ""));
        let resources = resources.replace(RESOURCE, " and ");
        let at = |resource: &str| format!(" for {}", Shown::name(&crate::shown::without_query(resource)));
        let what = format!("{what}{}", if resources.is_empty() { String::new() } else { at(&resources) });
        write!(f, "{:?}{what} of {} at {:?}", Shown::name(label), Shown::name(&self.client_id), self.issuer)
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_share_a_name_and_no_name_leaves_its_folder() {
        let issuer = Issuer::new("https://as.example").unwrap();
        let key = |client: &str, label: &str| RecordKey::new(&issuer, &Client::new(client), label);
        let labels = ["", "a", "ab", "../../x", "CON", "a\0b", &"x".repeat(300), "a\n(sign-in)"];
        let mut names: Vec<_> = labels.iter().map(|label| key("c", label).name()).collect();
        names.extend([key("ca", "").name(), key("c", "a").for_sign_in().for_sign_in().name()]);
        names.extend(["https://a.example", "https://b.example"].map(|it| key("c", "a").for_resource(it).name()));
        for name in &names {
            assert!(name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        }
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
