//! A machine that may take no longer than its parent has.

use std::time::Duration;

use crate::machine::Effect;
use crate::{Cx, Error, ErrorKind, Machine, Now, Reply, Step};

/// Bounds all that a child machine asks for: the time of its requests and the moment before which they begin,
/// and its pauses. A pause that is too long is refused, so that the child ends with the error that led to it.
pub(crate) struct Within<M> {
    child: M,
    until: Duration,
    start_before: Option<Now>,
}

impl<M> Within<M> {
    /// Bounds `child` until this moment of the monotonic clock.
    pub(crate) fn new(child: M, until: Duration) -> Self {
        Self { child, until, start_before: None }
    }

    /// None of its requests begins at or after this moment.
    pub(crate) fn start_before(mut self, moment: Option<Now>) -> Self {
        self.start_before = moment;
        self
    }
}

impl<M: Machine> Machine for Within<M> {
    type Output = M::Output;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<M::Output> {
        let now = cx.now();
        let left = self.until.saturating_sub(now.mono);
        let mut step = self.child.resume(cx, reply);
        if matches!(step, Step::Do(Effect::Sleep(time)) if time >= left) {
            step = self.child.resume(cx, Reply::Refused);
        }
        match step {
            Step::Do(Effect::Sleep(time)) if time >= left => Step::Done(Err(over())),
            Step::Do(Effect::Http(_))
                if left.is_zero() || self.start_before.is_some_and(|moment| now.has_reached(moment)) =>
            {
                Step::Done(Err(over()))
            }
            Step::Do(Effect::Http(call)) => {
                let time = call.timeout().min(left);
                let call = call.with_timeout(time);
                Step::Do(Effect::Http(match self.start_before {
                    Some(moment) => call.with_start_before(moment),
                    None => call,
                }))
            }
            step => step,
        }
    }
}

fn over() -> Error {
    Error::new(ErrorKind::Timeout, "the time for it is over")
}
