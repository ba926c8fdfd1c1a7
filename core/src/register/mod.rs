//! The registration of clients by themselves (RFC 7591; OpenID Connect Dynamic Client Registration 1.0), and the
//! management of registrations (RFC 7592).
//!
//! ```text
//! ClientMetadata ─▶ Registration ─exchange─▶ RegisteredClient ─client, server─▶ all other machines
//!                                             │         ▲
//!                                             └─ read, update, delete
//! ```
//!
//! A registration belongs to its server, and is refused at any other. [`RegistrationInStore`](crate::store::RegistrationInStore)
//! keeps one for all processes that share a store.

mod manage;
mod metadata;
mod registered;
mod request;

pub use manage::ManageRegistration;
pub use metadata::ClientMetadata;
pub use registered::{Change, RegisteredClient};
pub use request::Registration;
