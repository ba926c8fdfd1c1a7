//! Google's scopes by name. There are hundreds; these are the ones that signing in and this crate's examples need.

/// Who the user is, as an ID token (OpenID Connect).
pub const OPENID: &str = "openid";
/// The user's e-mail address.
pub const EMAIL: &str = "https://www.googleapis.com/auth/userinfo.email";
/// The user's name and picture.
pub const PROFILE: &str = "https://www.googleapis.com/auth/userinfo.profile";
/// All of Google Cloud, as far as the account's roles go; the Gemini API takes it too.
pub const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";
/// The Gemini API. In a user's consent it is often refused: ask for [`CLOUD_PLATFORM`] and
/// [`GENERATIVE_LANGUAGE_RETRIEVER`] then.
pub const GENERATIVE_LANGUAGE: &str = "https://www.googleapis.com/auth/generative-language";
/// Tuned models of the Gemini API.
pub const GENERATIVE_LANGUAGE_TUNING: &str = "https://www.googleapis.com/auth/generative-language.tuning";
/// Tuned models of the Gemini API, read-only.
pub const GENERATIVE_LANGUAGE_TUNING_READONLY: &str =
    "https://www.googleapis.com/auth/generative-language.tuning.readonly";
/// Corpora of the Gemini API; enough to generate content.
pub const GENERATIVE_LANGUAGE_RETRIEVER: &str = "https://www.googleapis.com/auth/generative-language.retriever";
/// Corpora of the Gemini API, read-only.
pub const GENERATIVE_LANGUAGE_RETRIEVER_READONLY: &str =
    "https://www.googleapis.com/auth/generative-language.retriever.readonly";
/// IAM: impersonating service accounts.
pub const IAM: &str = "https://www.googleapis.com/auth/iam";
/// Cloud Storage, read-only.
pub const DEVSTORAGE_READ_ONLY: &str = "https://www.googleapis.com/auth/devstorage.read_only";
/// Gmail, all of it.
pub const GMAIL: &str = "https://mail.google.com/";
/// Cloud SQL: signing in to databases.
pub const SQLSERVICE_LOGIN: &str = "https://www.googleapis.com/auth/sqlservice.login";

/// The scope of a short name, as ExLLM's `Gemini.Auth` has them; any other text counts as a scope itself. `retrieval`,
/// which is no scope of Google's, means `retriever`.
///
/// ```
/// use grantflow::google::scopes;
///
/// assert_eq!(scopes::by_name("cloud_platform"), scopes::CLOUD_PLATFORM);
/// assert_eq!(scopes::by_name("retrieval"), scopes::GENERATIVE_LANGUAGE_RETRIEVER);
/// assert_eq!(scopes::by_name("https://mail.google.com/"), scopes::GMAIL);
/// ```
pub fn by_name(name: &str) -> &str {
    match name {
        "cloud_platform" => CLOUD_PLATFORM,
        "generative_language" => GENERATIVE_LANGUAGE,
        "tuning" => GENERATIVE_LANGUAGE_TUNING,
        "retrieval" | "retriever" => GENERATIVE_LANGUAGE_RETRIEVER,
        "userinfo_email" | "email" => EMAIL,
        "userinfo_profile" | "profile" => PROFILE,
        other => other,
    }
}
