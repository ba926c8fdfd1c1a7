//! One grant, many processes: the use of a refresh token that each may use and none may use twice.

mod look;
mod outcome;
mod request;

use std::sync::Arc;
use std::time::Duration;

use super::record::{Intent, Record};
use super::shared::Inner;
use super::{RecordKey, StoreOp, StoreReply, Stored};
use crate::exchange::Within;
use crate::machine::{Effect, ask};
use crate::source::{Change, GrantState, Minting, Waiting, Want, WantKind, cannot};
use crate::token::NO_REFRESH_TOKEN;
use crate::{Cx, Discovery, Error, ErrorKind, Machine, Now, Reply, Secret, ServerMetadata, Step, Token, TokenExchange};

/// How long a lease must hold: longer than all that happens under it.
const LEASE: Duration = Duration::from_secs(60);
/// A use for which there is less time is not begun after waiting.
const SHORTEST_USE: Duration = Duration::from_secs(15);
/// What is left of a lease for saving when a use has taken all its time.
const SAVING: Duration = Duration::from_secs(10);
/// How long to wait for others who use the grant.
const PATIENCE: Duration = Duration::from_secs(90);
/// How soon a process that was refused looks again for a new sign-in.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How often a record may change under our hands before we give up.
const ROUNDS: u32 = 32;

/// Refreshes a grant that others may be refreshing.
///
/// ```text
/// Begin ─▶ Load ─▶ (fresh: done) ─▶ Discover? ─▶ Ahead (signatures) ─▶ Lease ─▶ LoadLeased ─▶ (fresh: release, done)
///           ▲                                                            │ busy     ▲      │
///           └────────────────────────── Wait ◀───────────────────────────┘          │      ▼
///                                                                         conflict  └── SaveIntent ─▶ Exchange
///                                                                                                        │
///                  done ◀─ Release ◀────────────── SaveResult ◀────────────── token ─────────────────────┤
///                            ▲                                                                           │
///                            └── SaveFailure (the intent is over, or stays) ◀────────── error ───────────┘
/// ```
///
/// The intent is the last thing before the request. It tells a later process that the refresh token may be used
/// up. A newcomer waits until that use is over, and then tries once more: at once while the server's grace window may
/// be open, else only when there is no valid token left, with pauses that grow from 30 s to 15 min. How often that
/// was is no reason to give a grant up: a process may have died before it sent anything.
///
/// What the exchange brought is remembered until it is saved. It gives way only to what is newer than itself; a
/// process that could not save it begins with that the next time. A refusal is remembered too, and never written: who
/// was refused looks at the record when asked, and goes on with another refresh token there.
pub(super) struct SharedRefresh {
    grant: Arc<Inner>,
    want: Want,
    state: GrantState,
    stage: Stage,
    /// When, on the monotonic clock, patience ends.
    until: Duration,
    /// The lease's end, if we have one and it ends, by both clocks as they were when it was asked for.
    lease: Option<Option<Now>>,
    asked: Now,
    /// The server, once it is known, and the request to it, signed.
    server: Option<ServerMetadata>,
    ready: Option<(Secret, Box<TokenExchange>)>,
    /// Before when the use must begin that the intent tells of.
    use_until: Now,
    /// How often another process had it, and what of another process is waited for.
    waits: u32,
    waiting: Option<Waiting>,
    /// How often the record changed under our hands.
    rounds: u32,
    /// The intent that was there before ours.
    before: Option<Intent>,
    /// When the use was begun.
    used_at: Now,
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
    /// After a failure to save it: whether it was written all the same.
    LoadIntent,
    Discover(Box<Within<Discovery>>),
    Ahead(Secret, Box<dyn Machine<Output = TokenExchange> + Send>),
    Exchange(Box<TokenExchange>),
    SaveResult,
    SaveFailure,
    /// After `invalid_grant`: whether another process has a newer record.
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
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        loop {
            let next = match &mut self.stage {
                Stage::Begin if !matches!(reply, Reply::Start) => Err(misused()),
                Stage::Begin => {
                    self.until = cx.now().mono.saturating_add(PATIENCE);
                    self.begin(cx.now())
                }
                Stage::Discover(discovery) => {
                    let found = ask!(&mut **discovery, cx, reply);
                    self.discovered(found, cx.now())
                }
                Stage::Ahead(used, signing) => {
                    let signed = ask!(&mut **signing, cx, reply);
                    let used = used.clone();
                    self.signed(used, signed, cx.now())
                }
                Stage::Exchange(exchange) => {
                    let result = ask!(&mut **exchange, cx, reply);
                    let change = exchange.take_change();
                    self.exchanged(result, &change, cx.now())
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
                // Even then the lease goes back, and what was got is not lost.
                Err(error) => {
                    self.result = Some(self.failed(error, cx.now()));
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

impl Minting for SharedRefresh {
    fn take_change(&mut self) -> Change {
        let mut change = Change::default();
        match self.stage {
            Stage::Begin => {}
            Stage::Ended => change.remembered(std::mem::take(&mut self.state.remembered)),
            _ => change.remembered(self.state.remembered.clone()),
        }
        change
    }

    fn waiting(&self) -> Option<Waiting> {
        match self.stage {
            Stage::Wait | Stage::Load | Stage::Lease | Stage::LoadLeased | Stage::WaitIntent => self.waiting,
            _ => None,
        }
    }
}

impl SharedRefresh {
    pub(super) fn new(grant: Arc<Inner>, want: &Want, state: &GrantState) -> Self {
        let mut state = state.clone();
        state.remembered = state.remembered.begun();
        Self {
            grant,
            want: want.clone(),
            state,
            stage: Stage::Begin,
            until: Duration::ZERO,
            lease: None,
            asked: Now::default(),
            server: None,
            ready: None,
            use_until: Now::default(),
            waits: 0,
            waiting: None,
            rounds: 0,
            before: None,
            used_at: Now::default(),
            current: None,
            result: None,
        }
    }

    fn key(&self) -> RecordKey {
        self.grant.key.clone()
    }

    fn load(&self, stage: Stage) -> Result<Next, Error> {
        Ok(Next::Ask(stage, Effect::Store(StoreOp::Load { key: self.key() })))
    }

    fn lease(&mut self, now: Now) -> Result<Next, Error> {
        self.asked = now;
        Ok(Next::Ask(Stage::Lease, Effect::Store(StoreOp::Lease { key: self.key(), time: LEASE })))
    }

    fn release(&mut self, result: Result<Token, Error>) -> Result<Next, Error> {
        self.result = Some(result);
        self.lease = None;
        Ok(Next::Ask(Stage::Release, Effect::Store(StoreOp::Release { key: self.key() })))
    }

    /// Ends with the result that is there.
    fn give_up(&mut self) -> Result<Next, Error> {
        let result = self.result.take().unwrap_or_else(|| Err(misused()));
        self.release(result)
    }

    /// Saves a record over the version that it came from.
    fn save(&self, stage: Stage, record: &Record, version: u64) -> Result<Next, Error> {
        let stored = record.write(version.saturating_add(1))?;
        Ok(Next::Ask(stage, Effect::Store(StoreOp::Save { key: self.key(), expected: Some(version), stored })))
    }

    /// Saves the record under our hands.
    fn save_current(&self, stage: Stage) -> Result<Next, Error> {
        let (record, version) = self.current.as_ref().ok_or_else(misused)?;
        self.save(stage, record, *version)
    }

    fn begin(&mut self, now: Now) -> Result<Next, Error> {
        self.grant.key.check(self.grant.server.issuer(), &self.grant.client)?;
        if self.want.wanted_account().is_some_and(|account| account != self.grant.key.account()) {
            return Err(cannot("is another account's: an account is named by its label"));
        }
        if self.want.kind() != WantKind::AccessToken || self.want.wanted_subject().is_some() {
            return Err(cannot("is a user's grant, and mints access tokens of that user only"));
        }
        // What could not be saved is newer than what lies there.
        if self.state.remembered.unsaved.is_some() { self.lease(now) } else { self.load(Stage::Load) }
    }

    /// Goes on with the reply to an effect of our own.
    fn answered(&mut self, cx: &mut Cx, reply: Reply) -> Result<Next, Error> {
        let now = cx.now();
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        match (stage, reply) {
            (Stage::Load, Reply::Store(StoreReply::Loaded(found))) => self.loaded(found, now),
            (Stage::Wait, Reply::Slept) => self.load(Stage::Load),
            (Stage::Lease, Reply::Store(StoreReply::Leased(until))) => {
                self.waiting = None;
                self.lease = Some(until.map(|wall| Now { wall, mono: self.asked.mono.saturating_add(LEASE) }));
                self.load(Stage::LoadLeased)
            }
            (Stage::Lease, Reply::Store(StoreReply::Busy)) => self.busy(cx),
            (Stage::LoadLeased, Reply::Store(StoreReply::Loaded(found))) => self.loaded_leased(found, now),
            (Stage::WaitIntent, Reply::Slept) => self.load(Stage::LoadLeased),
            (Stage::SaveIntent, Reply::Store(StoreReply::Saved)) => self.saved_intent(now),
            // Somebody wrote who had no lease, or whose lease had ended: what is there now counts.
            (Stage::SaveIntent, Reply::Store(StoreReply::Conflict)) => self.again(),
            (Stage::SaveIntent, Reply::Failed(failure)) => {
                self.result = Some(Err(failure.into()));
                self.load(Stage::LoadIntent)
            }
            (Stage::LoadIntent, Reply::Store(StoreReply::Loaded(found))) => self.loaded_intent(found),
            (Stage::SaveResult, reply) => self.saved_result(reply),
            (Stage::LoadRejected, Reply::Store(StoreReply::Loaded(found))) => self.loaded_rejected(found, now),
            // Whether there is another record nobody can say: it is looked for when somebody asks again.
            (Stage::LoadRejected, _) => {
                self.settle_refusal(now)?;
                self.give_up()
            }
            (Stage::SaveFailure | Stage::LoadIntent, _) => self.give_up(),
            (Stage::Release, _) => Ok(Next::Go(Stage::Ended)),
            (Stage::Wait | Stage::WaitIntent, Reply::Refused) => Err(waited()),
            (Stage::Load | Stage::Lease | Stage::LoadLeased, Reply::Failed(failure)) => Err(failure.into()),
            (_, Reply::Refused) => Err(Error::refused("Store")),
            _ => Err(misused()),
        }
    }

    fn again(&mut self) -> Result<Next, Error> {
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds > ROUNDS {
            return Err(Error::new(ErrorKind::Store, "the stored grant keeps changing").transient());
        }
        self.load(Stage::LoadLeased)
    }

    /// Another process works on it: wait a little, and see what they did.
    fn busy(&mut self, cx: &mut Cx) -> Result<Next, Error> {
        if cx.now().mono >= self.until {
            return Err(waited());
        }
        self.waits = self.waits.saturating_add(1);
        self.waiting = Some(Waiting::Lease);
        let longest = Duration::from_millis(50).saturating_mul(1 << self.waits.min(4));
        let random = cx.random::<1>("lease")?;
        let pause = longest.mul_f64(0.5 + f64::from(random[0]) / 512.0);
        Ok(Next::Ask(Stage::Wait, Effect::Sleep(pause)))
    }

    fn loaded(&mut self, found: Option<Stored>, now: Now) -> Result<Next, Error> {
        let (record, version) = self.read(found)?;
        let unsaved = &mut self.state.remembered.unsaved;
        drop(unsaved.take_if(|unsaved| !unsaved.goes_over(&record, version)));
        // What lies there is outdated, or the store has lost what came after it.
        if unsaved.is_some() || self.state.remembered.lost(&record).is_some() {
            return self.lease(now);
        }
        self.learn(&record, version, now);
        if let Some(fresh) = self.fresh(&record, now.wall) {
            self.result = Some(Ok(fresh));
            return Ok(Next::Go(Stage::Ended));
        }
        if let Some(result) = self.refused(&record, now) {
            self.result = Some(result);
            return Ok(Next::Go(Stage::Ended));
        }
        if !record.has_refresh_token() {
            return self.lease(now);
        }
        self.current = Some((record, version));
        self.prepare(now)
    }

    fn loaded_leased(&mut self, found: Option<Stored>, now: Now) -> Result<Next, Error> {
        if self.state.remembered.unsaved.is_some() {
            return self.save_result(found, now);
        }
        let (record, version) = self.read(found.clone())?;
        if let Some(lost) = self.state.remembered.lost(&record) {
            self.state.remembered.unsaved = Some(Box::new(lost));
            return self.save_result(found, now);
        }
        self.learn(&record, version, now);
        if let Some(fresh) = self.fresh(&record, now.wall) {
            return self.release(Ok(fresh));
        }
        if !record.has_refresh_token() {
            return self.ended(record, version, now);
        }
        if let Some(result) = self.refused(&record, now) {
            return self.release(result);
        }
        if let Some(intent) = record.intent {
            // The other use may still be under way: even if its process is dead, the server may have its request yet.
            let left = self.state.remembered.left(now);
            if !left.is_zero() {
                return self.wait_intent(left, now);
            }
            if let Some(result) = self.rests(intent, &record, now) {
                return self.release(result);
            }
        }
        self.current = Some((record, version));
        if self.ready.is_some() { self.save_intent(now) } else { self.prepare(now) }
    }

    fn wait_intent(&mut self, left: Duration, now: Now) -> Result<Next, Error> {
        let enough = self.lease.flatten().is_none_or(|end| end.wall - SHORTEST_USE - SAVING > now.wall + left);
        if now.mono.saturating_add(left) >= self.until || !enough {
            return self.release(Err(waited()));
        }
        self.waiting = Some(Waiting::Use { until: now.wall + left });
        Ok(Next::Ask(Stage::WaitIntent, Effect::Sleep(left.max(Duration::from_millis(50)))))
    }

    /// There is no refresh token, and no token that does: only a new sign-in helps. A token that is there all the same
    /// was handed out before, and to be asked again means that it is refused: the next program must not begin with it.
    fn ended(&mut self, mut record: Record, version: u64, now: Now) -> Result<Next, Error> {
        let message = format!("the access token of {} has ended or was refused, and {NO_REFRESH_TOKEN}", record.key);
        self.result = Some(Err(Error::new(ErrorKind::NotSignedIn, message)));
        if record.token(&self.want, now.wall).is_none() {
            return self.give_up();
        }
        record.forget_token(&self.want);
        self.current = Some((record, version));
        self.save_current(Stage::SaveFailure)
    }
}

fn waited() -> Error {
    Error::new(ErrorKind::Timeout, "another process is refreshing this grant and does not come to an end")
}

fn misused() -> Error {
    Error::misuse("a shared grant")
}
