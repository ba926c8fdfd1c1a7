//! The parts of a request that are made anew at each try: a client's assertion, a proof of possession. They need the
//! time, randomness and a signature by a key that may be remote.
//!
//! ```text
//! Begin ─▶ (the signer's own machine) ─▶ the next part ─▶ ... ─▶ all are made
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::{Request, Within};
use crate::client::Assertion;
use crate::dpop::{DPOP, Proofs};
use crate::jose::SignJwt;
use crate::{Cx, Error, Machine, Now, Reply, Secret, Step};

/// How long after it was made a proof is sent: servers take those of some minutes at the most.
const PROOF_LIFE: Duration = Duration::from_secs(15);
/// How often parts are made for one try, should they be too old when they are there.
const ROUNDS: u32 = 2;

/// Makes one part of a request anew at each try.
pub(crate) trait MakePart: Send + Sync + fmt::Debug {
    /// Begins to make it for this request, with the nonce that the server gave for it, if it did.
    fn make(&self, request: &Request, nonce: Option<&str>, cx: &mut Cx) -> Result<Making, Error>;

    /// Whether it proves the possession of a key, so that the server may ask for a nonce in it
    /// (RFC 9449, section 8).
    fn takes_nonce(&self) -> bool {
        false
    }
}

impl MakePart for Assertion {
    fn make(&self, _: &Request, _: Option<&str>, cx: &mut Cx) -> Result<Making, Error> {
        let (signing, life) = self.sign(cx)?;
        Ok(Making { signing, place: Place::Param(self.param), life })
    }
}

/// A proof of possession is for one request (RFC 9449, section 4.2).
impl MakePart for Proofs {
    fn make(&self, request: &Request, nonce: Option<&str>, cx: &mut Cx) -> Result<Making, Error> {
        let uri = request.uri()?;
        let signing = self.sign(&request.0.method, &uri, nonce, cx)?;
        Ok(Making { signing, place: Place::Header(DPOP), life: PROOF_LIFE })
    }

    fn takes_nonce(&self) -> bool {
        true
    }
}

/// Where a part goes.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// Into the form.
    Param(&'static str),
    /// Into a header of its own.
    Header(HeaderName),
}

/// A part that is being made.
pub(crate) struct Making {
    pub(crate) signing: SignJwt,
    pub(crate) place: Place,
    /// How long it can be sent from now on.
    pub(crate) life: Duration,
}

/// A part that was made. It is a secret: its holder can act as the client, for as long as it lives.
pub(crate) struct Part {
    pub(super) place: Place,
    pub(super) value: Secret,
    made: Now,
    life: Duration,
}

impl Part {
    /// Whether the server will still take it, by either clock.
    pub(super) fn is_fresh(&self, now: Now) -> bool {
        now.wall >= self.made.wall
            && now.wall < self.made.wall + self.life
            && now.mono < self.made.mono.saturating_add(self.life)
    }
}

/// Makes all the parts for one try.
#[derive(Default)]
pub(super) struct Preparing {
    made: Vec<Part>,
    current: Option<(Place, Now, Duration, Within<SignJwt>)>,
    rounds: u32,
}

impl Preparing {
    /// Goes on, as a machine does.
    pub(super) fn resume(
        &mut self,
        request: &Request,
        nonce: Option<&str>,
        bounds: (Duration, Option<Now>),
        cx: &mut Cx,
        mut reply: Reply,
    ) -> Step<Vec<Part>> {
        loop {
            if let Some((place, made, life, signing)) = &mut self.current {
                match signing.resume(cx, std::mem::take(&mut reply)) {
                    Step::Do(effect) => return Step::Do(effect),
                    Step::Done(Err(error)) => return Step::Done(Err(error)),
                    Step::Done(Ok(value)) => {
                        self.made.push(Part { place: place.clone(), value, made: *made, life: *life });
                        self.current = None;
                    }
                }
            }
            let Some(maker) = request.0.parts.get(self.made.len()) else {
                self.rounds = self.rounds.saturating_add(1);
                // A signer may take longer than what it signs lives.
                if self.rounds < ROUNDS && !self.made.iter().all(|part| part.is_fresh(cx.now())) {
                    self.made.clear();
                    continue;
                }
                return Step::Done(Ok(std::mem::take(&mut self.made)));
            };
            match maker.make(request, nonce, cx) {
                Ok(Making { signing, place, life }) => {
                    let signing = Within::new(signing, bounds.0).start_before(bounds.1);
                    self.current = Some((place, cx.now(), life, signing));
                }
                Err(error) => return Step::Done(Err(error)),
            }
        }
    }
}

impl Request {
    /// Adds a part that is made anew at each try.
    pub(crate) fn part(mut self, maker: Arc<dyn MakePart>) -> Self {
        self.0.parts.push(maker);
        self
    }

    pub(super) fn takes_nonce(&self) -> bool {
        self.0.parts.iter().any(|maker| maker.takes_nonce())
    }

    /// Makes the parts by keys that are here.
    pub(super) fn parts_made_here(&self, cx: &mut Cx) -> Result<Vec<Part>, Error> {
        match Preparing::default().resume(self, None, (Duration::MAX, None), cx, Reply::Start) {
            Step::Done(made) => made,
            Step::Do(effect) => Err(Error::config(format!(
                "the key that signs this request is remote ({}): run it as an Exchange",
                effect.name()
            ))),
        }
    }
}
