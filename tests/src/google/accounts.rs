//! Whom Google knows.

use grantflow::{Scopes, Timestamp};

/// A service account.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its address.
    pub email: String,
    /// Its number, by which a Workspace's administrator allows it to act for users.
    pub number: String,
    /// Its keys, by their id: an RSA public key in PKCS#1.
    pub keys: Vec<(String, Vec<u8>)>,
    /// The scopes in which it may act for users.
    pub delegated: Scopes,
    /// When it, and its keys, will be known.
    pub known_from: Timestamp,
}

/// An OAuth client.
#[derive(Clone, Debug)]
pub struct OAuthClient {
    /// Its id.
    pub id: String,
    /// Its secret; clients for phones have none.
    pub secret: Option<String>,
    /// The project that it belongs to.
    pub project: String,
    /// An error instead of service, such as `deleted_client`.
    pub gone: Option<&'static str>,
}

/// A user.
#[derive(Clone, Debug)]
pub struct User {
    /// The address.
    pub email: String,
    /// The number (`sub`).
    pub number: String,
    /// What keeps the user's refresh tokens from working.
    pub trouble: Option<UserTrouble>,
}

/// What can be the matter with a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserTrouble {
    /// The account was deleted.
    Deleted,
    /// The administrator restricts the application or a scope.
    AdminPolicy,
    /// The session has ended: the user must show who they are again.
    Reauthentication,
}

impl OAuthClient {
    /// A client with a secret, or without one.
    pub fn new(id: &str, secret: Option<&str>, project: &str) -> Self {
        Self { id: id.into(), secret: secret.map(Into::into), project: project.into(), gone: None }
    }
}

impl User {
    /// A user with whom nothing is the matter.
    pub fn new(email: &str, number: &str) -> Self {
        Self { email: email.into(), number: number.into(), trouble: None }
    }
}
