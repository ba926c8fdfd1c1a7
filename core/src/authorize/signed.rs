//! Answers that the server has signed (JWT Secured Authorization Response Mode for OAuth 2.0, JARM).
//!
//! The `state` in an answer whose signature was not checked yet only tells which request the answer is for. All else in
//! it counts after the check.

use crate::crypto::Algorithm;
use crate::jose::{Claims, JwkSet, Jws, LEEWAY, Verified};
use crate::server::Issuer;
use crate::{Error, ErrorKind, Secret, ServerError, Timestamp};

use super::answer::{Parameters, not_the_answer};

/// Claims that are no parameters of the answer.
const OF_THE_JWT: [&str; 6] = ["iss", "aud", "exp", "iat", "nbf", "jti"];

/// What a signed answer says, which nothing vouches for yet.
pub(super) fn unverified(jwt: &str) -> Result<Claims, Error> {
    Jws::read(jwt).and_then(|jws| jws.unverified_claims()).map_err(|error| unreadable(&error))
}

fn unreadable(error: &Error) -> Error {
    not_the_answer(format!("its response: {}", error.message())).with_source(error.clone())
}

/// Whether it is this server's, for this client and this moment (JARM, section 2.4). It may be refused for that before its
/// signature is checked, but not taken.
pub(super) fn check(claims: &Claims, issuer: &Issuer, client_id: &str, now: Timestamp) -> Result<(), Error> {
    let wrong = |why: &'static str| Err(not_the_answer(why));
    match claims.str("iss") {
        Some(iss) if iss == issuer.as_str() => {}
        Some(_) => return wrong("it comes from another server (iss)"),
        None => return wrong("it does not say which server it comes from (iss)"),
    }
    match claims.list("aud") {
        Some(audiences) if audiences.contains(&client_id) => {}
        Some(_) => return wrong("it is for another client (aud)"),
        None => return wrong("it does not say for whom it is (aud)"),
    }
    match claims.time("exp") {
        Some(end) if now < end + LEEWAY => Ok(()),
        Some(_) => Err(Error::new(ErrorKind::Expired, "the answer has ended (exp)")),
        None => wrong("it does not say when it ends (exp)"),
    }
}

/// Its parameters, if one of these keys has signed it by one of these algorithms; `None` if its key is not among them.
pub(super) fn verified(jwt: &str, keys: &JwkSet, algorithms: &[Algorithm]) -> Result<Option<Parameters>, Error> {
    let jws = Jws::read(jwt).map_err(|error| unreadable(&error))?;
    match jws.verify_by(keys, jws.allowed(algorithms)?, |_| true) {
        Verified::Yes => Ok(Some(parameters(&jws.unverified_claims()?))),
        Verified::NoKey => Ok(None),
        Verified::No => Err(Error::new(ErrorKind::Signature, "the answer's signature is wrong")),
    }
}

fn parameters(claims: &Claims) -> Parameters {
    let text = |name: &str| claims.str(name).filter(|text| !text.trim().is_empty());
    let owned = |name: &str| text(name).map(str::to_owned);
    let others = claims.iter().filter(|(name, _)| !OF_THE_JWT.contains(name) && !Parameters::KNOWN.contains(name));
    let others = others.filter_map(|(name, value)| Some((name.into(), Secret::from(value.as_str()?))));
    Parameters {
        state: text("state").map(Secret::from),
        iss: owned("iss"),
        code: text("code").map(Secret::from),
        error: owned("error").map(|error| ServerError {
            error,
            error_description: owned("error_description"),
            error_uri: owned("error_uri"),
            error_subtype: owned("error_subtype"),
        }),
        others: others.take(super::answer::MAX_OTHERS).collect(),
        ..Parameters::default()
    }
}
