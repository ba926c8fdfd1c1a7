//! Keeping, looking up and deleting a grant, and signing out.

use std::time::Duration;

use serde_json::Value;

use super::record::Record;
use super::{RecordKey, StoreOp, StoreReply, Stored};
use crate::failure::FailureKind;
use crate::machine::{Effect, ask};
use crate::source::Want;
use crate::{
    Client, Cx, Error, ErrorKind, Exchange, Machine, Now, Reply, Revocation, Rotation, Scopes, Secret, ServerMetadata,
    Step, Timestamp, Token,
};

/// How long a lease must hold for a load and a save, and for a revocation.
const LEASE: Duration = Duration::from_secs(20);
const LEASE_TO_REVOKE: Duration = Duration::from_secs(60);
/// How long a revocation may take.
const REVOKING: Duration = Duration::from_secs(30);
/// How long to wait for others who use the grant.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long between two tries to get a lease.
const PAUSE: Duration = Duration::from_millis(200);
/// How often a record may change under our hands before we give up.
const ROUNDS: u32 = 32;

/// A grant as a store keeps it.
#[derive(Clone, Debug)]
pub struct SavedGrant {
    /// The refresh token, if the server gave one.
    pub refresh_token: Option<Secret>,
    /// The granted scopes, in the server's words.
    pub scopes: Scopes,
    /// The scopes that were asked for, if they were [kept](SaveGrant::asked).
    pub asked: Scopes,
    /// Whether the server replaces refresh tokens, as far as that is known.
    pub rotation: Rotation,
    /// The granted authorization details, if the server named them (RFC 9396, section 7).
    pub authorization_details: Option<Value>,
    /// When the person is signed out unless the grant is used before, if the server said so: for display.
    pub signs_out_at: Option<Timestamp>,
    /// When the person is signed out even if the grant is used, if the server said so.
    pub authorization_expires_at: Option<Timestamp>,
    /// The newest access token of the want, if it has not expired.
    pub token: Option<Token>,
}

/// The machine that looks a grant up. It yields `None` if there is none; an unreadable record is an error.
///
/// ```
/// use grantflow::source::Want;
/// use grantflow::store::{LoadGrant, RecordKey};
/// use grantflow::{Client, Issuer};
///
/// let key = RecordKey::new(&Issuer::new("https://as.example")?, &Client::new("web-app"), "alice");
/// let machine = LoadGrant::new(key, Want::access_token("read"));
/// # let _ = machine;
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Debug)]
pub struct LoadGrant {
    key: RecordKey,
    want: Want,
    client: Option<Client>,
    stage: Stage,
}

impl LoadGrant {
    /// Looks up the grant under this key, and its newest token for this want. Tokens that are bound to a key are left
    /// out: see [`of`](Self::of).
    pub fn new(key: RecordKey, want: Want) -> Self {
        Self { key, want, client: None, stage: Stage::Begin }
    }

    /// Includes tokens that are bound to this client's key (RFC 9449). A grant that is bound to another key is then an
    /// error.
    pub fn of(mut self, client: &Client) -> Self {
        self.client = Some(client.clone());
        self
    }
}

impl Machine for LoadGrant {
    type Output = Option<SavedGrant>;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Self::Output> {
        Step::Done(match (std::mem::replace(&mut self.stage, Stage::Ended), reply) {
            (Stage::Begin, Reply::Start) => {
                self.stage = Stage::Load;
                return Step::Do(Effect::Store(StoreOp::Load { key: self.key.clone() }));
            }
            (Stage::Load, Reply::Store(StoreReply::Loaded(None))) => Ok(None),
            (Stage::Load, Reply::Store(StoreReply::Loaded(Some(found)))) => self.read(&found, cx.now().wall).map(Some),
            (Stage::Load, Reply::Failed(failure)) => Err(failure.into()),
            (Stage::Load, Reply::Refused) => Err(Error::refused("Store")),
            _ => Err(Error::misuse("loading a grant")),
        })
    }
}

impl LoadGrant {
    fn read(&self, found: &Stored, now: Timestamp) -> Result<SavedGrant, Error> {
        let mut record = Record::read(found, &self.key)?;
        if let Some(client) = &self.client {
            record = record.of_client(client)?;
        }
        let token = record.token(&self.want, now);
        let rotation = record.rotation();
        let refresh_token = record.has_refresh_token().then_some(record.refresh_token);
        let Record { scopes, asked, authorization_details, signs_out_at, authorization_expires_at, .. } = record;
        Ok(SavedGrant {
            refresh_token,
            scopes,
            asked,
            rotation,
            authorization_details,
            signs_out_at,
            authorization_expires_at,
            token,
        })
    }
}

/// The machine that keeps the grant that came with a token, in place of the record that was there.
#[derive(Debug)]
pub struct SaveGrant(Leased);

impl SaveGrant {
    /// Keeps the refresh token that came with `token`, and `token` itself for this want. A token of another server than
    /// the key's is refused.
    ///
    /// Without a refresh token the grant is good until the token expires, which it may never do.
    pub fn new(key: RecordKey, want: Want, token: &Token) -> Self {
        Self(Leased::new(key, Work::Save { want, token: token.clone(), asked: Scopes::default() }))
    }

    /// Keeps the scopes that were asked for beside the granted ones, since servers may name them differently, or grant
    /// less.
    pub fn asked(mut self, scopes: impl Into<Scopes>) -> Self {
        if let Work::Save { asked, .. } = &mut self.0.work {
            *asked = scopes.into();
        }
        self
    }
}

impl Machine for SaveGrant {
    type Output = ();
    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<()> {
        self.0.resume(cx, reply)
    }
}

/// The machine that deletes a grant. It is no error if there is none.
#[derive(Debug)]
pub struct DeleteGrant(Leased);

impl DeleteGrant {
    /// Deletes the record under this key.
    pub fn new(key: RecordKey) -> Self {
        Self(Leased::new(key, Work::Delete))
    }
}

impl Machine for DeleteGrant {
    type Output = ();
    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<()> {
        self.0.resume(cx, reply)
    }
}

/// The machine that writes a grant once more as it is, under its lease: a store that encrypts its records seals it anew
/// by the newest key. It is no error if there is none.
#[derive(Debug)]
pub struct RewriteGrant(Leased);

impl RewriteGrant {
    /// Writes the record under this key.
    pub fn new(key: RecordKey) -> Self {
        Self(Leased::new(key, Work::Rewrite))
    }
}

impl Machine for RewriteGrant {
    type Output = ();
    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<()> {
        self.0.resume(cx, reply)
    }
}

/// The machine that revokes a grant, if the server can (RFC 7009), and deletes it. It is no error if there is none.
///
/// A refresh under way comes to its end first, and its result is revoked. A grant that another process saves in the
/// meantime is revoked too. If the server cannot be reached, that is the error, and the grant is kept.
///
/// ```
/// use grantflow::store::{RecordKey, SignOut};
/// use grantflow::{Client, Issuer, ServerMetadata};
///
/// let issuer = Issuer::new("https://as.example")?;
/// let (server, client) = (ServerMetadata::new(issuer.clone()), Client::new("my-program"));
/// let machine = SignOut::new(RecordKey::new(&issuer, &client, "alice"), &server, &client);
/// # drop(machine);
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Debug)]
pub struct SignOut(Leased);

impl SignOut {
    /// Signs out of the grant under this key, of this client at this server. The key of another server or client is
    /// refused.
    pub fn new(key: RecordKey, server: &ServerMetadata, client: &Client) -> Self {
        Self(Leased::new(key, Work::SignOut { server: server.clone(), client: client.clone() }))
    }
}

impl Machine for SignOut {
    type Output = ();
    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<()> {
        self.0.resume(cx, reply)
    }
}

/// One change of a record under a lease.
///
/// ```text
/// Begin ─▶ Lease ─▶ Load ─▶ (Revoke) ─▶ Change ─▶ Release ─▶ done
///            ▲ │ busy  ▲                   │ conflict
///            Wait      └───────────────────┘
/// ```
#[derive(Debug)]
struct Leased {
    key: RecordKey,
    work: Work,
    stage: Stage,
    until: Duration,
    rounds: u32,
    /// Whether the store has no room for access tokens.
    slim: bool,
    result: Result<(), Error>,
}

#[derive(Debug)]
enum Work {
    Save { want: Want, token: Token, asked: Scopes },
    Delete,
    Rewrite,
    SignOut { server: ServerMetadata, client: Client },
}

impl Work {
    /// Whether it is about what may lie under this key.
    fn check(&self, key: &RecordKey) -> Result<(), Error> {
        match self {
            Self::Save { token, .. } => token.check_issuer(key.issuer()),
            Self::Delete | Self::Rewrite => Ok(()),
            Self::SignOut { server, client } => key.check(server.issuer(), client),
        }
    }
}

#[derive(Debug)]
enum Stage {
    Begin,
    Wait,
    Lease,
    Load,
    /// The version that is to be deleted then.
    Revoke(Box<Exchange<()>>, u64),
    Change,
    Release,
    Ended,
}

impl Leased {
    fn new(key: RecordKey, work: Work) -> Self {
        Self { key, work, stage: Stage::Begin, until: Duration::ZERO, rounds: 0, slim: false, result: Ok(()) }
    }

    fn ask(&mut self, stage: Stage, op: StoreOp) -> Step<()> {
        self.stage = stage;
        Step::Do(Effect::Store(op))
    }

    fn release(&mut self, result: Result<(), Error>) -> Step<()> {
        self.result = result;
        let op = StoreOp::Release { key: self.key.clone() };
        self.ask(Stage::Release, op)
    }

    fn lease(&mut self) -> Step<()> {
        let time = if let Work::SignOut { .. } = self.work { LEASE_TO_REVOKE } else { LEASE };
        let op = StoreOp::Lease { key: self.key.clone(), time };
        self.ask(Stage::Lease, op)
    }

    fn change(&self, found: Option<Stored>, now: Timestamp) -> Result<Option<StoreOp>, Error> {
        let key = self.key.clone();
        Ok(match (&self.work, found) {
            (Work::Delete | Work::Rewrite | Work::SignOut { .. }, None) => None,
            (Work::Rewrite, Some(found)) => {
                let version = found.version.saturating_add(1);
                Some(StoreOp::Save { key, expected: Some(found.version), stored: Stored { version, ..found } })
            }
            (Work::Delete | Work::SignOut { .. }, Some(found)) => {
                Some(StoreOp::Delete { key, expected: found.version })
            }
            (Work::Save { want, token, asked }, found) => {
                let expected = found.map(|found| found.version);
                // What was deleted may have had any version: the clock is ahead of all of them.
                let first = || u64::try_from(now.as_unix_millis()).unwrap_or(1);
                let version = expected.map_or_else(first, |version| version.saturating_add(1));
                let mut record = Record::of(key.clone(), want, token, version)?;
                record.asked = asked.clone();
                if self.slim {
                    record.forget_tokens();
                }
                Some(StoreOp::Save { key, expected, stored: record.write(version)? })
            }
        })
    }

    fn may_slim(&self) -> bool {
        !self.slim && matches!(&self.work, Work::Save { token, .. } if token.refresh_token().is_some())
    }

    /// The revocation of what was found, if there is any.
    fn revocation(&self, found: Option<&Stored>) -> Result<Option<Stage>, Error> {
        let (Work::SignOut { server, client }, Some(found)) = (&self.work, found) else { return Ok(None) };
        if server.revocation().is_err() {
            return Ok(None);
        }
        let record = Record::read(found, &self.key)?;
        // Without a refresh token it is the access token that is revoked.
        let Some(token) = record.revocable() else { return Ok(None) };
        let exchange = Revocation::new(server, client, token)?.exchange().total_time(REVOKING);
        Ok(Some(Stage::Revoke(Box::new(exchange), found.version)))
    }

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<()> {
        let Now { mono, wall } = cx.now();
        if let Stage::Revoke(exchange, version) = &mut self.stage {
            let expected = *version;
            return match ask!(&mut **exchange, cx, reply) {
                Ok(()) => {
                    let op = StoreOp::Delete { key: self.key.clone(), expected };
                    self.ask(Stage::Change, op)
                }
                Err(error) => self.release(Err(error)),
            };
        }
        match (std::mem::replace(&mut self.stage, Stage::Ended), reply) {
            (Stage::Begin, Reply::Start) => {
                if let Err(error) = self.work.check(&self.key) {
                    return Step::Done(Err(error));
                }
                self.until = mono.saturating_add(PATIENCE);
                self.lease()
            }
            (Stage::Wait, Reply::Slept) => self.lease(),
            (Stage::Lease, Reply::Store(StoreReply::Busy)) if mono < self.until => {
                self.stage = Stage::Wait;
                Step::Do(Effect::Sleep(PAUSE))
            }
            (Stage::Lease, Reply::Store(StoreReply::Busy)) | (Stage::Wait, _) => {
                Step::Done(Err(Error::new(ErrorKind::Timeout, "another process works on this grant and does not end")))
            }
            (Stage::Change, Reply::Store(StoreReply::Conflict)) if self.rounds >= ROUNDS => {
                self.release(Err(Error::new(ErrorKind::Store, "the stored grant keeps changing").transient()))
            }
            // The access token gives way, if there is more to keep.
            (Stage::Change, Reply::Failed(failure)) if failure.kind() == FailureKind::TooLarge && self.may_slim() => {
                self.slim = true;
                let op = StoreOp::Load { key: self.key.clone() };
                self.ask(Stage::Load, op)
            }
            (Stage::Lease, Reply::Store(StoreReply::Leased(_)))
            | (Stage::Change, Reply::Store(StoreReply::Conflict)) => {
                self.rounds = self.rounds.saturating_add(1);
                let op = StoreOp::Load { key: self.key.clone() };
                self.ask(Stage::Load, op)
            }
            (Stage::Load, Reply::Store(StoreReply::Loaded(found))) => match self.revocation(found.as_ref()) {
                Ok(Some(revoking)) => {
                    self.stage = revoking;
                    self.resume(cx, Reply::Start)
                }
                Ok(None) => match self.change(found, wall) {
                    Ok(Some(op)) => self.ask(Stage::Change, op),
                    Ok(None) => self.release(Ok(())),
                    Err(error) => self.release(Err(error)),
                },
                Err(error) => self.release(Err(error)),
            },
            (Stage::Change, Reply::Store(StoreReply::Saved)) => self.release(Ok(())),
            (Stage::Load | Stage::Change, Reply::Failed(failure)) => self.release(Err(failure.into())),
            (Stage::Release, _) => Step::Done(std::mem::replace(&mut self.result, Ok(()))),
            (Stage::Begin | Stage::Ended, _) => Step::Done(Err(Error::misuse("keeping a grant"))),
            (_, Reply::Failed(failure)) => Step::Done(Err(failure.into())),
            (_, Reply::Refused) => Step::Done(Err(Error::refused("Store"))),
            _ => Step::Done(Err(Error::misuse("keeping a grant"))),
        }
    }
}
