//! The network: what becomes of a request on its way.

use std::time::Duration;

use grantflow::documents::Look;
use grantflow::machine::{FailureKind, Reach, Rules};
use grantflow::{Call, Failure, Reply};
use http::{Request, Response};

use super::account::{json, param};
use super::weather::Weather;
use super::{Event, Sim};

/// What a server or the way to it suffers from, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Calm,
    /// Too busy, and how long to wait.
    Busy {
        status: u16,
        retry_after: Option<u64>,
    },
    /// An error of its own, before or after it has acted.
    Internal,
    Unreachable,
    /// Requests and answers get lost.
    Lossy,
    /// Answers are cut.
    Cut,
    Slow,
    /// A gateway answers in its place, though it lives: nothing gets through, or the requests only.
    Gateway {
        acts: bool,
    },
    /// Its answers come when nobody waits for them any more.
    Late,
    /// All of that, now and then.
    Mixed,
}

/// What the host of a server's metadata suffers from, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Calm,
    /// It takes requests and never answers.
    Hangs,
    /// It answers as if it were asked for a token.
    Refuses,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Wire {
    run: u64,
    account: usize,
    request: Request<Vec<u8>>,
    /// Whether it is for the server's metadata.
    metadata: bool,
    /// The rotating refresh token in it.
    refresh_token: Option<String>,
    fate: Fate,
    answer: Option<Response<Vec<u8>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Good,
    NotSent,
    LostBefore,
    LostAfter,
    /// Nothing comes back, not even a failure.
    Silence {
        acted: bool,
    },
    Status {
        status: u16,
        retry_after: Option<u64>,
        acted: bool,
    },
    /// The connection breaks in the middle of the answer.
    Broken,
    /// Half of the answer looks like all of it.
    Half,
    /// The answer is that the grant is no good.
    Refused,
}

/// After so long a sleep no connection is left.
const CONNECTION: Duration = Duration::from_secs(60);

impl Sim {
    /// Sends what a refresh asks for.
    pub(super) fn send(&mut self, run: u64, call: Call) {
        let now = self.clock.now();
        match self.documents.look(&call, now) {
            Look::Have(document) => return self.resume(run, Reply::Http(document.response(now))),
            Look::Old(document, ticket) => {
                self.documents.abandon(ticket);
                return self.resume(run, Reply::Http(document.response(now)));
            }
            Look::Failed(failure) => return self.resume(run, Reply::Failed(failure)),
            Look::Fetch(ticket) => self.runs.get_mut(&run).expect("a run").reads = Some(ticket),
            // As one who has waited long enough: what they read is there for all, too.
            Look::Busy => self.runs.get_mut(&run).expect("a run").reads = self.documents.insist(&call, now),
            Look::Send => {}
        }
        let mut call = match call.open(Rules::V1 | Rules::START_BEFORE) {
            Ok(call) => call,
            Err(failure) => return self.resume(run, Reply::Failed(failure)),
        };
        let request = call.take_request();
        let host = request.uri().host().unwrap_or_default();
        let account: usize = host[1..].split('.').next().and_then(|name| name.parse().ok()).expect("an account");
        let slot = self.runs[&run].slot;
        let credential = self.slots[slot].credential;
        self.require(call.reach == Reach::Public, || "a request to a public server may go anywhere".into());
        let metadata = request.uri().path().contains("/.well-known/");
        let second = request.uri().path().contains("oauth-authorization-server");
        let trouble = self.credentials[credential].trouble;
        let host = self.credentials[credential].host;
        let (fate, delay) = match call.start_before {
            Some(moment) if self.clock.now().has_reached(moment) => (Fate::NotSent, Duration::ZERO),
            _ if metadata && host == Host::Hangs => (Fate::Silence { acted: false }, Duration::ZERO),
            _ if metadata && host == Host::Refuses => (Fate::Refused, Duration::ZERO),
            _ => self.fate(trouble),
        };
        self.know_try(run);
        if !metadata {
            self.judge_metadata_wait(run);
        }
        let refresh_token = param(&request, "refresh_token").filter(|token| {
            let rotating = matches!(self.accounts[account].kind, super::account::Kind::Rotating { .. });
            rotating && self.accounts[account].refresh_token(token).is_some()
        });
        if let Some(token) = &refresh_token
            && fate != Fate::NotSent
        {
            self.refresh_token_goes_out(run, account, token);
        }
        let there = self.rng.time(Duration::from_millis(5), Duration::from_millis(500));
        let back = self.rng.time(Duration::from_millis(5), Duration::from_millis(500)) + delay;
        let wire = self.id();
        let had_metadata = self.credentials[credential].life.has_metadata(now);
        self.report.requests += 1;
        self.note("refresh of slot {a} sends request {b}", slot, wire);
        self.wires.insert(wire, Wire { run, account, request, metadata, refresh_token, fate, answer: None });
        if let Some(run) = self.runs.get_mut(&run) {
            run.wire = Some(wire);
            run.requests += 1;
            if metadata {
                run.metadata.get_or_insert((self.clock.mono, had_metadata));
                run.second |= second;
            } else {
                run.requests_for_token += 1;
            }
        }
        if !matches!(fate, Fate::NotSent | Fate::LostBefore) {
            self.clock.outside(there, Event::Arrive(wire));
        }
        if !matches!(fate, Fate::Silence { .. }) {
            self.clock.outside(there + back, Event::Answer(wire));
        }
        self.clock.after(call.timeout, Event::TimeOut { run, wire });
        if self.season == super::Season::Storm && self.rng.one_in(100) {
            let wait = self.rng.time(Duration::from_millis(1), Duration::from_secs(2));
            self.clock.after(wait, Event::Abandon(run));
        }
        if self.season == super::Season::Storm && self.rng.one_in(500) {
            let wait = self.rng.time(Duration::from_millis(1), Duration::from_secs(2));
            self.clock.after(wait, Event::Weather(Weather::Replace(credential)));
        }
    }

    /// The refresh token in this request.
    pub(super) fn on_its_way(&self, id: u64) -> Option<(usize, String)> {
        let wire = self.wires.get(&id)?;
        Some((wire.account, wire.refresh_token.clone()?))
    }

    fn fate(&mut self, trouble: Trouble) -> (Fate, Duration) {
        use Trouble::*;
        let trouble = match trouble {
            Mixed => {
                let retry_after = self.retry_after();
                let busy = Busy { status: self.rng.pick(&[429, 503]), retry_after };
                self.rng.pick(&[Calm, Calm, Calm, busy, Internal, Unreachable, Lossy, Cut, Slow, Late])
            }
            other => other,
        };
        let acted = self.rng.chance(50);
        let fate = match trouble {
            Busy { status, retry_after } => Fate::Status { status, retry_after, acted: false },
            Internal => Fate::Status { status: self.rng.pick(&[500, 502, 504]), retry_after: None, acted },
            Unreachable => Fate::NotSent,
            Lossy => self.rng.pick(&[Fate::Good, Fate::LostBefore, Fate::LostAfter, Fate::Silence { acted }]),
            Cut => self.rng.pick(&[Fate::Broken, Fate::Half]),
            Gateway { acts } => Fate::Status { status: 502, retry_after: None, acted: acts && acted },
            Slow if self.rng.chance(30) => Fate::Silence { acted: true },
            _ => Fate::Good,
        };
        let slow = trouble == Slow;
        let delay = match trouble {
            Late => self.rng.time(Duration::from_secs(29), Duration::from_secs(32)),
            _ if slow => self.rng.time(Duration::from_secs(1), Duration::from_secs(90)),
            _ => Duration::ZERO,
        };
        (fate, delay)
    }

    pub(super) fn retry_after(&mut self) -> Option<u64> {
        self.rng.pick(&[None, Some(0), Some(2), Some(7), Some(60), Some(600), Some(3600), Some(86_400)])
    }

    /// A request reaches its server, whether or not this machine is awake.
    pub(super) fn arrive(&mut self, at: Duration, id: u64) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let acts = match wire.fate {
            Fate::Silence { acted } | Fate::Status { acted, .. } => acted,
            Fate::NotSent | Fate::LostBefore | Fate::Refused => false,
            Fate::Good | Fate::LostAfter | Fate::Broken | Fate::Half => true,
        };
        if acts {
            wire.answer = Some(self.accounts[wire.account].answer(at, &wire.request));
        }
        if matches!(wire.fate, Fate::Silence { .. }) {
            self.wires.remove(&id);
        }
    }

    /// The answer reaches this machine, if it still waits for it.
    pub(super) fn deliver(&mut self, at: Duration, id: u64) {
        let Some(wire) = self.wires.remove(&id) else { return };
        if self.runs.get(&wire.run).is_none_or(|run| run.wire != Some(id)) {
            return;
        }
        let broken = || Reply::Failed(Failure::maybe_sent(FailureKind::Broken, "the connection broke"));
        let slept = self.clock.truth.saturating_sub(at) > CONNECTION;
        let reply = match wire.fate {
            Fate::NotSent => Reply::Failed(Failure::not_sent(FailureKind::Connect, "nobody answers")),
            _ if slept => broken(),
            Fate::LostBefore | Fate::LostAfter | Fate::Broken | Fate::Silence { .. } => broken(),
            Fate::Refused => Reply::Http(json(400, r#"{"error":"invalid_grant"}"#.into())),
            Fate::Status { status, retry_after, .. } => {
                let body = if status == 400 { r#"{"error":"temporarily_unavailable"}"# } else { "" };
                let mut response = json(status, body.to_owned());
                if let Some(seconds) = retry_after {
                    response.headers_mut().insert(http::header::RETRY_AFTER, seconds.into());
                }
                Reply::Http(response)
            }
            Fate::Good | Fate::Half => {
                let mut response = wire.answer.expect("the server has answered");
                if wire.fate == Fate::Half {
                    let half = response.body().len() / 2;
                    response.body_mut().truncate(half);
                }
                Reply::Http(response)
            }
        };
        if let Reply::Http(response) = &reply
            && !wire.metadata
        {
            match (response.status().as_u16(), wire.fate) {
                (200, Fate::Good) => {
                    let brought = String::from_utf8_lossy(response.body()).contains(r#""refresh_token""#);
                    self.runs.get_mut(&wire.run).expect("a run").successor = brought;
                }
                (400, Fate::Good) => self.know_refusal(wire.run),
                (_, Fate::Half) => self.know_used_up(wire.run),
                _ => {}
            }
        }
        if let (Reply::Http(response), Some(token)) = (&reply, &wire.refresh_token)
            && matches!(response.status().as_u16(), 400 | 429 | 503)
        {
            self.refresh_token_was_refused(wire.run, wire.account, token);
        }
        if let Some(run) = self.runs.get_mut(&wire.run) {
            run.wire = None;
        }
        let status = if let Reply::Http(response) = &reply { response.status().as_u16() } else { 0 };
        self.note("request {a} is answered with {b}", id as usize, status.into());
        self.resume(wire.run, reply);
    }

    pub(super) fn time_out(&mut self, id: u64, wire: u64) {
        let Some(run) = self.runs.get_mut(&id).filter(|run| run.wire == Some(wire)) else { return };
        run.wire = None;
        self.note("request {a} takes too long", wire as usize, 0);
        self.resume(id, Reply::Failed(Failure::maybe_sent(FailureKind::Timeout, "no answer in time")));
    }
}
