//! What an answer says that is no success, and what a body calls itself.

use std::time::Duration;

use http::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::Value;
use url::form_urlencoded;

use super::FORM;
use crate::{Error, ErrorKind, ServerError, Timestamp};

/// The longest nonce to take from a server.
const MAX_NONCE: usize = 1024;

/// The error of an answer whose status is not 2xx.
pub(super) fn error_answer(response: &Response<Vec<u8>>, now: Timestamp) -> Error {
    let status = response.status();
    if status.is_redirection() {
        return Error::new(
            ErrorKind::InvalidResponse,
            "the server redirects, and a request with credentials is never sent on",
        )
        .with_status(status.as_u16());
    }
    let busy = matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504);
    let error = match server_error(response) {
        Some(server) => Error::from_server(ErrorKind::Server, server),
        None => Error::new(ErrorKind::Http, "the server answered with an error status"),
    };
    // A code that says what is wrong is worth more than a status that says "later".
    let error = if busy && error.advice().is_none() { error.transient() } else { error };
    // A gateway has lost the answer of a server that may have done its work.
    let error = if matches!(status.as_u16(), 502 | 504) { error.uncertain() } else { error };
    error.with_status(status.as_u16()).with_retry_after(retry_after(response, now))
}

/// Whether a server that is busy says that it has not even begun: by its status (RFC 6585, section 4; RFC 9110,
/// section 15.6.4) or by its error code.
pub(super) fn turns_away(status: StatusCode, error: &Error) -> bool {
    matches!(status.as_u16(), 429 | 503) || error.server().is_some_and(|it| it.error() == "temporarily_unavailable")
}

/// `Retry-After`, in seconds or as a date, which counts from the server's own clock if it shows one.
fn retry_after(response: &Response<Vec<u8>>, now: Timestamp) -> Option<Duration> {
    let header = |name| response.headers().get(name)?.to_str().ok().map(str::trim);
    let value = header(RETRY_AFTER)?;
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let from = header(DATE).and_then(Timestamp::from_http_date).unwrap_or(now);
    Some(Timestamp::from_http_date(value)?.since(from))
}

/// The nonce that a server gives for proofs, if it is one (RFC 9449, section 8.1).
pub(super) fn dpop_nonce(response: &Response<Vec<u8>>) -> Option<&str> {
    let mut values = response.headers().get_all("dpop-nonce").iter();
    let nonce = values.next()?.to_str().ok()?;
    let legal = |byte| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~');
    let sound = !nonce.is_empty() && nonce.len() <= MAX_NONCE && nonce.bytes().all(legal) && values.next().is_none();
    sound.then_some(nonce)
}

/// The OAuth error in a body (RFC 6749, section 5.2), or what some servers send in its stead.
fn server_error(response: &Response<Vec<u8>>) -> Option<ServerError> {
    let body = response.body();
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let members = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(members)) => members,
        Ok(_) => return None,
        Err(_) if is_form(response) => {
            let pairs = form_urlencoded::parse(body);
            pairs.map(|(name, value)| (name.into_owned(), Value::String(value.into_owned()))).collect()
        }
        Err(_) => return None,
    };
    let found = server_error_in(&members);
    crate::secret::wipe_json(&mut Value::Object(members));
    found
}

/// Whether a body calls itself a form, as GitHub's does.
pub(crate) fn is_form(response: &Response<Vec<u8>>) -> bool {
    media_type(response).is_some_and(|text| text.eq_ignore_ascii_case(FORM))
}

/// The media type of a body, without its parameters.
pub(crate) fn media_type(response: &Response<Vec<u8>>) -> Option<&str> {
    let text = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    text.split(';').next().map(str::trim)
}

/// The OAuth error among the members of an answer: a string as the standard says, an object as
/// Google's and Facebook's APIs send, or `error_code` as Google's device endpoint does.
pub(crate) fn server_error_in(members: &serde_json::Map<String, Value>) -> Option<ServerError> {
    fn text(members: &serde_json::Map<String, Value>, name: &str) -> Option<String> {
        match members.get(name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
    let first = |members, names: [&str; 3]| names.into_iter().find_map(|name| text(members, name));
    let (error, detail) = match members.get("error") {
        Some(Value::Object(inner)) => (first(inner, ["status", "type", "code"])?, first(inner, ["message"; 3])),
        _ => (first(members, ["error", "error_code", "error_code"])?, None),
    };
    Some(ServerError {
        error,
        error_description: first(members, ["error_description", "message", "error_message"]).or(detail),
        error_uri: text(members, "error_uri"),
        error_subtype: text(members, "error_subtype"),
    })
}
