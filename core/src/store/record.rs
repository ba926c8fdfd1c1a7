//! The content of a stored grant.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::{RecordKey, Stored, Tags};
use crate::machine::Identity;
use crate::secret::stored;
use crate::source::{LATE, Want, learned};
use crate::{Client, DpopKey, Error, ErrorKind, Rotation, Scopes, Secret, Timestamp, Token};

/// The most wants whose tokens are kept.
const MAX_TOKENS: usize = 16;
/// The most bytes of one of them, and of all.
const LARGEST_TOKEN: usize = 16 * 1024;
const ALL_TOKENS: usize = 64 * 1024;
/// The form of records that this release reads.
const READER: u32 = 1;

/// A grant as it lies in a store.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// The oldest form of records that a reader must know to touch this one. What is only added does not raise it.
    #[serde(default)]
    reader: u32,
    pub(super) key: RecordKey,
    /// Which sign-in it is of: a digest of its first tokens.
    #[serde(default)]
    pub(super) grant: String,
    /// How many refresh tokens came before this one.
    #[serde(default)]
    pub(super) generation: u64,
    /// Whose sign-in it is, and in which session of the server, as its ID token said (OpenID Connect Core 1.0, section 2;
    /// Front-Channel Logout 1.0, section 3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sub: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sid: Option<String>,
    /// Empty if the server gave none: the access token that came then is all there is of the grant.
    #[serde(with = "stored")]
    pub(super) refresh_token: Secret,
    /// What was granted, in the server's words.
    pub(super) scopes: Scopes,
    /// What was asked for, in the application's words; empty if that is not known.
    #[serde(default, skip_serializing_if = "Scopes::is_empty")]
    pub(super) asked: Scopes,
    pub(super) rotation: Rotation,
    /// How many refreshes followed one another that brought no successor.
    #[serde(default)]
    staying: u8,
    /// The thumbprint of the key that the tokens are bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key_binding: Option<String>,
    /// The thumbprint of the certificate that they are bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate_binding: Option<String>,
    /// What was granted in detail, as the server said (RFC 9396, section 7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) authorization_details: Option<serde_json::Value>,
    /// When the grant ends however it is used, and when for want of use, as far as the server said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) authorization_expires_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refresh_token_timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) signs_out_at: Option<Timestamp>,
    /// A use of the refresh token that was begun and not seen to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) intent: Option<Intent>,
    /// The newest token of each want, by the want's name.
    #[serde(default)]
    tokens: BTreeMap<String, Kept>,
    /// That key, once it is known to be the client's.
    #[serde(skip)]
    dpop: Option<DpopKey>,
}

/// What is written before a refresh token is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intent {
    /// When the first of them began that nobody knows the end of.
    pub(super) since: Timestamp,
    /// How many have been begun: no limit, but it makes pauses longer.
    pub(super) tries: u32,
    /// When the last of them is over at the latest.
    pub(super) deadline: Timestamp,
    /// When one of them has surely used the refresh token up, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) used: Option<Timestamp>,
}

/// An access token that others may use too.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    #[serde(with = "stored")]
    access_token: Secret,
    issued_at: Timestamp,
    expires_at: Option<Timestamp>,
    scopes: Scopes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authorization_details: Option<serde_json::Value>,
    /// The version of the record that it came with; 0 if that was a sign-in that was saved late.
    version: u64,
}

/// Tells one access token from another, without keeping either. Versions do not: a store that has lost its last saves
/// counts them a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark([u8; 16]);

impl Mark {
    pub(super) fn of(token: &Token) -> Self {
        Self::new(token.access_token(), token.issued_at(), token.expires_at())
    }

    /// Some servers give the same text again, for longer.
    fn new(access_token: &str, issued_at: Timestamp, expires_at: Option<Timestamp>) -> Self {
        let time = |time: Timestamp| time.as_unix_millis().to_be_bytes();
        let mut digest = Sha256::new();
        digest.update(time(issued_at));
        digest.update(expires_at.map(time).unwrap_or_default());
        digest.update(access_token);
        let mut mark = [0; 16];
        mark.iter_mut().zip(digest.finalize()).for_each(|(mark, byte)| *mark = byte);
        Self(mark)
    }
}

impl Record {
    /// The record of a grant that a person has just given.
    pub(super) fn of(key: RecordKey, want: &Want, token: &Token, version: u64) -> Result<Self, Error> {
        let first = token.refresh_token().map_or(token.access_token(), Secret::expose);
        let claims = token.id_token();
        let mut record = Self {
            reader: READER,
            key,
            grant: digest(first),
            generation: 0,
            sub: claims.map(|id_token| id_token.subject().to_owned()),
            sid: claims.and_then(|id_token| id_token.claims().get("sid")?.as_str()).map(str::to_owned),
            refresh_token: token.refresh_token().cloned().unwrap_or_else(|| Secret::from("")),
            scopes: token.scopes().clone(),
            asked: Scopes::default(),
            rotation: token.rotation(),
            staying: 0,
            key_binding: None,
            certificate_binding: None,
            authorization_details: token.get("authorization_details").cloned(),
            authorization_expires_at: None,
            refresh_token_timeout: None,
            signs_out_at: None,
            intent: None,
            tokens: BTreeMap::new(),
            dpop: None,
        };
        record.learn_ends(token);
        record.keep(want, token, version);
        if !record.has_refresh_token() && record.tokens.is_empty() {
            token.need_refresh_token()?;
        }
        Ok(record)
    }

    /// Takes over what a refresh brought. The use of the refresh token has ended.
    pub(super) fn refreshed(&mut self, want: &Want, token: &Token, version: u64) {
        match token.refresh_token() {
            Some(new) if !new.matches(self.refresh_token.expose()) => {
                self.succeeded(new);
            }
            _ => self.staying = self.staying.saturating_add(1),
        }
        self.rotation = token.rotation();
        self.intent = None;
        self.learn_ends(token);
        self.keep(want, token, version);
    }

    /// What is known of the server's habit with refresh tokens: one that has stayed for some refreshes counts as one
    /// that stays, and no longer once a successor comes.
    pub(super) fn rotation(&self) -> Rotation {
        learned(self.rotation, self.staying)
    }

    /// Takes over the refresh token that came with an answer that is of no use otherwise; returns the one that was
    /// used for it.
    pub(super) fn succeeded(&mut self, new: &Secret) -> Secret {
        self.rotation = Rotation::Rotates;
        self.staying = 0;
        self.generation = self.generation.saturating_add(1);
        self.intent = None;
        std::mem::replace(&mut self.refresh_token, new.clone())
    }

    /// When the grant ends, as the newest answer says. What it does not say again is as before; each use begins its idle time anew.
    fn learn_ends(&mut self, token: &Token) {
        self.authorization_expires_at = token.authorization_expires_at().or(self.authorization_expires_at);
        self.refresh_token_timeout = token.refresh_token_timeout().or(self.refresh_token_timeout);
        let idle = self.refresh_token_timeout.map(|timeout| token.issued_at() + timeout);
        let ends = [idle, self.authorization_expires_at, token.refresh_token_expires_at()];
        self.signs_out_at = ends.into_iter().flatten().min();
    }

    fn keep(&mut self, want: &Want, token: &Token, version: u64) {
        if token.dpop_key() != self.dpop.as_ref() {
            // What is kept is of one kind: bound to one key, or for bearers.
            self.tokens.clear();
            self.dpop = token.dpop_key().cloned();
            self.key_binding = self.dpop.as_ref().map(|key| key.thumbprint().to_owned());
        }
        if token.certificate_thumbprint() != self.certificate_binding.as_deref() {
            self.tokens.clear();
            self.certificate_binding = token.certificate_thumbprint().map(str::to_owned);
        }
        // Only what is for bearers, or bound to a key of ours, can be kept.
        if token.authorization().is_err() && self.dpop.is_none() {
            return;
        }
        // A large one gives way: the refresh token must find room.
        if token.access_token().len() > LARGEST_TOKEN {
            self.tokens.remove(&name(want));
            return;
        }
        let kept = Kept {
            access_token: token.access_token().into(),
            issued_at: token.issued_at(),
            expires_at: token.expires_at(),
            scopes: token.scopes().clone(),
            authorization_details: token.get("authorization_details").cloned(),
            version,
        };
        self.tokens.insert(name(want), kept);
        let size = |record: &Self| record.tokens.values().map(|kept| kept.access_token.expose().len()).sum::<usize>();
        while self.tokens.len() > MAX_TOKENS || size(self) > ALL_TOKENS {
            let oldest = self.tokens.iter().min_by_key(|(_, kept)| kept.version).map(|(name, _)| name.clone());
            oldest.and_then(|name| self.tokens.remove(&name));
        }
    }

    /// Whether there are access tokens that could give way.
    pub(super) fn has_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Whether new tokens can be obtained.
    pub(super) fn has_refresh_token(&self) -> bool {
        !self.refresh_token.is_empty()
    }

    /// What to revoke to end the grant.
    pub(super) fn revocable(&self) -> Option<&Secret> {
        let newest = || self.tokens.values().max_by_key(|kept| kept.version).map(|kept| &kept.access_token);
        if self.has_refresh_token() { Some(&self.refresh_token) } else { newest() }
    }

    /// What a refresh names that must name scopes: what was granted, never more (RFC 6749, section 6), and
    /// `offline_access`, which servers do not name in answers and want to read all the same.
    pub(super) fn scopes_to_name(&self) -> Scopes {
        const OFFLINE: &str = "offline_access";
        self.scopes.iter().chain(self.asked.contains(OFFLINE).then_some(OFFLINE)).collect()
    }

    /// The token of this want is of no use any more.
    pub(super) fn forget_token(&mut self, want: &Want) {
        self.tokens.remove(&name(want));
    }

    /// The access tokens are of no use any more, or give way: others refresh for themselves.
    pub(super) fn forget_tokens(&mut self) {
        self.tokens.clear();
    }

    /// How long its server may take the token of a want for valid, and which one that is.
    pub(super) fn lasts(&self, want: &Want, now: Timestamp) -> Option<(Duration, Mark)> {
        let kept = self.tokens.get(&name(want))?;
        let left = kept.expires_at.map_or(Duration::MAX, |end| (end + LATE).since(now));
        let mark = || Mark::new(kept.access_token.expose(), kept.issued_at, kept.expires_at);
        (!left.is_zero()).then(|| (left, mark()))
    }

    /// The token of a want, if it has not ended.
    pub(super) fn token(&self, want: &Want, now: Timestamp) -> Option<Token> {
        let kept = self.tokens.get(&name(want))?;
        let token = match (&self.key_binding, &self.dpop) {
            (None, _) => Token::bearer(kept.access_token.expose(), kept.issued_at, kept.expires_at),
            (Some(_), Some(key)) => Token::kept_bound(kept.access_token.expose(), key, kept.issued_at, kept.expires_at),
            (Some(_), None) => return None,
        };
        let token = token.ok()?;
        let token = self.certificate_binding.iter().fold(token, |token, it| token.bound_to_certificate(it));
        let token = token.issued_by(self.key.issuer()).with_scopes(kept.scopes.clone());
        let token = token.with_authorization_details(kept.authorization_details.as_ref());
        let token = match self.has_refresh_token() {
            true => token.with_grant(&self.refresh_token, self.rotation),
            // There is nothing to do before its end.
            false => kept.expires_at.into_iter().fold(token, Token::with_refresh_after),
        };
        (!token.is_expired(now)).then_some(token)
    }

    /// Reads what lies in a store, and checks that it is this grant.
    pub(super) fn read(stored: &Stored, key: &RecordKey) -> Result<Self, Error> {
        let wrong = |why: String| Error::new(ErrorKind::Store, format!("the stored grant {key} {why}"));
        let record: Self = serde_json::from_slice(&stored.value).map_err(|e| {
            if serde_json::from_slice::<Form>(&stored.value).is_ok_and(|form| form.reader > READER) {
                return newer(key);
            }
            let (line, column, name) = (e.line(), e.column(), key.name());
            wrong(format!(
                "cannot be read (line {line}, column {column}); look at {name}, and delete it to sign in anew"
            ))
        })?;
        if record.reader > READER {
            return Err(newer(key));
        }
        if record.key != *key {
            return Err(wrong(format!("is another one: {}", record.key)));
        }
        Ok(record)
    }

    /// Whether this client has the key that the grant is bound to. What was for bearers before is not handed out by a client
    /// that has its tokens bound.
    pub(super) fn of_client(mut self, client: &Client) -> Result<Self, Error> {
        match (&self.key_binding, client.dpop_key()) {
            (Some(bound), Some(key)) if bound == key.thumbprint() => self.dpop = Some(key.clone()),
            (Some(_), own) => {
                let (key, has) = (&self.key, if own.is_some() { "another" } else { "none" });
                return Err(Error::config(format!(
                    "the stored grant {key} is bound to a DPoP key, and the client has {has}: give it the one that \
                     DpopKeyInStore keeps, or delete the grant to sign in anew"
                )));
            }
            (None, Some(_)) => self.tokens.clear(),
            (None, None) => {}
        }
        self.of_certificate(client)
    }

    /// The same of the certificate. A confidential client may have a new one, with which it gets new tokens; to a public one
    /// the refresh token is bound too (RFC 8705, section 4). What only the driver has is not known here.
    fn of_certificate(mut self, client: &Client) -> Result<Self, Error> {
        let Some(bound) = &self.certificate_binding else { return Ok(self) };
        let own = match client.presents() {
            Some(identity) if identity.as_pem().is_none() => return Ok(self),
            presented => presented.and_then(Identity::x5t_s256),
        };
        if own.as_ref() == Some(bound) {
            return Ok(self);
        }
        if client.is_public() {
            let (key, has) = (&self.key, if own.is_some() { "presents another" } else { "presents none" });
            return Err(Error::config(format!(
                "the stored grant {key} is bound to a certificate, and the client {has}: give it that one \
                 (Client::identity), or delete the grant to sign in anew"
            )));
        }
        self.tokens.clear();
        Ok(self)
    }

    pub(super) fn write(&self, version: u64) -> Result<Stored, Error> {
        let mut value = Zeroizing::new(Vec::with_capacity(8 * 1024));
        let tags = Tags::new(self.key.issuer(), self.sub.as_deref(), self.sid.as_deref());
        match serde_json::to_writer(&mut *value, self) {
            Ok(()) => Ok(Stored { version, value, tags }),
            Err(error) => {
                value.zeroize();
                Err(Error::new(ErrorKind::Store, "the grant cannot be written").with_source(error))
            }
        }
    }
}

/// All that must be read of a record of any form.
#[derive(Deserialize)]
struct Form {
    reader: u32,
}

fn newer(key: &RecordKey) -> Error {
    let why = format!("the stored grant {key} was written by a newer release of grantflow: update this program");
    Error::new(ErrorKind::Store, why)
}

/// What tells one sign-in from another.
fn digest(first: &str) -> String {
    let digest = Sha256::digest(first);
    BASE64_URL_SAFE_NO_PAD.encode(digest.get(..16).unwrap_or_default())
}

/// A want as a text, the same in every process.
pub(super) fn name(want: &Want) -> String {
    let parts = [
        Some(want.kind().name()),
        Some(want.scopes_text()),
        want.wanted_account(),
        want.wanted_subject(),
        want.wanted_audience(),
        want.resources_text(),
    ];
    // Most wants have none, and keep the names that they had.
    let details = want.wanted_authorization_details().map(Some);
    serde_json::Value::from_iter(parts.into_iter().chain(details)).to_string()
}
