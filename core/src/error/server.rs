//! Errors in the words of a server.

use std::fmt;

use super::Advice;

/// An error in the words of the server (RFC 6749, sections 4.1.2.1 and 5.2).
///
/// The texts come from the server. Control characters are removed, long texts are cut, and the secrets of the request
/// are struck out; treat the rest as hostile input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    pub(crate) error: String,
    pub(crate) error_description: Option<String>,
    pub(crate) error_uri: Option<String>,
    pub(crate) error_subtype: Option<String>,
}

/// What a server would have to ask of the user: see [`ServerError::interaction`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interaction {
    /// To sign in: `login_required`.
    Login,
    /// To choose among several accounts: `account_selection_required`.
    AccountSelection,
    /// To agree: `consent_required`.
    Consent,
    /// To do something else: `interaction_required`.
    Other,
}

impl ServerError {
    /// For servers that mean this and do not say it.
    pub(crate) fn invalid_token() -> Self {
        Self { error: "invalid_token".into(), error_description: None, error_uri: None, error_subtype: None }
    }

    /// The code, such as `invalid_grant`.
    pub fn error(&self) -> &str {
        &self.error
    }

    /// A text for developers, if the server sent one.
    pub fn error_description(&self) -> Option<&str> {
        self.error_description.as_deref()
    }

    /// The address of a page about the error, if the server sent one. Do not open it unasked.
    pub fn error_uri(&self) -> Option<&str> {
        self.error_uri.as_deref()
    }

    /// Google's finer code beside `invalid_grant`, such as `invalid_rapt`.
    pub fn error_subtype(&self) -> Option<&str> {
        self.error_subtype.as_deref()
    }

    /// What the server would have to ask of the user, who was not to be asked (`prompt=none`; OpenID Connect Core 1.0,
    /// section 3.1.2.6). Ask once more without it.
    pub fn interaction(&self) -> Option<Interaction> {
        Some(match &*self.error {
            "login_required" => Interaction::Login,
            "account_selection_required" => Interaction::AccountSelection,
            "consent_required" => Interaction::Consent,
            "interaction_required" => Interaction::Other,
            _ => return None,
        })
    }

    /// Whether the server says that the same may succeed later. `internal_failure` and
    /// `unhandled_canonical_code_14` are Google's.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(
            &*self.error,
            "temporarily_unavailable"
                | "server_error"
                | "slow_down"
                | "internal_failure"
                | "unhandled_canonical_code_14"
        )
    }

    pub(super) fn advice(&self) -> Option<Advice> {
        let says = |begin: &str| self.error_description.as_deref().is_some_and(|text| text.starts_with(begin));
        Some(match &*self.error {
            // Google tells what is wrong with an assertion by its words alone.
            "invalid_grant" if says("Invalid JWT: Token must be a short-lived token") => Advice::SetClock,
            "invalid_grant"
                if ["Invalid JWT", "Invalid grant: account not found", "Invalid email", "Not a valid email"]
                    .into_iter()
                    .any(says) =>
            {
                Advice::FixConfiguration
            }
            _ if self.is_transient() => Advice::TryLater,
            "invalid_grant"
            | "access_denied"
            | "login_required"
            | "consent_required"
            | "interaction_required"
            | "account_selection_required"
            | "unmet_authentication_requirements"
            | "expired_token"
            | "invalid_token" => Advice::SignInAgain,
            "invalid_request"
            | "invalid_client"
            | "unauthorized_client"
            | "invalid_scope"
            | "unsupported_grant_type"
            | "unsupported_response_type"
            | "unsupported_token_type"
            | "invalid_target"
            | "redirect_uri_mismatch"
            | "deleted_client"
            | "disabled_client"
            | "org_internal"
            | "admin_policy_enforced"
            | "access_not_configured"
            | "incorrect_client_credentials" => Advice::FixConfiguration,
            _ => return None,
        })
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        if let Some(subtype) = &self.error_subtype {
            write!(f, " ({subtype})")?;
        }
        if let Some(description) = &self.error_description {
            write!(f, ": {description}")?;
        }
        Ok(())
    }
}
