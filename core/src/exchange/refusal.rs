//! Whether the answer to a refresh says that the refresh token is of no use any more, in whatever words.
//!
//! RFC 6749, section 5.2, has one word for it, `invalid_grant`; servers have many, and a client that knows one only
//! fails for good where a person could just sign in again. The same words in the answer to any other request
//! mean nothing of the kind, so that only the reader of answers to refreshes asks here.

use http::Response;
use http::header::WWW_AUTHENTICATE;
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::answer::{is_form, members};
use crate::Error;

/// The codes by which servers refuse a refresh token, in small letters.
const CODES: [&str; 40] = [
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
    "refresh_token_used",
    "grant_expired",
    "grant_revoked",
    "expired_grant",
    "invalid_session",
    "session_revoked",
    "authorization_revoked",
    "reauthentication_required",
    // Zoho, of a refresh token that was revoked.
    "invalid_code",
];
/// Codes that are about something else, whatever is said beside them.
const OTHERS: [&str; 8] = [
    "invalid_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "use_dpop_nonce",
    "temporarily_unavailable",
    "server_error",
    "slow_down",
];
/// Members that hold a code or a description.
const NAMES: [&str; 22] = [
    "error",
    "status",
    "code",
    "error_code",
    "errorCode",
    "errorcode",
    "errcode",
    "errorType",
    "type",
    "__type",
    "message",
    "msg",
    "errmsg",
    "error_message",
    "error_description",
    "error_hint",
    "description",
    "reason",
    "detail",
    "title",
    "fault",
    "faultstring",
];
/// Members that hold what is said, and may be objects or lists.
const AROUND: [&str; 5] = ["error", "errors", "data", "fault", "detail"];
/// How many of them may lie in each other.
const DEEP: u8 = 4;
/// The longest body that is a sentence and no page.
const MAX_SENTENCE: usize = 500;

/// Gives an error the advice to sign in again if the answer that it came of refuses the refresh token.
#[cold]
pub(crate) fn at_refresh(error: Error, response: &Response<Vec<u8>>) -> Error {
    let refused = match response.status().as_u16() {
        400 | 401 if response.body().trim_ascii().is_empty() => !asks_who(response),
        // Where there is a token, something else is wrong.
        200 if error.server().is_none() => !has_token(response) && said(response) == Said::Refused,
        200 | 400 | 401 | 403 | 409 | 422 => {
            error.server().is_none_or(|server| !is_other(server.error())) && said(response) == Said::Refused
        }
        _ => false,
    };
    match (refused, response.status().as_u16()) {
        (true, _) if response.body().trim_ascii().is_empty() => error.refuses_grant("without a word"),
        (true, _) => error.refuses_grant("in words of its own"),
        // Whatever it means: at each try it would come again.
        (false, 400 | 401 | 422) if error.server().is_none() && !asks_who(response) => match said(response) {
            Said::Something => error.refuses_unknown(),
            _ => error,
        },
        (false, _) => error,
    }
}

/// The same of a user's password: the standard's word alone (RFC 6749, section 5.2).
pub(crate) fn at_password(error: Error) -> Error {
    let refused = error.server().is_some_and(|server| server.error() == "invalid_grant");
    if refused { error.refuses_grant("without a word") } else { error }
}

fn is_other(code: &str) -> bool {
    OTHERS.contains(&code)
}

/// Whether it is the client that the server does not know (RFC 6749, section 5.2, `invalid_client`).
fn asks_who(response: &Response<Vec<u8>>) -> bool {
    response.headers().contains_key(WWW_AUTHENTICATE)
}

fn has_token(response: &Response<Vec<u8>>) -> bool {
    with_members(response, |members| members.contains_key("access_token")).unwrap_or(false)
}

fn with_members<T>(response: &Response<Vec<u8>>, look: impl FnOnce(&Map<String, Value>) -> T) -> Option<T> {
    let mut members = members(response.body(), is_form(response))?;
    let found = look(&members);
    members.values_mut().for_each(crate::secret::wipe_json);
    Some(found)
}

/// What a body says of the refresh token.
#[derive(PartialEq, Eq)]
enum Said {
    /// That it is of no use.
    Refused,
    /// Something else, or in words that nobody knows.
    Something,
    /// That the server is busy, or nothing: pages are of what stands before the server.
    Nothing,
}

#[cold]
fn said(response: &Response<Vec<u8>>) -> Said {
    let mut said = Vec::new();
    let body = response.body();
    if with_members(response, |members| collect(members, DEEP, &mut said)).is_none() {
        match serde_json::from_slice::<Value>(body) {
            Ok(mut value) => {
                collect_value(&value, DEEP, &mut said);
                crate::secret::wipe_json(&mut value);
            }
            // A sentence, or a form that does not call itself one.
            Err(_) if body.len() <= MAX_SENTENCE && !body.contains(&b'<') => {
                said.push(normal(&String::from_utf8_lossy(body)));
                said.extend(form_urlencoded::parse(body).map(|(_, value)| normal(&value)));
            }
            Err(_) => return Said::Nothing,
        }
    }
    let busy = |text: &String| ["too many", "rate limit", "try again"].iter().any(|words| text.contains(words));
    if said.iter().any(busy) {
        Said::Nothing
    } else if said.iter().any(|text| CODES.contains(&&*text.replace(' ', "_")) || describes(text)) {
        Said::Refused
    } else {
        Said::Something
    }
}

/// What members say that hold a code or a description, and those within.
fn collect(members: &Map<String, Value>, deep: u8, said: &mut Vec<String>) {
    let texts = NAMES.iter().filter_map(|name| members.get(*name)?.as_str());
    said.extend(texts.map(normal));
    AROUND.iter().filter_map(|name| members.get(*name)).for_each(|value| collect_value(value, deep, said));
}

fn collect_value(value: &Value, deep: u8, said: &mut Vec<String>) {
    let Some(deeper) = deep.checked_sub(1) else { return };
    match value {
        Value::Object(members) => collect(members, deeper, said),
        Value::Array(list) => {
            for each in list {
                match each {
                    Value::String(text) => said.push(normal(text)),
                    // One of several may say by one member what by another: `refresh_token`, `invalid`.
                    Value::Object(members) => {
                        let all = members.values().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
                        said.push(normal(&all));
                        collect(members, deeper, said);
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// A text in small letters, words apart by one blank each, without what ends a sentence.
fn normal(text: &str) -> String {
    let text = text.get(..500).unwrap_or(text).to_ascii_lowercase().replace(['_', '-'], " ");
    let text = text.trim_end_matches(['.', '!', ' ']);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a description says it, as Twitch's, Zoom's and Strava's.
fn describes(text: &str) -> bool {
    // Of a token without more words it is the refresh token that is meant: no other was sent.
    const WHOLE: [&str; 12] = [
        "invalid token",
        "token invalid",
        "token expired",
        "token revoked",
        "token expired revoked",
        "token not found",
        "token not active",
        "token inactive",
        "session expired",
        "session not found",
        "session not active",
        "grant expired",
    ];
    const FILLING: [&str; 10] = ["the", "this", "your", "a", "is", "has", "been", "was", "or", "provided"];
    const WRONG: [&str; 17] = [
        "invalid",
        "expired",
        "revoked",
        "not found",
        "not been found",
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
    // What a refresh token stands for, and what happens to that alone.
    const GRANTS: [&str; 5] = ["session", "grant", "authorization", "authorisation", "consent"];
    const ENDED: [&str; 11] = [
        "expired",
        "revoked",
        "no longer valid",
        "no longer active",
        "not active",
        "has ended",
        "ended by",
        "was ended",
        "terminated",
        "invalidated",
        "withdrawn",
    ];
    // What ends beside it, and is for its operator to renew.
    const OTHER: [&str; 6] = ["client", "secret", "certificate", "assertion", "license", "subscription"];
    const AGAIN: [&str; 12] = [
        "log in again",
        "login again",
        "sign in again",
        "signin again",
        "log back in",
        "sign back in",
        "authenticate again",
        "authorize again",
        "reauthenticate",
        "re authenticate",
        "reauthorize",
        "re authorize",
    ];
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let short: Vec<_> = text.split(' ').filter(|word| !FILLING.contains(word)).collect();
    WHOLE.contains(&&*short.join(" "))
        || (has(&["refresh token", "refreshtoken"]) && has(&WRONG) && !has(&ABSENT))
        || (has(&GRANTS) && has(&ENDED) && !has(&OTHER))
        || (has(&AGAIN) && !has(&OTHER))
        // X, formerly Twitter.
        || text == "value passed for the token was invalid"
}
