//! What is Google's own: client files.

mod client_secrets;

pub use client_secrets::{ClientKind, ClientSecrets, ReadClientSecrets};
