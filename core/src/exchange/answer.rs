//! What an answer says that is no success, and what a body calls itself.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{AGE, CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{Response, StatusCode};
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::FORM;
use crate::json;
use crate::{Advice, Challenge, Error, ErrorKind, Secret, ServerError, Timestamp};

/// The error of an answer whose status is not 2xx.
#[cold]
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
        None => wordless(response),
    };
    // A code that says what is wrong is worth more than a status that says "later".
    let error = if busy && error.advice().is_none() { error.transient() } else { error };
    // A gateway has lost the answer of a server that may have done its work.
    let error = if matches!(status.as_u16(), 502 | 504) { error.uncertain() } else { error };
    error.with_status(status.as_u16()).with_retry_after(retry_after(response, now))
}

/// The error of an answer that says nothing but its status.
fn wordless(response: &Response<Vec<u8>>) -> Error {
    let message = "the server answered with an error status";
    let page = media_type(response).is_some_and(|kind| kind.eq_ignore_ascii_case("text/html"));
    let error = match page {
        true => format!("{message} and a web page: perhaps something in front of it answered").into(),
        false => Cow::Borrowed(message),
    };
    let error = Error::new(ErrorKind::Http, error);
    match response.status().as_u16() {
        408 | 429 => error,
        404 | 405 | 410 => error.with_advice(Advice::FixConfiguration),
        // Errors have a code in them (RFC 6749, section 5.2).
        400..500 => error.with_advice(Advice::AskProvider),
        _ => error,
    }
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

/// The OAuth error in a body (RFC 6749, section 5.2), or what some servers send in its stead; else the one in a
/// challenge (RFC 6750, section 3.1).
fn server_error(response: &Response<Vec<u8>>) -> Option<ServerError> {
    let found = members(response.body(), is_form(response)).and_then(|mut members| {
        let found = server_error_in(&members);
        members.values_mut().for_each(crate::secret::wipe_json);
        found
    });
    found.or_else(|| {
        let challenges = Challenge::all(response.headers());
        let told = challenges.iter().find(|challenge| challenge.error().is_some_and(|code| !code.is_empty()))?;
        Some(ServerError {
            error: told.error()?.to_owned(),
            error_description: told.error_description().map(str::to_owned),
            error_uri: told.error_uri().map(str::to_owned),
            error_subtype: None,
        })
    })
}

/// The error in a body whose status says success, as GitHub and Slack send it. A `code` or a `status` alone may as well
/// tell the success.
pub(crate) fn error_under_success(body: &[u8]) -> Option<Error> {
    let mut members = members(body, false)?;
    let has = |name: &&str| members.contains_key(*name);
    let named = ["error", "errors", "error_code", "errorCode", "errcode"].iter().any(has);
    let found = named.then(|| server_error_in(&members)).flatten().filter(|it| !is_fine(it.error()));
    members.values_mut().for_each(crate::secret::wipe_json);
    found.map(|server| Error::from_server(ErrorKind::Server, server))
}

/// Whether a code of an error says that there is none.
pub(crate) fn is_fine(code: &str) -> bool {
    ["0", "200", "ok", "success", "null", "none", "false"].iter().any(|fine| code.trim().eq_ignore_ascii_case(fine))
}

/// The members of a body in JSON, or in a form if it may be one.
pub(super) fn members(body: &[u8], may_be_form: bool) -> Option<Map<String, Value>> {
    match json::object(body) {
        Ok(object) => Some(object.members),
        Err(_) if may_be_form => {
            let mut members = Map::new();
            for (name, value) in form_urlencoded::parse(body) {
                members.insert(name.into_owned(), Value::String(value.into_owned()));
            }
            Some(members)
        }
        Err(_) => None,
    }
}

/// How old an answer says that it is (RFC 9111, section 5.1).
pub(crate) fn age(response: &Response<Vec<u8>>) -> Duration {
    let seconds = response.headers().get(AGE).and_then(|age| age.to_str().ok()?.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

/// Whether a body calls itself a form, as GitHub's does.
pub(crate) fn is_form(response: &Response<Vec<u8>>) -> bool {
    media_type(response).is_some_and(|text| text.eq_ignore_ascii_case(FORM))
}

/// The media type of a body, without its parameters.
pub(crate) fn media_type(response: &Response<Vec<u8>>) -> Option<&str> {
    let text = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    let end = text.bytes().position(|byte| byte == b';').unwrap_or(text.len());
    text.get(..end).map(str::trim_ascii)
}

/// The JWT of an answer of this media type, where a signed answer was asked for; nothing where a plain one was. The other
/// of the two is refused, a signed one with `unasked` as the reason.
pub(crate) fn signed_answer(
    response: &Response<Vec<u8>>,
    signed: &str,
    asked: bool,
    unasked: &'static str,
) -> Result<Option<Secret>, Error> {
    let invalid = |why| Error::new(ErrorKind::InvalidResponse, why);
    let is_signed = media_type(response).is_some_and(|it| it.eq_ignore_ascii_case(signed));
    match (asked, is_signed) {
        (true, true) => match std::str::from_utf8(response.body()) {
            Ok(jwt) => Ok(Some(jwt.trim().into())),
            Err(_) => Err(invalid("the signed answer is no JWT")),
        },
        (true, false) => Err(invalid("a signed answer was asked for, and this one is not")),
        (false, true) => Err(invalid(unasked)),
        (false, false) => Ok(None),
    }
}

/// The OAuth error among the members of an answer: a string as the standard says, an object as Google's and
/// Facebook's APIs send, one of several as Fitbit's, or `error_code` as Google's device endpoint does.
pub(crate) fn server_error_in(members: &Map<String, Value>) -> Option<ServerError> {
    const DESCRIPTIONS: [&str; 7] =
        ["error_description", "message", "error_message", "msg", "reason", "detail", "errmsg"];
    let several = || members.get("errors")?.as_array()?.first()?.as_object();
    let (error, detail) = match members.get("error") {
        // Where a text and a number stand beside each other, the text tells more.
        Some(Value::Object(inner)) => (
            code(inner, &["status", "code", "error", "type", "reason"])?,
            text(inner, &["message", "error_description"]),
        ),
        _ => match code(members, &["error", "error_code", "errorCode", "code", "errcode"]) {
            Some(error) => (error, None),
            None => match several() {
                Some(each) => (code(each, &["errorType", "code", "type", "reason"])?, text(each, &["message"])),
                None => (code(members, &["status"])?, None),
            },
        },
    };
    Some(ServerError {
        error,
        error_description: text(members, &DESCRIPTIONS).or(detail),
        error_uri: text(members, &["error_uri"]),
        error_subtype: text(members, &["error_subtype"]),
    })
}

/// The first of these members that is a text. An empty one counts as missing.
fn text(members: &Map<String, Value>, names: &[&str]) -> Option<String> {
    let texts = names.iter().filter_map(|name| members.get(*name)?.as_str());
    texts.map(str::trim).find(|text| !text.is_empty()).map(str::to_owned)
}

/// The first that is a text, or else a number.
fn code(members: &Map<String, Value>, names: &[&str]) -> Option<String> {
    let number = || names.iter().find_map(|name| members.get(*name)?.as_number().map(ToString::to_string));
    text(members, names).or_else(number)
}
