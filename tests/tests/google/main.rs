//! Google's credentials, in virtual time and over TCP, at a pretend Google that is strict.
//!
//! Comments such as `21.9` number what users of Google's libraries stumble over, as the documentation and the
//! issues of those tell it. All of them are rows of the last table of `docs/google.md`, in this order, with their tests.

mod default;
mod downscoping;
mod external_account;
mod external_user;
mod gcloud;
mod gdch;
mod impersonation;
mod key_file;
mod metadata;
mod pretend;
mod regional;
mod service_account;
mod signer;
mod stumbles;
mod token_info;
mod user;
mod user_file;

use grantflow::Timestamp;
use grantflow::google::{AuthorizedUser, ServiceAccount};
use grantflow_tests::google::{authorized_user_json, service_account_json};
use serde_json::Value;

const NOW: Timestamp = Timestamp::from_unix(1_795_176_000);
const CLOUD: &str = "https://www.googleapis.com/auth/cloud-platform";
const STORAGE: &str = "https://www.googleapis.com/auth/devstorage.read_only";
/// An assertion for [`CLOUD`] at [`NOW`], signed.
const JWT: &str = include_str!("../../data/google/assertion.jwt");

fn account() -> ServiceAccount {
    ServiceAccount::from_json(service_account_json().to_string()).unwrap()
}

fn user() -> AuthorizedUser {
    AuthorizedUser::from_json(authorized_user_json().to_string()).unwrap()
}

/// The key file with some members changed.
fn key_with(changes: Value) -> String {
    with(service_account_json(), &changes).to_string()
}

/// The user's file with some members changed.
fn user_with(changes: Value) -> String {
    with(authorized_user_json(), &changes).to_string()
}

/// The value with some members changed; those that become null are taken out.
fn with(mut value: Value, changes: &Value) -> Value {
    for (name, new) in changes.as_object().expect("an object") {
        value[name] = new.clone();
    }
    value.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    value
}

/// An error with all that led to it.
fn whole(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", whole(source)),
        None => error.to_string(),
    }
}
