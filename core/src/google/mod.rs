//! Google's own parts: its client and credential files, service accounts, the metadata server, the search for default
//! credentials.

mod authorized_user;
mod client_secrets;
mod credential;
mod default;
mod detect;
mod downscoped;
mod external_account;
mod external_user;
mod file;
mod gcloud;
mod gdch;
mod hosts;
mod iam;
mod impersonated;
mod metadata;
mod regional;
pub mod scopes;
mod service_account;
mod token_info;

use http::{HeaderMap, HeaderName, HeaderValue};

pub use authorized_user::AuthorizedUser;
pub use client_secrets::{ClientKind, ClientSecrets};
pub use credential::GoogleCredential;
pub use default::{DefaultCredentials, Found, Looked};
pub use downscoped::{AccessBoundaryRule, Downscoped};
pub use external_account::{
    AwsCredentials, AwsIdentity, ExternalAccount, SubjectToken, SubjectTokenContext, SubjectTokenMachine, SubjectTokens,
};
pub use external_user::ExternalUser;
pub use file::ReadFile;
pub use gcloud::{AccessTokenFile, gcloud};
pub use gdch::GdchServiceAccount;
pub use iam::{IamSigner, sign_blob};
pub use impersonated::Impersonated;
pub use metadata::MetadataServer;
pub use regional::RegionalAccess;
pub use service_account::ServiceAccount;
pub use token_info::TokenInfo;

use crate::exchange::Received;
use crate::source::Credential;
use crate::{Error, ErrorKind, Timestamp, Token};

/// Who signs people in at Google.
pub(crate) const ISSUER: &str = crate::server::GOOGLE;

/// The universe that nearly everything is in.
const DEFAULT_UNIVERSE: &str = "googleapis.com";

/// An API key, as a credential: it goes into the header `x-goog-api-key`, for APIs that take one.
///
/// # Errors
///
/// [`ErrorKind::Config`] if no header can carry it.
pub fn api_key(key: &str) -> Result<Credential, Error> {
    let header = HeaderName::from_static("x-goog-api-key");
    Ok(Credential::fixed(Token::in_header(header, key, Timestamp::default())?))
}

/// The header that says which project's quota a request counts against.
fn quota_header(project: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(project) = project.and_then(|project| HeaderValue::from_str(project).ok()) {
        headers.insert(HeaderName::from_static("x-goog-user-project"), project);
    }
    headers
}

/// Whether that fits in a header.
fn check_quota_project(project: Option<&str>) -> Result<(), Error> {
    match project {
        Some(project) if HeaderValue::from_str(project).is_err() => {
            Err(Error::config("the quota project fits in no header"))
        }
        _ => Ok(()),
    }
}

/// The ID token of an answer that holds nothing else.
fn id_token_of(received: Received<'_>) -> Result<Token, Error> {
    let mut members = crate::json::object(received.response.body()).map(|object| object.members).unwrap_or_default();
    let id_token = members.get("id_token").and_then(|value| value.as_str()).filter(|text| !text.is_empty());
    let token = id_token
        .ok_or_else(|| Error::new(ErrorKind::InvalidResponse, "the answer has no id_token"))
        .and_then(|text| bearer_jwt(text, received.sent));
    members.values_mut().for_each(crate::secret::wipe_json);
    token
}

/// A JWT as a token, which ends when the JWT says so. Its audience checks it.
fn bearer_jwt(jwt: &str, issued_at: Timestamp) -> Result<Token, Error> {
    let end = crate::jose::unverified_id_token(jwt)?.1.time("exp");
    Token::bearer(jwt, issued_at, end).map_err(|_| Error::new(ErrorKind::InvalidResponse, "the JWT fits in no header"))
}
