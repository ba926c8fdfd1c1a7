//! One grant, many processes: a refresh token that each may use and none may use twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::record::{Intent, Record, name};
use super::{RecordKey, StoreOp, StoreReply, Stored};
use crate::machine::{Effect, ask};
use crate::source::{GrantState, Mint, Minted, Server, TokenSource, Want, WantKind, cannot, is_final};
use crate::{
    Advice, Client, Cx, Discovery, Error, ErrorKind, Exchange, Machine, Now, Reply, Rotation, ServerMetadata, Step,
    Timestamp, Token, TokenRequest,
};

/// How long a lease must hold: longer than all that happens under it.
const LEASE: Duration = Duration::from_secs(60);
/// How long a use of the refresh token may take.
const USE: Duration = Duration::from_secs(30);
/// A use for which there is less time is not begun after waiting.
const SHORTEST_USE: Duration = Duration::from_secs(15);
/// What is left of a lease for saving when a use has taken all its time.
const SAVING: Duration = Duration::from_secs(10);
/// How long to wait for others who use the grant.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long servers that rotate let a refresh token be used again, where they do at all.
const GRACE: Duration = Duration::from_secs(30);
/// When to try again to save what could not be saved.
const SAVE_AGAIN: Duration = Duration::from_secs(10);
/// How often a record may change under our hands before we give up.
const ROUNDS: u32 = 32;

/// A source of tokens from a grant that lies in a store, which processes and machines share.
///
/// The store's record is the state: whichever process refreshes, all of them use what it got, and a refresh
/// token is used once. The driver must have a store.
#[derive(Clone, Debug)]
pub struct SharedGrant(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    key: RecordKey,
    server: Server,
    client: Client,
}

/// What a process remembers of a stored grant between two mints.
#[derive(Clone, Default)]
pub(crate) struct Remembered {
    /// Whether the grant lies in a store at all.
    pub(crate) stored: bool,
    /// The version of the token that was handed out last, by want: to be asked again means that it will not do.
    handed: BTreeMap<String, u64>,
    /// What could not be saved, with the version that it replaces, and why.
    unsaved: Option<Box<(Record, u64, Error)>>,
}

impl Remembered {
    pub(crate) fn error(&self) -> Option<&Error> {
        self.unsaved.as_deref().map(|(_, _, error)| error)
    }
}

impl SharedGrant {
    /// The grant that lies under this key, of this client at this server.
    pub fn new(key: RecordKey, server: impl Into<Server>, client: &Client) -> Self {
        Self(Arc::new(Inner { key, server: server.into(), client: client.clone() }))
    }

    /// Where it lies.
    pub fn key(&self) -> &RecordKey {
        &self.0.key
    }
}

impl TokenSource for SharedGrant {
    fn mint(&self, want: &Want, state: &GrantState) -> Mint {
        Box::new(SharedRefresh {
            grant: self.0.clone(),
            want: want.clone(),
            state: state.clone(),
            stage: Stage::Begin,
            until: Duration::ZERO,
            lease: None,
            waits: 0,
            rounds: 0,
            waited: None,
            before: None,
            current: None,
            result: None,
        })
    }

    fn first_state(&self) -> GrantState {
        let remembered = Remembered { stored: true, ..Remembered::default() };
        GrantState { remembered, ..GrantState::default() }
    }

    fn may_change(&self, _: &GrantState) -> bool {
        true
    }
}

/// Refreshes a grant that others may be refreshing.
///
/// ```text
/// Begin ─▶ Load ─▶ (fresh: done) ─▶ Lease ─▶ LoadLeased ─▶ (fresh: release, done)
///           ▲                         │ busy          ▲      │
///           └───────── Wait ◀─────────┘               │      ▼
///                                           conflict  └── SaveIntent ─▶ Discover? ─▶ Exchange
///                                                                                       │
///                  done ◀─ Release ◀─ SaveResult ◀──────────────── token ───────────────┤
///                            ▲                                                          │
///                            └── SaveFailure (the intent is over, or stays) ◀── error ──┘
/// ```
///
/// The intent, which is written before the refresh token is used, tells whoever comes later that it may be
/// used up. A newcomer waits until that use is over, and then tries once more: at once while the server's grace
/// window may be open, else only when there is no valid token left.
struct SharedRefresh {
    grant: Arc<Inner>,
    want: Want,
    state: GrantState,
    stage: Stage,
    /// When, on the monotonic clock, patience ends.
    until: Duration,
    /// The lease's end, if we have one and it ends.
    lease: Option<Option<Timestamp>>,
    /// How often somebody else had it.
    waits: u32,
    /// How often the record changed under our hands.
    rounds: u32,
    /// The version of the record whose use we have waited for.
    waited: Option<u64>,
    /// The intent that was there before ours.
    before: Option<Intent>,
    /// The record under our hands, and its version in the store.
    current: Option<(Record, u64)>,
    /// What there is to hand out, once the lease is given back.
    result: Option<Result<Token, Error>>,
}

enum Stage {
    Begin,
    Load,
    Wait,
    Lease,
    LoadLeased,
    /// Waits under the lease until another's use is over.
    WaitIntent,
    SaveIntent,
    /// Saves what could not be saved before.
    SaveUnsaved,
    Discover(Box<Discovery>),
    Exchange(Box<Exchange<Token>>),
    SaveResult,
    SaveFailure,
    /// After `invalid_grant`: whether somebody else has a newer record.
    LoadRejected,
    Release,
    Ended,
}

/// What to do next.
#[allow(clippy::large_enum_variant, reason = "it lives for a moment")]
enum Next {
    Ask(Stage, Effect),
    Go(Stage),
}

impl Machine for SharedRefresh {
    type Output = Minted;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Minted> {
        loop {
            let next = match &mut self.stage {
                Stage::Begin => {
                    self.until = cx.now().mono.saturating_add(PATIENCE);
                    self.begin()
                }
                Stage::Discover(discovery) => {
                    let found = ask!(&mut **discovery, cx, reply);
                    self.discovered(found, cx.now())
                }
                Stage::Exchange(exchange) => {
                    let result = ask!(&mut **exchange, cx, reply);
                    self.exchanged(result, cx.now())
                }
                Stage::Ended => return self.finish(cx.now().wall),
                _ => self.answered(cx, std::mem::take(&mut reply)),
            };
            match next {
                Ok(Next::Go(stage)) => self.stage = stage,
                Ok(Next::Ask(stage, effect)) => {
                    self.stage = stage;
                    return Step::Do(effect);
                }
                // Even then the lease goes back.
                Err(error) => {
                    self.result = Some(Err(error));
                    self.stage = Stage::Ended;
                    if self.lease.take().is_some() {
                        self.stage = Stage::Release;
                        return Step::Do(Effect::Store(StoreOp::Release { key: self.key() }));
                    }
                }
            }
        }
    }
}

impl SharedRefresh {
    fn key(&self) -> RecordKey {
        self.grant.key.clone()
    }

    fn load(&self, stage: Stage) -> Result<Next, Error> {
        Ok(Next::Ask(stage, Effect::Store(StoreOp::Load { key: self.key() })))
    }

    fn lease(&self) -> Result<Next, Error> {
        Ok(Next::Ask(Stage::Lease, Effect::Store(StoreOp::Lease { key: self.key(), time: LEASE })))
    }

    fn release(&mut self, result: Result<Token, Error>) -> Result<Next, Error> {
        self.result = Some(result);
        self.lease = None;
        Ok(Next::Ask(Stage::Release, Effect::Store(StoreOp::Release { key: self.key() })))
    }

    /// Saves the record under our hands over the version that it came from.
    fn save(&self, stage: Stage) -> Result<Next, Error> {
        let (record, version) = self.current.as_ref().ok_or_else(|| Error::misuse("a shared grant"))?;
        let stored = record.write(version.saturating_add(1))?;
        Ok(Next::Ask(stage, Effect::Store(StoreOp::Save { key: self.key(), expected: Some(*version), stored })))
    }

    fn begin(&mut self) -> Result<Next, Error> {
        if self.want.kind() != WantKind::AccessToken || self.want.wanted_subject().is_some() {
            return Err(cannot("is a user's grant, and mints access tokens of that user only"));
        }
        // What could not be saved is newer than what lies there.
        if self.state.remembered.unsaved.is_some() { self.lease() } else { self.load(Stage::Load) }
    }

    /// Goes on with the reply to an effect of our own.
    fn answered(&mut self, cx: &mut Cx, reply: Reply) -> Result<Next, Error> {
        let now = cx.now();
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        match (stage, reply) {
            (Stage::Load, Reply::Store(StoreReply::Loaded(found))) => self.loaded(found, now),
            (Stage::Wait, Reply::Slept) => self.load(Stage::Load),
            (Stage::Lease, Reply::Store(StoreReply::Leased(until))) => {
                self.lease = Some(until);
                self.load(Stage::LoadLeased)
            }
            (Stage::Lease, Reply::Store(StoreReply::Busy)) => self.busy(cx),
            (Stage::LoadLeased, Reply::Store(StoreReply::Loaded(found))) => self.loaded_leased(found, now),
            (Stage::WaitIntent, Reply::Slept) => self.load(Stage::LoadLeased),
            (Stage::SaveIntent, Reply::Store(StoreReply::Saved)) => {
                self.saved();
                self.use_refresh_token(now)
            }
            // Somebody wrote who had no lease, or whose lease had ended: what is there now counts.
            (Stage::SaveIntent, Reply::Store(StoreReply::Conflict)) => self.again(),
            (Stage::SaveIntent, Reply::Failed(failure)) => Err(failure.into()),
            (Stage::SaveUnsaved, reply) => self.saved_again(reply, now),
            (Stage::SaveResult, reply) => self.saved_result(reply),
            (Stage::LoadRejected, Reply::Store(StoreReply::Loaded(found))) => self.loaded_rejected(found, now),
            (Stage::SaveFailure | Stage::LoadRejected, _) => {
                let result = self.take_result();
                self.release(result)
            }
            (Stage::Release, _) => Ok(Next::Go(Stage::Ended)),
            (Stage::Wait | Stage::WaitIntent, Reply::Refused) => Err(waited()),
            (Stage::Load | Stage::Lease | Stage::LoadLeased, Reply::Failed(failure)) => Err(failure.into()),
            (_, Reply::Refused) => Err(Error::refused("Store")),
            _ => Err(Error::misuse("a shared grant")),
        }
    }

    fn again(&mut self) -> Result<Next, Error> {
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds > ROUNDS {
            return Err(Error::new(ErrorKind::Store, "the stored grant keeps changing").transient());
        }
        self.load(Stage::LoadLeased)
    }

    /// Somebody else works on it: wait a little, and see what they did.
    fn busy(&mut self, cx: &mut Cx) -> Result<Next, Error> {
        if cx.now().mono >= self.until {
            return Err(waited());
        }
        self.waits = self.waits.saturating_add(1);
        let longest = Duration::from_millis(50).saturating_mul(1 << self.waits.min(4));
        let random = cx.random::<1>("lease")?;
        let pause = longest.mul_f64(0.5 + f64::from(random[0]) / 512.0);
        Ok(Next::Ask(Stage::Wait, Effect::Sleep(pause)))
    }

    fn read(&mut self, found: Option<Stored>) -> Result<(Record, u64), Error> {
        let found = found
            .ok_or_else(|| Error::new(ErrorKind::NotSignedIn, format!("nobody has signed in as {}", self.grant.key)))?;
        Ok((Record::read(&found, &self.grant.key)?, found.version))
    }

    /// The record's token, if it is another than the one that will not do any more, and not due itself.
    fn fresh(&self, record: &Record, now: Timestamp) -> Option<(Token, u64)> {
        record.token(&self.want, now).filter(|(token, version)| self.is_another(*version) && !is_due(token, now, 1.0))
    }

    /// The record's token, if it does for want of a better. Whoever asks again long before its end was refused
    /// with it.
    fn left(&self, record: &Record, now: Timestamp) -> Option<(Token, u64)> {
        // Cells ask a little earlier than they must, each at a moment of its own.
        record.token(&self.want, now).filter(|(token, version)| self.is_another(*version) || is_due(token, now, 1.2))
    }

    fn is_another(&self, version: u64) -> bool {
        self.state.remembered.handed.get(&name(&self.want)).is_none_or(|handed| version > *handed)
    }

    fn hand_out(&mut self, token: Token, version: u64) -> Token {
        self.state.remembered.handed.insert(name(&self.want), version);
        token
    }

    fn loaded(&mut self, found: Option<Stored>, now: Now) -> Result<Next, Error> {
        let (record, _) = self.read(found)?;
        match self.fresh(&record, now.wall) {
            Some((token, version)) => {
                self.result = Some(Ok(self.hand_out(token, version)));
                Ok(Next::Go(Stage::Ended))
            }
            None => self.lease(),
        }
    }

    fn loaded_leased(&mut self, found: Option<Stored>, now: Now) -> Result<Next, Error> {
        if let Some(unsaved) = self.state.remembered.unsaved.take() {
            return self.save_again(found, *unsaved);
        }
        let (record, version) = self.read(found)?;
        if let Some((token, version)) = self.fresh(&record, now.wall) {
            let token = self.hand_out(token, version);
            return self.release(Ok(token));
        }
        let left = self.left(&record, now.wall);
        match record.intent {
            // The other use may still be under way. Where clocks differ, it is over when we have waited for as
            // long as any use takes.
            Some(intent) if now.wall < intent.deadline && self.waited != Some(version) => {
                let left = intent.deadline.since(now.wall).min(USE);
                let enough = self.lease.flatten().is_none_or(|end| end - SHORTEST_USE - SAVING > now.wall + left);
                if now.mono.saturating_add(left) >= self.until || !enough {
                    return self.release(Err(waited()));
                }
                self.waited = Some(version);
                return Ok(Next::Ask(Stage::WaitIntent, Effect::Sleep(left.max(Duration::from_millis(50)))));
            }
            Some(intent) if intent.attempts >= 2 => return self.release(Err(lost())),
            // Too late for any grace window: as long as there is a token that is good, it does.
            Some(intent) if now.wall.since(intent.deadline) > GRACE && left.is_some() => {
                let (token, version) = left.ok_or_else(lost)?;
                let token = self.hand_out(token, version);
                return self.release(Ok(token));
            }
            _ => {}
        }
        self.current = Some((record, version));
        self.save_intent(now)
    }

    /// Writes down that the refresh token is about to be used; where it is never replaced, nothing need be.
    fn save_intent(&mut self, now: Now) -> Result<Next, Error> {
        let (record, _) = self.current.as_mut().ok_or_else(|| Error::misuse("a shared grant"))?;
        if record.rotation == Rotation::Never {
            return self.use_refresh_token(now);
        }
        let known = record.intent;
        self.before = known;
        record.intent = Some(Intent {
            attempts: known.map_or(0, |intent| intent.attempts).saturating_add(1),
            since: known.map_or(now.wall, |intent| intent.since),
            deadline: now.wall + USE,
        });
        self.save(Stage::SaveIntent)
    }

    fn saved(&mut self) {
        if let Some((_, version)) = &mut self.current {
            *version = version.saturating_add(1);
        }
    }

    fn use_refresh_token(&mut self, now: Now) -> Result<Next, Error> {
        let known = match (&self.grant.server, &self.state.metadata) {
            (Server::Known(metadata), _) => metadata.clone(),
            (Server::Issuer(_), Some((metadata, _))) => metadata.clone(),
            (Server::Issuer(issuer), None) => return Ok(Next::Go(Stage::Discover(Box::new(Discovery::new(issuer))))),
        };
        self.exchange(&known, now)
    }

    fn discovered(&mut self, found: Result<ServerMetadata, Error>, now: Now) -> Result<Next, Error> {
        match found {
            Ok(metadata) => {
                self.state.metadata = Some((metadata.clone(), now.wall));
                self.exchange(&metadata, now)
            }
            Err(error) => self.exchanged(Err(error), now),
        }
    }

    fn exchange(&mut self, server: &ServerMetadata, now: Now) -> Result<Next, Error> {
        let (record, _) = self.current.as_ref().ok_or_else(|| Error::misuse("a shared grant"))?;
        let scopes = self.want.scopes();
        let request = TokenRequest::refresh_token(server, &self.grant.client, &record.refresh_token)?
            .granted(record.scopes.clone())
            .rotation(record.rotation);
        let request = if scopes.is_empty() { request } else { request.scopes(scopes) };
        let request = self.want.wanted_audience().into_iter().fold(request, TokenRequest::audience);
        let request = self.want.wanted_resource().into_iter().fold(request, TokenRequest::resource);
        // All of it within the time that the intent tells others, and within the lease.
        let by_intent = record.intent.map(|intent| intent.deadline);
        let by_lease = self.lease.flatten().map(|end| end - SAVING);
        let end = by_intent.into_iter().chain(by_lease).min();
        let time = end.map_or(USE, |end| end.since(now.wall)).min(USE);
        let exchange = request.exchange().total_time(time);
        let exchange = match end {
            Some(end) => exchange.start_before(end),
            None => exchange,
        };
        Ok(Next::Go(Stage::Exchange(Box::new(exchange))))
    }

    fn exchanged(&mut self, result: Result<Token, Error>, now: Now) -> Result<Next, Error> {
        let (record, version) = self.current.as_mut().ok_or_else(|| Error::misuse("a shared grant"))?;
        match result {
            Ok(token) => {
                record.refreshed(&self.want, &token, version.saturating_add(1));
                self.result = Some(Ok(token));
                self.save(Stage::SaveResult)
            }
            Err(error) if is_final(&error) => {
                self.result = Some(Err(error));
                self.load(Stage::LoadRejected)
            }
            Err(error) => {
                let Some(intent) = &mut record.intent else { return self.release(Err(error)) };
                if error.is_uncertain() {
                    // Nobody knows what became of it: the intent stays, and nobody need wait for its end.
                    intent.deadline = now.wall;
                } else {
                    // This use did nothing; an earlier one may have.
                    record.intent = self.before;
                }
                self.result = Some(Err(error));
                self.save(Stage::SaveFailure)
            }
        }
    }

    fn take_result(&mut self) -> Result<Token, Error> {
        self.result.take().unwrap_or_else(|| Err(Error::misuse("a shared grant")))
    }

    fn saved_result(&mut self, reply: Reply) -> Result<Next, Error> {
        let token = self.take_result()?;
        let (record, version) = self.current.take().ok_or_else(|| Error::misuse("a shared grant"))?;
        let error = match reply {
            Reply::Store(StoreReply::Saved) => {
                let token = self.hand_out(token, version.saturating_add(1));
                return self.release(Ok(token));
            }
            // Somebody has written something newer, such as another sign-in: that stays, and so does our token.
            Reply::Store(StoreReply::Conflict) => {
                let token = self.hand_out(token, version);
                return self.release(Ok(token));
            }
            Reply::Failed(failure) => Error::from(failure),
            _ => Error::refused("Store"),
        };
        self.keep_unsaved(record, version, error);
        let token = self.hand_out(token, version);
        self.release(Ok(token))
    }

    fn keep_unsaved(&mut self, record: Record, version: u64, error: Error) {
        self.state.remembered.unsaved = Some(Box::new((record, version, error)));
    }

    /// Tries again to save what could not be saved, unless somebody has written something newer since.
    fn save_again(&mut self, found: Option<Stored>, unsaved: (Record, u64, Error)) -> Result<Next, Error> {
        let (record, version, _) = unsaved;
        if found.is_none_or(|found| found.version != version) {
            return self.again();
        }
        self.current = Some((record, version));
        self.save(Stage::SaveUnsaved)
    }

    fn saved_again(&mut self, reply: Reply, now: Now) -> Result<Next, Error> {
        let error = match reply {
            Reply::Store(StoreReply::Saved | StoreReply::Conflict) => return self.again(),
            Reply::Failed(failure) => Error::from(failure),
            _ => Error::refused("Store"),
        };
        let (record, version) = self.current.take().ok_or_else(|| Error::misuse("a shared grant"))?;
        let token = record.token(&self.want, now.wall).map(|(token, _)| token).ok_or_else(|| error.clone());
        self.keep_unsaved(record, version, error);
        self.release(token)
    }

    fn loaded_rejected(&mut self, found: Option<Stored>, now: Now) -> Result<Next, Error> {
        let result = self.take_result();
        let ours = self.current.as_ref().map(|(_, version)| *version);
        match found {
            Some(found) if Some(found.version) > ours => {
                // Another process won: what it has got is used, and never deleted.
                self.rounds = self.rounds.saturating_add(1);
                if self.rounds > ROUNDS { self.release(result) } else { self.loaded_leased(Some(found), now) }
            }
            _ => self.release(result),
        }
    }

    fn finish(&mut self, now: Timestamp) -> Step<Minted> {
        Step::Done(match self.result.take() {
            Some(Ok(token)) => {
                let token = match &self.state.remembered.unsaved {
                    Some(_) => token.with_refresh_after(now + SAVE_AGAIN),
                    None => token,
                };
                Ok(Minted { token, state: Some(std::mem::take(&mut self.state)) })
            }
            Some(Err(error)) => Err(error.during("refreshing the stored grant", None)),
            None => Err(Error::misuse("a shared grant")),
        })
    }
}

/// Whether a token is to be replaced; `times` the usual margin before its end.
fn is_due(token: &Token, now: Timestamp, times: f64) -> bool {
    token.expires_at().is_some_and(|end| {
        let margin = end.since(token.issued_at()).mul_f64(0.25).min(Duration::from_secs(300));
        end.since(now) <= margin.mul_f64(times)
    })
}

fn waited() -> Error {
    Error::new(ErrorKind::Timeout, "another process is refreshing this grant and does not come to an end")
}

fn lost() -> Error {
    let why = "the server may have replaced the refresh token in an answer that never arrived";
    Error::new(ErrorKind::GrantLost, why).with_advice(Advice::SignInAgain)
}
