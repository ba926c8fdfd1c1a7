//! The memory of public documents: the metadata and the key sets that many machines read from one address.
//!
//! A call for such a document carries a hint ([`Call::may_be_old`]). A driver that has a [`Documents`] answers the call
//! from it where that is permitted, and fetches the document once for all callers that ask at the same time. A driver
//! that has none sends the call like any other.
//!
//! ```text
//!                                      │ nobody fetches it │ it is being fetched │ the last fetch failed just now
//!   ───────────────────────────────────┼───────────────────┼─────────────────────┼───────────────────────────────
//!   not older than `age`               │ Have              │ Have                │ Have
//!   not older than `on_failure`        │ Old(ticket)       │ Have                │ Have
//!   older, or never read               │ Fetch(ticket)     │ Busy                │ Have or Failed: that outcome
//! ```
//!
//! Where a document may be at two addresses, and only the second is known to have one, the first counts as one that has
//! none. It is old word, by which the first is fetched beside.
//!
//! The holder of a [`Ticket`] fetches, then settles or abandons. `Documents` is passive: it has no lock and no
//! clock, and does nothing by itself.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AGE, SET_COOKIE};
use http::uri::Authority;
use http::{HeaderValue, Response, StatusCode};
use sha2::{Digest, Sha256};

use crate::call::{Call, Oldest, Reach};
use crate::failure::{Failure, FailureKind};
use crate::identity::Identity;
use crate::time::Now;

/// The most documents.
const MAX_DOCUMENTS: usize = 256;
/// The most bytes of all documents.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The most bytes of one document.
const MAX_DOCUMENT: usize = 1024 * 1024;
/// How long an outcome that is no document is shared with others who ask.
const SHARED: Duration = Duration::from_secs(1);
/// The longest pause between two fetches that fail while an old document does.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A fetch that has not ended after this time is not waited for any more.
const LONGEST_FETCH: Duration = Duration::from_secs(60);

/// The documents that one transport has read, by address, reach and client certificate: at most 256 of them and 8 MiB.
/// Those that were not used for the longest time go first. See the [module](self).
#[derive(Default)]
pub struct Documents {
    entries: BTreeMap<Key, Entry>,
    bytes: usize,
    /// Counts the looks: the order in which entries were used.
    looks: u64,
    tickets: u64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    address: Address,
    reach: Reach,
    /// A digest of the client certificate, or of its name.
    identity: Option<[u8; 32]>,
}

/// The address of a document, character by character. It shares its text with the request's.
#[derive(Clone)]
struct Address(http::Uri);

impl Ord for Address {
    /// By what differs the most at first.
    fn cmp(&self, Self(other): &Self) -> Ordering {
        let Self(own) = self;
        own.path()
            .cmp(other.path())
            .then_with(|| own.query().cmp(&other.query()))
            .then_with(|| own.authority().map(Authority::as_str).cmp(&other.authority().map(Authority::as_str)))
            .then_with(|| own.scheme_str().cmp(&other.scheme_str()))
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Address {}

impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Default)]
struct Entry {
    document: Option<Document>,
    /// What the last fetch came to, if not to a document, and how many such followed one another.
    failed: Option<Failed>,
    /// The number of the ticket that is out, and since when, on the monotonic clock.
    flight: Option<(u64, Duration)>,
    used: u64,
}

struct Failed {
    at: Duration,
    times: u32,
    outcome: Result<Document, Failure>,
}

/// The answer of [`Documents::look`].
#[derive(Debug)]
pub enum Look {
    /// Answer with this document.
    Have(Document),
    /// Answer with this document, and fetch it anew beside the run, if the driver can. A driver that cannot abandons
    /// the ticket, or fetches before it answers.
    Old(Document, Ticket),
    /// Send the call, then settle.
    Fetch(Ticket),
    /// Another caller fetches the document. Wait until that has ended and look again; after 5 s, or when the call's own
    /// time is nearly over, [insist](Documents::insist).
    Busy,
    /// Another caller has just failed to fetch it: answer with this failure.
    Failed(Failure),
    /// The call is not for a document that may be old: send it.
    Send,
}

/// The right to fetch a document. There is one at a time for each document; it goes back with
/// [`settle`](Documents::settle) or [`abandon`](Documents::abandon).
#[must_use = "the holder of the ticket fetches, and then settles or abandons"]
pub struct Ticket {
    key: Key,
    number: u64,
}

/// A document that was read. Cheap to clone.
#[derive(Clone)]
pub struct Document(Arc<Inner>);

struct Inner {
    response: Response<Vec<u8>>,
    read: Now,
}

impl Document {
    /// The document as the answer to a call, with its age in the header `Age` (RFC 9111, section 5.1).
    pub fn response(&self, now: Now) -> Response<Vec<u8>> {
        let mut response = self.0.response.clone();
        response.headers_mut().insert(AGE, HeaderValue::from(self.age(now).as_secs()));
        response
    }

    /// The time since the document was read, by the clock that says more.
    pub fn age(&self, now: Now) -> Duration {
        now.mono.saturating_sub(self.0.read.mono).max(now.wall.since(self.0.read.wall))
    }

    fn size(&self) -> usize {
        // Room for the headers and the entry.
        self.0.response.body().len().saturating_add(1024)
    }
}

impl Documents {
    /// A memory without any document.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks for the answer to a call.
    pub fn look(&mut self, call: &Call, now: Now) -> Look {
        let Some((key, oldest)) = Key::of(call) else { return Look::Send };
        self.looks = self.looks.saturating_add(1);
        let looks = self.looks;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.used = looks;
            if let Some(document) = entry.held(now, oldest.age) {
                return Look::Have(document.clone());
            }
        }
        let entry = self.entries.get(&key);
        let held = entry.and_then(|entry| entry.held(now, oldest.on_failure)).cloned();
        let old = held.or_else(|| self.elsewhere(&key, now, oldest));
        if let Some(look) = entry.and_then(|entry| entry.look(now, old.as_ref())) {
            return look;
        }
        let ticket = self.ticket(key, now);
        match old {
            Some(old) => Look::Old(old, ticket),
            None => Look::Fetch(ticket),
        }
    }

    /// The word that there is no document at this address, if there is one at the other.
    fn elsewhere(&self, key: &Key, now: Now, oldest: &Oldest) -> Option<Document> {
        let other = Key { address: Address(oldest.other.clone()?), ..key.clone() };
        let held = self.entries.get(&other)?.held(now, oldest.on_failure)?;
        if held.is_none() || !held.is_json() {
            return None;
        }
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NOT_FOUND;
        Some(Document(Arc::new(Inner { response, read: held.0.read })))
    }

    /// A second ticket beside the one that is out: for a caller that has waited long enough. `None` if the call is not
    /// for a document that may be old.
    pub fn insist(&mut self, call: &Call, now: Now) -> Option<Ticket> {
        let (key, _) = Key::of(call)?;
        Some(self.ticket(key, now))
    }

    fn ticket(&mut self, key: Key, now: Now) -> Ticket {
        self.tickets = self.tickets.saturating_add(1);
        let entry = self.entries.entry(key.clone()).or_default();
        entry.used = self.looks;
        entry.flight = Some((self.tickets, now.mono));
        self.make_room();
        Ticket { key, number: self.tickets }
    }

    /// Ends a fetch with its result, and gives that back. A document is kept, and so is the answer that there is none
    /// (404, 405, 410) where there was none before; any other result is shared for a second with other callers. An
    /// answer that is not JSON, as that of a gateway or one that was cut, does not replace a document that is.
    pub fn settle(
        &mut self,
        ticket: Ticket,
        now: Now,
        outcome: Result<Response<Vec<u8>>, Failure>,
    ) -> Result<Response<Vec<u8>>, Failure> {
        let looks = self.looks;
        let entry = self.entries.entry(ticket.key).or_insert_with(|| Entry { used: looks, ..Entry::default() });
        if entry.flight.is_some_and(|(number, _)| number == ticket.number) {
            entry.flight = None;
        }
        let before = entry.size();
        let kept = match &outcome {
            Ok(response) if response.body().len() > MAX_DOCUMENT => None,
            Ok(response) => Some(Ok(Document::of(response, now))),
            Err(failure) => Some(Err(failure.clone())),
        };
        match kept {
            Some(Ok(document)) if document.is_lasting() && !entry.has_better_than(&document) => {
                entry.document = Some(document);
                entry.failed = None;
            }
            Some(outcome) => {
                let times = entry.failed.as_ref().map_or(0, |failed| failed.times).saturating_add(1);
                entry.failed = Some(Failed { at: now.mono, times, outcome });
            }
            None => {}
        }
        self.bytes = self.bytes.saturating_sub(before).saturating_add(entry.size());
        self.make_room();
        outcome
    }

    /// Ends a fetch without a result, as when its driver was dropped: the next caller that looks fetches.
    pub fn abandon(&mut self, ticket: Ticket) {
        if let Some(entry) = self.entries.get_mut(&ticket.key)
            && entry.flight.is_some_and(|(number, _)| number == ticket.number)
        {
            entry.flight = None;
        }
    }

    fn make_room(&mut self) {
        while self.entries.len() > MAX_DOCUMENTS || self.bytes > MAX_BYTES {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            let Some(entry) = oldest.and_then(|key| self.entries.remove(&key)) else { return };
            self.bytes = self.bytes.saturating_sub(entry.size());
        }
    }
}

impl Entry {
    /// The answer, of an old document or of none, unless it is to be fetched by the one who looks.
    fn look(&self, now: Now, old: Option<&Document>) -> Option<Look> {
        let flies = self.flight.is_some_and(|(_, since)| now.mono.saturating_sub(since) < LONGEST_FETCH);
        if let Some(old) = old {
            let does = flies || self.failed.as_ref().is_some_and(|failed| failed.rests(now));
            return does.then(|| Look::Have(old.clone()));
        }
        match &self.failed {
            _ if flies => Some(Look::Busy),
            Some(failed) if now.mono.saturating_sub(failed.at) < SHARED => match &failed.outcome {
                Ok(answer) => Some(Look::Have(answer.clone())),
                // A caller who had little time fails alone.
                Err(failure) if failure.kind() == FailureKind::Timeout => None,
                Err(failure) => Some(Look::Failed(failure.clone())),
            },
            _ => None,
        }
    }

    /// The document, unless it is older than this.
    fn held(&self, now: Now, oldest: Duration) -> Option<&Document> {
        self.document.as_ref().filter(|document| document.age(now) <= oldest)
    }

    /// Whether the document that it has is worth more than this answer: that it is not there any more, or cannot be
    /// read, may be a matter of minutes.
    fn has_better_than(&self, answer: &Document) -> bool {
        let held = self.document.as_ref().filter(|document| !document.is_none());
        held.is_some_and(|held| answer.is_none() || held.is_json() && !answer.is_json())
    }

    fn size(&self) -> usize {
        let failed = self.failed.as_ref().and_then(|failed| failed.outcome.as_ref().ok());
        self.document.iter().chain(failed).fold(0, |sum, document| sum.saturating_add(document.size()))
    }
}

impl Failed {
    /// Whether it is too early to fetch anew beside a document that does.
    fn rests(&self, now: Now) -> bool {
        let pause = SHARED.saturating_mul(1 << self.times.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
        now.mono.saturating_sub(self.at) < pause
    }
}

impl Key {
    fn of(call: &Call) -> Option<(Self, &Oldest)> {
        let (address, oldest) = call.document()?;
        let digest = |identity: &Identity| {
            let what = identity.as_pem().map(|(certificate, _)| certificate).or(identity.name());
            Sha256::digest(what.unwrap_or_default()).into()
        };
        let identity = call.identity().map(digest);
        Some((Self { address: Address(address.clone()), reach: call.reach(), identity }, oldest))
    }
}

impl Document {
    fn of(response: &Response<Vec<u8>>, now: Now) -> Self {
        let mut response = response.clone();
        response.headers_mut().remove(SET_COOKIE);
        // Its place, so that no copy has to grow.
        response.headers_mut().insert(AGE, HeaderValue::from_static("0"));
        Self(Arc::new(Inner { response, read: now }))
    }

    /// Whether it says something that holds for a while: here it is, or here is none.
    fn is_lasting(&self) -> bool {
        self.0.response.status().is_success() || self.is_none()
    }

    fn is_json(&self) -> bool {
        serde_json::from_slice::<serde::de::IgnoredAny>(self.0.response.body()).is_ok()
    }

    /// Whether it says that there is none.
    fn is_none(&self) -> bool {
        let status = self.0.response.status();
        matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE)
    }
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Documents").field("documents", &self.entries.len()).field("bytes", &self.bytes).finish()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.number).finish()
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({}, {} bytes)", self.0.response.status().as_u16(), self.0.response.body().len())
    }
}
