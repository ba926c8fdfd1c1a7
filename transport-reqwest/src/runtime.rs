//! The tokio runtime that everything here runs in. Where there is none, or one without time or I/O, that is one clear
//! error, and not a panic inside of tokio.
//!
//! What a runtime lacks, tokio tells by a panic alone: nothing stable of it can be asked. So this panic is turned into
//! an error, and only this one; no run of a program that works depends on it. Built with `panic = "abort"`, such a
//! program ends at its first call with tokio's own message, which says the same.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use grantflow::{Error, ErrorKind};
use tokio::runtime::Handle;

/// The runtime of the caller.
///
/// # Errors
///
/// Of kind [`ErrorKind::Misuse`] if there is none.
pub(crate) fn current() -> Result<Handle, Error> {
    Handle::try_current().map_err(|_| misuse("this needs a tokio runtime, and there is none here"))
}

/// Runs what needs a runtime with time and I/O.
///
/// # Errors
///
/// Its own, and of kind [`ErrorKind::Misuse`] if there is no such runtime.
pub(crate) async fn within<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let (runtime, mut work) = (current()?, pin!(work));
    poll_fn(|cx| poll_in(&runtime, work.as_mut(), cx)).await
}

/// As [`within`], with this runtime, whichever task polls.
#[cfg(feature = "manager")]
pub(crate) async fn inside<T>(runtime: &Handle, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut work = pin!(work);
    poll_fn(|cx| poll_in(runtime, work.as_mut(), cx)).await
}

/// Polls within the runtime, and turns the panic about what it lacks into an error.
fn poll_in<T>(
    runtime: &Handle,
    work: Pin<&mut impl Future<Output = Result<T, Error>>>,
    cx: &mut Context<'_>,
) -> Poll<Result<T, Error>> {
    let _entered = runtime.enter();
    match catch_unwind(AssertUnwindSafe(|| work.poll(cx))) {
        Ok(poll) => poll,
        Err(panic) => Poll::Ready(Err(lacking(&*panic).unwrap_or_else(|| resume_unwind(panic)))),
    }
}

/// The error that a panic of tokio's stands for, if it is about what its runtime lacks.
pub(crate) fn lacking(panic: &(dyn Any + Send)) -> Option<Error> {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str))?;
    let lacks = |what| text.contains("Tokio") && text.contains(what);
    if lacks("timers are disabled") {
        Some(misuse("this tokio runtime has no timers: build it with enable_all()"))
    } else if lacks("IO is disabled") {
        Some(misuse("this tokio runtime has no I/O: build it with enable_all()"))
    } else {
        None
    }
}

fn misuse(message: &'static str) -> Error {
    Error::new(ErrorKind::Misuse, message)
}
