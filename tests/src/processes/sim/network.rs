//! The way to the server and back.

use std::time::Duration;

use grantflow::machine::{FailureKind, Reach, Rules};
use grantflow::{Failure, Reply};
use http::{Request, Response};

use super::effects::{MILLI, What};
use super::server::{json, param};
use super::weather::Season;
use super::{Event, Sim};

/// A request under way.
#[derive(Debug)]
pub(super) struct Wire {
    request: Request<Vec<u8>>,
    pub(super) refresh_token: Option<String>,
    fate: Fate,
    back: Duration,
    answer: Option<Response<Vec<u8>>>,
    /// Whether the server did what was asked.
    pub(super) acted: bool,
}

/// What a server suffers from, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Calm,
    Unreachable,
    /// Requests and answers get lost.
    Lossy,
    /// It is too busy, or an error of its own.
    Status,
    /// A gateway answers in its place, though it lives: nothing gets through, or the requests only.
    Gateway {
        acts: bool,
    },
    /// Its answers are cut.
    Cut,
    /// Its answers come when nobody waits for them any more.
    Late,
    /// Connections take their time, and some do not come about.
    Connecting,
    Slow,
    /// All of that.
    Mixed,
}

/// What the host of the server's metadata suffers from, for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Calm,
    /// It takes requests and never answers.
    Hangs,
    /// It answers as if it were asked for a token.
    Refuses,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Good,
    NotSent,
    LostBefore,
    LostAfter,
    /// Nothing comes back.
    Silence {
        acted: bool,
    },
    Status {
        status: u16,
        acted: bool,
    },
    /// Half of the answer.
    Half,
    /// The host of the metadata answers as if it were asked for a token.
    Refused,
}

impl Sim {
    /// An adapter begins to send.
    pub(super) fn send_request(&mut self, id: u64) {
        let op = self.ops.get_mut(&id).expect("an op");
        let (run, process) = (op.run, op.process);
        let What::Http(call) = &mut op.what else { return };
        let mut call = match call.take().map(|call| call.open(Rules::V1 | Rules::START_BEFORE)) {
            Some(Ok(call)) => call,
            Some(Err(failure)) => return self.answer(id, Reply::Failed(failure)),
            None => return,
        };
        let now = self.now(process);
        self.require(call.reach == Reach::Public, || "a request to a public server may go anywhere".into());
        self.judge_call(run, &call);
        if call.start_before.is_some_and(|moment| now.has_reached(moment)) {
            self.note("run {b} of process {a} is too late to send", process, run);
            return self.answer(id, Reply::Failed(Failure::not_sent(FailureKind::Timeout, "too late")));
        }
        let request = call.take_request();
        let refresh_token = param(&request, "refresh_token");
        self.judge_request(run, refresh_token.as_deref(), call.timeout);
        let (fate, delay) = match (&refresh_token, self.host) {
            (None, Host::Hangs) => (Fate::Silence { acted: false }, Duration::ZERO),
            (None, Host::Refuses) => (Fate::Refused, Duration::ZERO),
            _ => self.fate(),
        };
        if fate == Fate::NotSent {
            return self.answer(id, Reply::Failed(Failure::not_sent(FailureKind::Connect, "nobody answers")));
        }
        self.note("run {b} of process {a} sends", process, run);
        if let Some(token) = &refresh_token {
            self.refresh_token_goes_out(run, token);
        }
        let (early, late) = self.rng.pick(&[(Duration::ZERO, delay), (delay, Duration::ZERO)]);
        // What is late was taken at once.
        let (early, late) = if self.trouble == Trouble::Late { (Duration::ZERO, delay) } else { (early, late) };
        let there = self.rng.time(MILLI, 500 * MILLI) + early;
        let back = self.rng.time(MILLI, 500 * MILLI) + late;
        let op = self.ops.get_mut(&id).expect("an op");
        op.what = What::Wire(Wire { request, refresh_token, fate, back, answer: None, acted: false });
        op.sent = true;
        self.after(there, Event::Carry(id));
        self.after(call.timeout, Event::TimeOut(id));
    }

    fn answer(&mut self, id: u64, reply: Reply) {
        let op = self.ops.get_mut(&id).expect("an op");
        op.reply = Some(reply);
        self.after(MILLI, Event::Back(id));
    }

    fn fate(&mut self) -> (Fate, Duration) {
        use Trouble::*;
        let trouble = if self.season == Season::Storm { self.trouble } else { Calm };
        let trouble = match trouble {
            Mixed => self.rng.pick(&[Calm, Calm, Unreachable, Lossy, Status, Slow, Cut, Late]),
            other => other,
        };
        let acted = self.rng.chance(50);
        let fate = match trouble {
            Unreachable => Fate::NotSent,
            Lossy => self.rng.pick(&[
                Fate::Good,
                Fate::LostBefore,
                Fate::LostAfter,
                Fate::Silence { acted: true },
                Fate::Half,
            ]),
            Gateway { acts } => Fate::Status { status: 502, acted: acts && acted },
            Cut => self.rng.pick(&[Fate::LostAfter, Fate::Half]),
            Connecting => self.rng.pick(&[Fate::Good, Fate::NotSent]),
            Status => match self.rng.pick(&[429, 503, 500, 502, 504, 400, 401]) {
                status @ (500 | 502 | 504) => Fate::Status { status, acted },
                status => Fate::Status { status, acted: false },
            },
            _ => Fate::Good,
        };
        let delay = match trouble {
            Slow => self.rng.time(1000 * MILLI, 90_000 * MILLI),
            Late => self.rng.time(29_000 * MILLI, 32_000 * MILLI),
            _ => Duration::ZERO,
        };
        (fate, delay)
    }

    /// A request reaches the server.
    pub(super) fn arrive(&mut self, id: u64) {
        let Some(op) = self.ops.get_mut(&id) else { return };
        let (run, process) = (op.run, op.process);
        let What::Wire(wire) = &mut op.what else { return };
        let acts = match wire.fate {
            Fate::Status { acted, .. } | Fate::Silence { acted } => acted,
            Fate::NotSent | Fate::LostBefore | Fate::Refused => false,
            Fate::Good | Fate::LostAfter | Fate::Half => true,
        };
        let mut ended = false;
        if acts {
            let answer = self.server.answer(self.truth, &wire.request);
            wire.acted = true;
            ended = answer.ended;
            wire.answer = Some(answer.response);
        }
        let (fate, back, token) = (wire.fate, wire.back, wire.refresh_token.clone());
        let reply = match fate {
            Fate::Silence { .. } => None,
            Fate::Refused => Some(Reply::Http(json(400, r#"{"error":"invalid_grant"}"#.into()))),
            Fate::Status { status: 400, .. } => {
                Some(Reply::Http(json(400, r#"{"error":"temporarily_unavailable"}"#.into())))
            }
            Fate::Status { status: 401, .. } => Some(Reply::Http(json(401, r#"{"error":"invalid_client"}"#.into()))),
            Fate::Status { status, .. } => Some(Reply::Http(json(status, String::new()))),
            Fate::Good => wire.answer.take().map(Reply::Http),
            Fate::Half => wire.answer.take().map(|mut response| {
                let half = response.body().len() / 2;
                response.body_mut().truncate(half);
                Reply::Http(response)
            }),
            _ => Some(Reply::Failed(Failure::maybe_sent(FailureKind::Broken, "the connection broke"))),
        };
        op.reply = reply;
        let answers = op.reply.is_some();
        self.note("the server gets the request of run {b} of process {a}", process, run);
        if let Some(token) = token.filter(|_| acts) {
            self.server_got(run, &token, ended);
        }
        if answers {
            self.after(back, Event::Back(id));
        }
    }

    pub(super) fn time_out(&mut self, id: u64) {
        let Some(op) = self.ops.get(&id) else { return };
        let waits = self.runs.get(&op.run).is_some_and(|run| run.op == Some(id));
        if !waits {
            return;
        }
        let (run, process) = (op.run, op.process);
        let arrived = matches!(&op.what, What::Wire(wire) if wire.acted);
        self.note("the request of run {b} of process {a} takes too long", process, run);
        let reply = Reply::Failed(Failure::maybe_sent(FailureKind::Timeout, "no answer in time"));
        // The server may get it yet, unless it has got it already.
        if arrived {
            self.ops.remove(&id);
        }
        self.runs.get_mut(&run).expect("it waits").op = None;
        self.resume(run, reply);
    }
}
