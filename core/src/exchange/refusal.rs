//! Whether the answer to a refresh says that the refresh token is of no use any more, in whatever words.
//!
//! RFC 6749, section 5.2, has one word for it, `invalid_grant`; servers have many, and whoever knows one only
//! fails for good where a person could just sign in again. The same words in the answer to any other request
//! mean nothing of the kind, so that only the reader of answers to refreshes asks here.

use http::Response;
use http::header::WWW_AUTHENTICATE;
use serde_json::{Map, Value};

use super::answer::{is_form, members};
use crate::Error;

/// The codes by which servers refuse a refresh token, in small letters.
const CODES: [&str; 31] = [
    // RFC 6749, section 5.2; RFC 6750, section 3.1; RFC 8628, section 3.5.
    "invalid_grant",
    "invalid_token",
    "expired_token",
    "access_denied",
    // OpenID Connect Core 1.0, section 3.1.2.6: Microsoft Entra sends them at refreshes too.
    "interaction_required",
    "login_required",
    "consent_required",
    "account_selection_required",
    // GitHub: "Troubleshooting OAuth app access token request errors", "Refreshing user access tokens".
    "bad_refresh_token",
    // OpenAI, as its program Codex knows them.
    "refresh_token_expired",
    "refresh_token_reused",
    "refresh_token_invalidated",
    // Slack: the errors of `oauth.v2.access`.
    "invalid_refresh_token",
    "token_expired",
    "token_revoked",
    "account_inactive",
    // Supabase Auth: "Error codes".
    "refresh_token_not_found",
    "refresh_token_already_used",
    "session_not_found",
    "session_expired",
    "user_not_found",
    "user_banned",
    // Google's Identity Platform: "Exchange a refresh token for an ID token".
    "user_disabled",
    "invalid_rapt",
    // Seen at others.
    "refresh_token_revoked",
    "refresh_token_invalid",
    "refresh_token_inactive",
    "expired_refresh_token",
    "revoked_refresh_token",
    "token_inactive",
    "revoked_token",
];
/// Codes that are about something else, whatever is said beside them.
const OTHERS: [&str; 9] = [
    "invalid_client",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "use_dpop_nonce",
    "temporarily_unavailable",
    "server_error",
    "slow_down",
];
/// Members that hold a code or a description.
const NAMES: [&str; 14] = [
    "error",
    "status",
    "code",
    "error_code",
    "errorCode",
    "errcode",
    "errorType",
    "type",
    "message",
    "msg",
    "error_message",
    "error_description",
    "reason",
    "detail",
];

/// Gives an error the advice to sign in again if the answer that it came of refuses the refresh token.
pub(crate) fn at_refresh(error: Error, response: &Response<Vec<u8>>) -> Error {
    let refused = match response.status().as_u16() {
        400 | 401 if response.body().trim_ascii().is_empty() => !asks_who(response),
        200 if error.server().is_none() => false,
        200 | 400 | 401 | 403 => error.server().is_none_or(|server| !is_other(server.error())) && says_so(response),
        _ => false,
    };
    if refused { error.refuses_grant() } else { error }
}

/// The same of a user's password: the standard's word alone (RFC 6749, section 5.2).
pub(crate) fn at_password(error: Error) -> Error {
    let refused = error.server().is_some_and(|server| server.error() == "invalid_grant");
    if refused { error.refuses_grant() } else { error }
}

fn is_other(code: &str) -> bool {
    OTHERS.contains(&code)
}

/// Whether it is the client that the server does not know (RFC 6749, section 5.2, `invalid_client`).
fn asks_who(response: &Response<Vec<u8>>) -> bool {
    response.headers().contains_key(WWW_AUTHENTICATE)
}

fn says_so(response: &Response<Vec<u8>>) -> bool {
    let Some(mut members) = members(response.body(), is_form(response)) else { return false };
    let refused = refuses(&members);
    members.values_mut().for_each(crate::secret::wipe_json);
    refused
}

fn refuses(members: &Map<String, Value>) -> bool {
    let texts = |members: &Map<String, Value>| {
        let texts = NAMES.iter().filter_map(|name| members.get(*name)?.as_str());
        texts.map(normal).collect::<Vec<_>>()
    };
    let inner = match members.get("error") {
        Some(Value::Object(inner)) => texts(inner),
        _ => Vec::new(),
    };
    let several = members.get("errors").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    // Each of several errors may say by one member what by another: `refresh_token`, `invalid`.
    let several = several.flat_map(|each| {
        let all = each.values().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
        texts(each).into_iter().chain([normal(&all)])
    });
    let mut all = texts(members).into_iter().chain(inner).chain(several);
    all.any(|text| CODES.contains(&&*text.replace(' ', "_")) || describes(&text))
}

/// A text in small letters, words apart by one blank each, without what ends a sentence.
fn normal(text: &str) -> String {
    let text = text.get(..500).unwrap_or(text).to_ascii_lowercase().replace(['_', '-'], " ");
    let text = text.trim_end_matches(['.', '!', ' ']);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a description says it, as Twitch's, Zoom's and Strava's.
fn describes(text: &str) -> bool {
    const WHOLE: [&str; 4] = ["invalid token", "token expired", "token revoked", "token has been expired or revoked"];
    const WRONG: [&str; 16] = [
        "invalid",
        "expired",
        "revoked",
        "not found",
        "not valid",
        "not active",
        "no longer",
        "does not exist",
        "already used",
        "already been used",
        "reused",
        "incorrect",
        "unknown",
        "inactive",
        "has ended",
        "bad",
    ];
    const ABSENT: [&str; 5] = ["missing", "required", "not provided", "must be", "not supported"];
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    WHOLE.contains(&text) || (has(&["refresh token", "refreshtoken"]) && has(&WRONG) && !has(&ABSENT))
}
