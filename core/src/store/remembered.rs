//! What a process remembers of a stored grant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::RecordKey;
use super::record::{Intent, Mark, Record, name};
use crate::source::{GrantStatus, Held, Want, may_be_valid};
use crate::{Error, Now, Secret, Timestamp};

/// The first pause before what could not be saved is tried again; it doubles.
const SAVE_AGAIN: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How long a use of the refresh token may take.
pub(super) const USE: Duration = Duration::from_secs(30);
/// How many tokens that a want was given are told from others.
const MOST_HANDED: usize = 4;
/// How many grants that were replaced by a sign-in are remembered.
const MOST_FORMER: usize = 8;

/// What a process remembers of a stored grant between two mints.
#[derive(Clone, Default)]
pub(crate) struct Remembered {
    /// Where the grant lies, if it lies in a store at all.
    key: Option<RecordKey>,
    /// The tokens that were handed out last, by want, the newest last.
    handed: BTreeMap<String, Vec<Mark>>,
    /// What the want of the mint under way holds, if that is known.
    held: Option<Held>,
    /// What is not saved yet.
    pub(super) unsaved: Option<Box<Unsaved>>,
    /// What the server refused.
    pub(super) refused: Option<Box<Refused>>,
    /// The standing of the refresh token by the record.
    pub(super) open: GrantStatus,
    /// The use that the record tells of.
    watched: Option<Watched>,
    /// The newest record that was seen in the store, or put there.
    newest: Option<Arc<Newest>>,
}

/// A refresh token that the server refused.
#[derive(Clone)]
pub(super) struct Refused {
    pub(super) refresh_token: Secret,
    pub(super) error: Error,
    /// Whether there was a valid access token.
    pub(super) early: bool,
    /// Whether the mint under way was told so by the server, or the last one, and not by this memory.
    pub(super) news: bool,
    /// Whether it is the refresh token of the record that was read last. A replica that lags behind shows another, and
    /// then this one again.
    pub(super) current: bool,
}

/// A use of the refresh token that the record tells of, and when, on the monotonic clock, it is over at the latest: what
/// either clock says has passed has passed.
#[derive(Clone, Copy)]
struct Watched {
    intent: Intent,
    over: Duration,
    /// When it was seen first that the refresh token is surely used up.
    used: Duration,
}

/// The newest record of the grant, its version, and the grants that others signed in over before.
struct Newest {
    record: Record,
    version: u64,
    former: Vec<String>,
}

impl Remembered {
    /// Of the grant that lies under this key, which was not used yet.
    pub(super) fn of(key: RecordKey) -> Self {
        Self { key: Some(key), ..Self::default() }
    }

    pub(crate) fn status(&self) -> GrantStatus {
        match self.refused.as_deref() {
            Some(refused) if refused.current => GrantStatus::Refused { early: refused.early },
            _ => self.open,
        }
    }

    /// Whether a refusal is not only told once more.
    pub(crate) fn is_news(&self) -> bool {
        self.refused.as_deref().is_none_or(|refused| refused.news)
    }

    /// Takes note that the server refused the refresh token because an access token is good.
    pub(crate) fn refused_early(&mut self) {
        self.refused.iter_mut().for_each(|refused| refused.early = true);
    }

    /// How long until it is time to save what is not saved.
    pub(crate) fn save_due(&self, now: Now) -> Option<Duration> {
        self.unsaved.as_deref().map(|unsaved| unsaved.next.saturating_sub(now.mono))
    }

    pub(crate) fn is_stored(&self) -> bool {
        self.key.is_some()
    }

    /// Why what was got last is not saved.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.unsaved.as_deref().and_then(|unsaved| unsaved.error.as_ref())
    }

    /// Begins with what a former credential knows of the same grant: no change of the credential makes less new what it
    /// could not save, nor less known what was refused, and what was there.
    pub(crate) fn take_over(&mut self, former: &Self) {
        if self.key == former.key {
            if self.unsaved.is_none() {
                self.unsaved = former.unsaved.clone();
            }
            self.refused = former.refused.clone();
            self.newest = former.newest.clone();
        }
    }

    /// Takes over what a turn of a former credential has learned of the same grant. It began before what is known here
    /// came about, so that what it does not know counts for nothing.
    pub(crate) fn merge_former(&mut self, late: &Self) {
        if self.key != late.key {
            return;
        }
        if self.unsaved.is_none() {
            self.unsaved = late.unsaved.clone();
        }
        if let Some(newest) = late.newest.as_deref() {
            self.know(&newest.record, newest.version);
        }
        let Some(told) = late.refused.as_deref().filter(|told| told.news) else { return };
        let counts = match self.refused.as_deref() {
            None => true,
            Some(known) if known.refresh_token.matches(told.refresh_token.expose()) => known.early && !told.early,
            Some(_) => self.newest.as_deref().is_some_and(|newest| newest.has(&told.refresh_token)),
        };
        if counts {
            self.refused = late.refused.clone();
        }
    }

    /// This token is handed out.
    pub(super) fn hand_out(&mut self, want: &Want, token: Mark) {
        let handed = self.handed.entry(name(want)).or_default();
        handed.retain(|mark| *mark != token);
        handed.push(token);
        let many = handed.len().saturating_sub(MOST_HANDED);
        handed.drain(..many);
    }

    /// Whether this token is another than those that the want was given: the one that it holds, and those before, which
    /// a replica that lags behind may show once more. What was handed out to a want that holds nothing did not reach it.
    pub(super) fn is_another(&self, want: &Want, token: Mark) -> bool {
        self.held == Some(Held::Nothing) || self.handed.get(&name(want)).is_none_or(|handed| !handed.contains(&token))
    }

    /// A mint begins: nothing that is known is news of its own.
    pub(super) fn begun(mut self) -> Self {
        self.refused.iter_mut().for_each(|refused| refused.news = false);
        self
    }

    /// Whether the want is known to hold this token, or to have held it: to hand that out once more is no answer.
    pub(super) fn is_held(&self, want: &Want, token: Mark) -> bool {
        self.held.is_some() && !self.is_another(want, token)
    }

    /// Says what the want of the mint that begins holds.
    pub(crate) fn holds(&mut self, held: Held) {
        self.held = Some(held);
    }

    /// How long a server may take the token for valid that the want holds.
    pub(super) fn held_lasts(&self, now: Now) -> Option<Duration> {
        may_be_valid(self.held?.ends(), now)
    }

    /// Whether this token may still do: not if it was handed out and refused, or has ended by either clock for longer than
    /// it may be `late`. Where nobody knows what the want holds, one that is asked for again before it is `due` was
    /// refused.
    pub(super) fn may_do(&self, want: &Want, token: Mark, due: bool, now: Now, late: Duration) -> bool {
        let does = match self.held {
            None => due,
            Some(held) => held.ends().is_some_and(|end| !now.has_reached(end + late)),
        };
        does || self.is_another(want, token)
    }

    /// Takes note of what the record says of a use of the refresh token.
    pub(super) fn watch(&mut self, intent: Option<Intent>, now: Now) {
        let before = self.watched.take();
        self.watched = intent.map(|intent| {
            let left = intent.deadline.since(now.wall).min(USE);
            let same =
                |watched: &Watched| (watched.intent.deadline, watched.intent.tries) == (intent.deadline, intent.tries);
            let over = before.filter(same).map_or(now.mono.saturating_add(left), |watched| watched.over);
            let used =
                before.filter(|watched| watched.intent.used == intent.used).map_or(now.mono, |watched| watched.used);
            Watched { intent, over, used }
        });
    }

    /// How long the use may still take that the record tells of.
    pub(super) fn left(&self, now: Now) -> Duration {
        self.watched.map_or(Duration::ZERO, |Watched { intent, over, .. }| {
            intent.deadline.since(now.wall).min(over.saturating_sub(now.mono))
        })
    }

    /// For how long it is over.
    pub(super) fn over(&self, now: Now) -> Duration {
        self.watched.map_or(Duration::ZERO, |Watched { intent, over, .. }| {
            now.wall.since(intent.deadline).max(now.mono.saturating_sub(over))
        })
    }

    /// For how long the refresh token is surely used up.
    pub(super) fn used_up(&self, now: Now) -> Option<Duration> {
        let Watched { intent, used, .. } = self.watched?;
        Some(now.wall.since(intent.used?).max(now.mono.saturating_sub(used)))
    }

    /// Takes note of what lies in the store, unless something newer was there before: a replica may lag behind, or have
    /// taken the place of one that has lost its data. Of two grants the one with the higher version is the newer.
    pub(super) fn know(&mut self, record: &Record, version: u64) {
        let mut former = self.former();
        match &self.newest {
            Some(newest) if newest.is_after(record) => return,
            Some(newest) if newest.version >= version && !is_after(record, &newest.record, &[]) => return,
            Some(newest) if newest.record.grant != record.grant => {
                former.push(newest.record.grant.clone());
                let many = former.len().saturating_sub(MOST_FORMER);
                former.drain(..many);
            }
            _ => {}
        }
        self.newest = Some(Arc::new(Newest { record: record.clone(), version, former }));
    }

    /// The grants that others signed in over before.
    pub(super) fn former(&self) -> Vec<String> {
        self.newest.as_deref().map(|newest| newest.former.clone()).unwrap_or_default()
    }

    /// What is to be saved once more, because the store has lost it: it holds an older record.
    pub(super) fn lost(&self, found: &Record) -> Option<Unsaved> {
        let newest = self.newest.as_deref().filter(|newest| newest.is_after(found))?;
        Some(Unsaved::new(newest.record.clone(), newest.version, newest.former.clone()))
    }
}

impl Newest {
    fn has(&self, refresh_token: &Secret) -> bool {
        self.record.refresh_token.matches(refresh_token.expose())
    }

    fn is_after(&self, other: &Record) -> bool {
        is_after(&self.record, other, &self.former)
    }
}

/// Whether a record came after another, of the same grant or of one that came before it.
fn is_after(record: &Record, other: &Record, former: &[String]) -> bool {
    match record.grant == other.grant {
        true => record.generation > other.generation,
        false => former.contains(&other.grant),
    }
}

/// What a refresh or a sign-in brought, until it is saved.
#[derive(Clone)]
pub(super) struct Unsaved {
    pub(super) record: Record,
    /// The newest version that it goes over, and the one that was there when it was looked at last.
    version: u64,
    pub(super) over: u64,
    /// Whether it is of a sign-in, and goes over whatever lies there.
    pub(super) signed_in: bool,
    /// The grants that others signed in over before.
    former: Vec<String>,
    /// Why it could not be saved.
    pub(super) error: Option<Error>,
    /// How often that was tried, and when, on the monotonic clock, it is to be tried next.
    tries: u32,
    next: Duration,
}

impl Unsaved {
    /// What a refresh brought.
    pub(super) fn new(record: Record, version: u64, former: Vec<String>) -> Self {
        Self { record, version, over: version, signed_in: false, former, error: None, tries: 0, next: Duration::ZERO }
    }

    /// What a person granted, and why it is not saved.
    pub(super) fn signed_in(record: Record, error: Error) -> Self {
        Self { signed_in: true, error: Some(error), ..Self::new(record, 0, Vec::new()) }
    }

    /// It could not be saved.
    pub(super) fn fail(&mut self, error: Error, now: Now) {
        let pause = SAVE_AGAIN.saturating_mul(1 << self.tries.min(8)).min(LONGEST_PAUSE);
        self.tries = self.tries.saturating_add(1);
        self.next = now.mono.saturating_add(pause);
        self.error = Some(error);
    }

    /// Whether it can do with less room: the access tokens give way.
    pub(super) fn slim(&mut self) -> bool {
        let slimmer = self.record.has_tokens();
        if slimmer {
            self.record.forget_tokens();
        }
        slimmer
    }

    /// Looks at what lies in the store. False if that is newer, or this itself; else this goes over it, and over nothing
    /// else: a store that has lost its last saves counts its versions a second time.
    pub(super) fn goes_over(&mut self, found: &Record, version: u64) -> bool {
        let same = found.grant == self.record.grant;
        let beside = same && found.generation == self.record.generation && version <= self.version;
        let goes = match self.signed_in {
            true => !same,
            false => beside || is_after(&self.record, found, &self.former),
        };
        if goes {
            self.replaces(version);
        }
        goes
    }

    /// It goes over this version.
    fn replaces(&mut self, version: u64) {
        self.over = version;
        self.version = self.version.max(version);
    }

    /// It goes where nothing lies: the clock is ahead of whatever was deleted.
    pub(super) fn begins(&mut self, now: Timestamp) {
        let first = u64::try_from(now.as_unix_millis()).unwrap_or(1);
        self.replaces(first.saturating_sub(1));
    }
}
