//! The contract between core and its driver.
//!
//! A [`Machine`] asks for one [`Effect`] at a time; its driver carries it out and comes back
//! with the [`Reply`]. Time and randomness come in with each call, as plain data in [`Cx`].
//!
//! ```text
//!            resume(cx, Reply::Start)
//!   driver ───────────────────────────▶ machine
//!          ◀─────────────────────────── Step::Do(Effect)      ┐ as often
//!   carries it out                                            │ as needed
//!          ───────────────────────────▶ resume(cx, reply)     ┘
//!          ◀─────────────────────────── Step::Done(Result)
//! ```
//!
//! A whole driver, which may refuse what it does not know how to do. A [`Call`] opens only to a driver that says
//! which [`Rules`] it obeys: of a request with another rule nothing is sent.
//!
//! ```
//! use grantflow::machine::Rules;
//! use grantflow::{Cx, Effect, Error, Machine, Now, Reply, Step};
//! # struct Net;
//! # impl Net {
//! #   fn now(&self) -> Now { Now::default() }
//! #   fn random(&self) -> [u8; 32] { [7; 32] }
//! #   fn send(&self, _: grantflow::machine::Open) -> Result<http::Response<Vec<u8>>, grantflow::Failure> {
//! #       Err(grantflow::Failure::not_sent(grantflow::machine::FailureKind::Connect, "no network"))
//! #   }
//! #   fn sleep(&self, _: std::time::Duration) {}
//! # }
//! fn drive<M: Machine>(mut machine: M, net: &mut Net) -> Result<M::Output, Error> {
//!     let mut reply = Reply::Start;
//!     loop {
//!         let mut cx = Cx::new(net.now(), net.random());
//!         reply = match machine.resume(&mut cx, reply) {
//!             Step::Done(result) => return result,
//!             Step::Do(Effect::Http(call)) => {
//!                 let answer = call.open(Rules::V1).and_then(|call| net.send(call));
//!                 answer.map_or_else(Reply::Failed, Reply::Http)
//!             }
//!             Step::Do(Effect::Sleep(time)) => { net.sleep(time); Reply::Slept }
//!             Step::Do(_) => Reply::Refused,
//!         };
//!     }
//! }
//! ```

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use crate::call::{Call, Open, Reach, Repeat, Rules};
pub use crate::failure::{Failure, FailureKind};
pub use crate::identity::Identity;
pub use crate::program::{Exited, Program};
use crate::store::{StoreOp, StoreReply};
pub use crate::time::Now;
use crate::{Advice, Error, ErrorKind};

/// A conversation with the outside, as a state machine without any input or output of its own.
///
/// Call [`resume`](Self::resume) with [`Reply::Start`], carry out the effect it asks for, and call
/// it again with the reply, until it is done. A reply that does not fit the effect asked for, or a
/// call after the end, gives an error of kind [`ErrorKind::Misuse`]; nothing panics.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no machine",
    label = "this does nothing by itself",
    note = "a request becomes a machine by `.exchange()`, an authorization by `.start()`, a pending one by `.finish(..)`, a device's code by `.poll(..)`",
    note = "a source of tokens is given to a `TokenManager`, or mints one token by `.mint(&want, &state)`"
)]
pub trait Machine {
    /// The result of a run.
    type Output;

    /// Takes the reply to the last effect, and runs to the next effect or to the end.
    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Self::Output>;
}

impl<M: Machine + ?Sized> Machine for Box<M> {
    type Output = M::Output;
    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Self::Output> {
        (**self).resume(cx, reply)
    }
}

impl<M: Machine + ?Sized> Machine for &mut M {
    type Output = M::Output;
    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Self::Output> {
        (**self).resume(cx, reply)
    }
}

/// The answer of [`Machine::resume`]: the next effect, or the end of the run.
#[allow(clippy::large_enum_variant, reason = "a step lives for a moment, and a box would be one more allocation")]
#[must_use = "a step is either an effect to carry out or the result"]
#[derive(Debug)]
pub enum Step<T> {
    /// Carry this effect out, and resume with the reply.
    Do(Effect),
    /// The run has ended. The machine must not be resumed again.
    Done(Result<T, Error>),
}

/// One thing that a machine asks of its driver, since it does no input or output itself. A driver answers
/// [`Reply::Refused`] to any effect that it lacks.
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "an effect lives for a moment, and a box would be one more allocation")]
pub enum Effect {
    /// Make this HTTP request. Reply: [`Reply::Http`] or [`Reply::Failed`].
    Http(Call),
    /// Let this much time pass. Reply: [`Reply::Slept`].
    Sleep(Duration),
    /// Read this environment variable. Reply: [`Reply::Env`].
    Env(&'static str),
    /// Read this file. Reply: [`Reply::File`], [`Reply::Missing`] or [`Reply::Failed`].
    ReadFile {
        /// The path of the file.
        path: PathBuf,
        /// The greatest size in bytes; a larger file is a failure of kind [`FailureKind::TooLarge`].
        max: usize,
    },
    /// Carry out this operation at the store that the run is bound to. Reply: [`Reply::Store`] or [`Reply::Failed`].
    Store(StoreOp),
    /// Run this program. Reply: [`Reply::Exec`], whatever its exit code, or [`Reply::Failed`]. Drivers refuse it unless
    /// their user allows programs.
    Exec(Program),
}

/// Shows no secret: a path that looks like the content of a file is not shown either.
impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(call) => f.debug_tuple("Http").field(call).finish(),
            Self::Sleep(time) => f.debug_tuple("Sleep").field(time).finish(),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
            Self::ReadFile { path, max } => {
                f.debug_struct("ReadFile").field("path", &crate::Shown::path(path)).field("max", max).finish()
            }
            Self::Store(op) => f.debug_tuple("Store").field(op).finish(),
            Self::Exec(program) => f.debug_tuple("Exec").field(program).finish(),
        }
    }
}

impl Effect {
    /// The kind of the effect as a word, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Http(_) => "Http",
            Self::Sleep(_) => "Sleep",
            Self::Env(_) => "Env",
            Self::ReadFile { .. } => "ReadFile",
            Self::Store(_) => "Store",
            Self::Exec(_) => "Exec",
        }
    }
}

/// The driver's answer to the last effect.
#[non_exhaustive]
#[derive(Default)]
pub enum Reply {
    /// The first call of a run: there was no effect yet.
    #[default]
    Start,
    /// The server's answer, of any status, with its whole body.
    Http(http::Response<Vec<u8>>),
    /// The time has passed.
    Slept,
    /// The variable's value, if it is set.
    Env(Option<OsString>),
    /// The file's content.
    File(Vec<u8>),
    /// There is no such file.
    Missing,
    /// The store's reply.
    Store(StoreReply),
    /// The program has ended.
    Exec(Exited),
    /// The driver tried the effect, and it failed.
    Failed(Failure),
    /// The driver does not carry out effects of this kind.
    Refused,
}

impl Reply {
    /// The kind of the reply as a word, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Start => "Start",
            Self::Http(_) => "Http",
            Self::Slept => "Slept",
            Self::Env(_) => "Env",
            Self::File(_) => "File",
            Self::Missing => "Missing",
            Self::Store(_) => "Store",
            Self::Exec(_) => "Exec",
            Self::Failed(_) => "Failed",
            Self::Refused => "Refused",
        }
    }
}

/// Shows no content: bodies, files and variables hold secrets.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(response) => {
                write!(f, "Http({}, {} bytes)", response.status().as_u16(), response.body().len())
            }
            Self::Env(value) => write!(f, "Env({})", if value.is_some() { "set" } else { "unset" }),
            Self::File(content) => write!(f, "File({} bytes)", content.len()),
            Self::Store(reply) => f.debug_tuple("Store").field(reply).finish(),
            Self::Exec(exited) => f.debug_tuple("Exec").field(exited).finish(),
            Self::Failed(failure) => f.debug_tuple("Failed").field(failure).finish(),
            Self::Start | Self::Slept | Self::Missing | Self::Refused => f.write_str(self.name()),
        }
    }
}

/// An effect or a reply, as an observer of a run sees it. Its `Debug` holds no secret.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The machine asks for this.
    Effect(&'a Effect),
    /// The driver comes back with this.
    Reply(&'a Reply),
}

/// The context of one call of a machine: the time, and randomness.
///
/// The driver makes a fresh one for each call. The same machine, given the same replies and the same
/// contexts, does the same: a run is replayable from its inputs.
pub struct Cx {
    now: Now,
    seed: Option<Zeroizing<[u8; 32]>>,
    draws: u32,
}

impl Cx {
    /// A context with `seed`: 32 bytes from the system's entropy, used for this one and no other.
    pub fn new(now: Now, seed: [u8; 32]) -> Self {
        Self { now, seed: Some(Zeroizing::new(seed)), draws: 0 }
    }

    /// A context without entropy, for a driver that has none at this moment. A machine that draws randomness then ends
    /// with an error of kind [`ErrorKind::Entropy`], since there is no weaker source; most calls of a machine draw
    /// none.
    pub fn without_entropy(now: Now) -> Self {
        Self { now, seed: None, draws: 0 }
    }

    /// The time at this call.
    pub fn now(&self) -> Now {
        self.now
    }

    /// `N` random bytes for the purpose that `label` names. No two draws are alike, of one label
    /// or of several. At most 8160 bytes at a time.
    pub fn random<const N: usize>(&mut self, label: &'static str) -> Result<[u8; N], Error> {
        let Some(seed) = &self.seed else {
            return Err(
                Error::new(ErrorKind::Entropy, "the driver gave no random seed").with_advice(Advice::FixProgram)
            );
        };
        let mut bytes = [0; N];
        // One hash for each block, of inputs none of which is a prefix of another.
        for (block, chunk) in (0_u8..=u8::MAX).zip(bytes.chunks_mut(32)) {
            let [a, b, c, d] = self.draws.to_be_bytes();
            let mut hash = Sha256::new();
            hash.update(seed.as_slice());
            hash.update([a, b, c, d, block, u8::try_from(label.len()).unwrap_or(u8::MAX)]);
            hash.update(label);
            match chunk.try_into() {
                Ok(whole) => hash.finalize_into(whole),
                Err(_) => {
                    let digest = Zeroizing::new(<[u8; 32]>::from(hash.finalize()));
                    chunk.iter_mut().zip(digest.iter()).for_each(|(byte, random)| *byte = *random);
                }
            }
        }
        self.draws = self.draws.saturating_add(1);
        Ok(bytes)
    }
}

impl fmt::Debug for Cx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cx").field("now", &self.now).finish_non_exhaustive()
    }
}

/// The system a program runs on, as data, so that what depends on it is tested everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The family of operating systems.
    pub os: Os,
    /// The user's home directory, if known.
    pub home: Option<PathBuf>,
}

/// A family of operating systems that have paths and habits in common.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Os {
    /// Linux and the other systems that follow the XDG conventions.
    Unix,
    /// macOS.
    MacOs,
    /// Windows.
    Windows,
}

/// Hands a child machine's effect to the caller, or yields the child's result. The reply is taken,
/// so that the next child begins with [`Reply::Start`].
macro_rules! ask {
    ($child:expr, $cx:expr, $reply:expr) => {
        match $crate::Machine::resume($child, $cx, ::std::mem::take(&mut $reply)) {
            $crate::Step::Do(effect) => return $crate::Step::Do(effect),
            $crate::Step::Done(result) => result,
        }
    };
}
pub(crate) use ask;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_differ_by_seed_label_and_order_and_repeat_from_the_same_inputs() {
        let draw = |seed, label| Cx::new(Now::default(), [seed; 32]).random::<32>(label).unwrap();
        assert_eq!(draw(1, "state"), draw(1, "state"));
        assert_ne!(draw(1, "state"), draw(2, "state"));
        assert_ne!(draw(1, "state"), draw(1, "nonce"));
        let mut cx = Cx::new(Now::default(), [1; 32]);
        let (first, second) = (cx.random::<32>("state").unwrap(), cx.random::<32>("state").unwrap());
        assert_ne!(first, second);
        let long = Cx::new(Now::default(), [1; 32]).random::<64>("state").unwrap();
        assert_ne!(long[..32], long[32..]);
    }

    #[test]
    fn no_entropy_is_an_error() {
        let error = Cx::without_entropy(Now::default()).random::<32>("state").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Entropy);
    }
}
