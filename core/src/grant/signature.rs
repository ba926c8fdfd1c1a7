//! The signature of the ID token that comes with an access token (OpenID Connect Core 1.0, section 3.1.3.7, rule 6).
//!
//! ```text
//! Reading ─keys─▶ Ready ─token─▶ judged
//!                            │ by none of these keys
//!                            └────▶ Newer ─keys─▶ judged
//! ```
//!
//! The keys are read before the request is sent, so that a host of keys that is down costs no code and no refresh
//! token.

use std::{fmt, mem};

use crate::crypto::Algorithm;
use crate::jose::{IdToken, KeySet, ReadKeys, Verified};
use crate::{Cx, Endpoint, Error, ErrorKind, Machine, Reply, Step, Token};

/// Checks it.
pub(super) struct CheckSignature {
    jwks_uri: Endpoint,
    algorithms: Box<[Algorithm]>,
    aliases: std::sync::Arc<[String]>,
    stage: Stage,
}

impl fmt::Debug for CheckSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckSignature").field("jwks_uri", &self.jwks_uri).finish_non_exhaustive()
    }
}

enum Stage {
    Reading(Box<ReadKeys>),
    Ready(KeySet),
    Newer(Box<ReadKeys>, Box<Token>),
    Over,
}

impl CheckSignature {
    /// By the keys at this address, of a server whose issuer has these other names.
    pub(super) fn new(jwks_uri: Endpoint, algorithms: Box<[Algorithm]>, aliases: std::sync::Arc<[String]>) -> Self {
        let stage = Stage::Reading(Box::new(ReadKeys::at(&jwks_uri, false)));
        Self { jwks_uri, algorithms, aliases, stage }
    }

    /// Whether it has the keys to judge by, so that the request may be sent.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }

    /// The token, if its ID token is signed by the server, or has none; none, if newer keys must be read first.
    pub(super) fn judge(&mut self, token: Token) -> Result<Option<Token>, Error> {
        let Stage::Ready(keys) = mem::replace(&mut self.stage, Stage::Over) else {
            return Err(Error::misuse("checking a signature"));
        };
        if self.is_signed(token.id_token(), &keys)? {
            return Ok(Some(token));
        }
        self.stage = Stage::Newer(Box::new(ReadKeys::at(&self.jwks_uri, true)), Box::new(token));
        Ok(None)
    }

    /// Whether one of these keys has signed it; `false` if none of them is its key.
    fn is_signed(&self, id_token: Option<&IdToken>, keys: &KeySet) -> Result<bool, Error> {
        let Some(id_token) = id_token else { return Ok(true) };
        match id_token.verify_by(keys.keys(), &self.algorithms, &self.aliases)? {
            Verified::Yes => Ok(true),
            Verified::NoKey => Ok(false),
            Verified::No => Err(Error::new(ErrorKind::Signature, "the ID token's signature is wrong")),
        }
    }
}

/// Reads keys. It yields the token that waited for them, if one did.
impl Machine for CheckSignature {
    type Output = Option<Token>;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Option<Token>> {
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Reading(mut reading) => match reading.resume(cx, reply) {
                Step::Do(effect) => {
                    self.stage = Stage::Reading(reading);
                    Step::Do(effect)
                }
                Step::Done(keys) => Step::Done(keys.map(|keys| {
                    self.stage = Stage::Ready(keys);
                    None
                })),
            },
            Stage::Newer(mut reading, token) => match reading.resume(cx, reply) {
                Step::Do(effect) => {
                    self.stage = Stage::Newer(reading, token);
                    Step::Do(effect)
                }
                Step::Done(keys) => {
                    let none = "the server has no key for the ID token's signature";
                    let signed = keys.and_then(|keys| self.is_signed(token.id_token(), &keys));
                    Step::Done(match signed {
                        Ok(true) => Ok(Some(*token)),
                        Ok(false) => Err(Error::new(ErrorKind::Signature, none)),
                        Err(error) => Err(error),
                    })
                }
            },
            Stage::Ready(_) | Stage::Over => Step::Done(Err(Error::misuse("checking a signature"))),
        }
    }
}
