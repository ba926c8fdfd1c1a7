//! The loop between a machine and the world.

use grantflow::{Effect, Error, Event, Machine, Reply, Step};
#[cfg(feature = "store")]
use grantflow::{Failure, machine::FailureKind};

#[cfg(feature = "store")]
use crate::runtime;
use crate::{Transport, documents, file};

/// Carries out what the machine asks for until it is done. Dropping the future drops the machine and
/// whatever effect is under way.
pub(crate) async fn drive<M: Machine>(transport: &Transport, mut machine: M) -> Result<M::Output, Error> {
    #[cfg(feature = "store")]
    let mut held = grantflow_store::Held::new();
    let mut reply = Reply::Start;
    loop {
        let effect = match machine.resume(&mut transport.any_cx(), reply) {
            Step::Done(result) => return result,
            Step::Do(effect) => effect,
        };
        transport.tell(Event::Effect(&effect));
        reply = match effect {
            Effect::Http(call) => documents::fetch(transport, call).await.map_or_else(Reply::Failed, Reply::Http),
            Effect::Sleep(time) => {
                tokio::time::sleep(time).await;
                Reply::Slept
            }
            Effect::Env(name) => Reply::Env(std::env::var_os(name)),
            Effect::ReadFile { path, max } => file::read(path, max).await,
            #[cfg(feature = "programs")]
            Effect::Exec(program) => match transport.own().programs {
                Some(run) => run(program).await,
                None => Reply::Refused,
            },
            #[cfg(feature = "store")]
            Effect::Store(op) => stored(transport, &mut held, op).await?,
            _ => Reply::Refused,
        };
        transport.tell(Event::Reply(&reply));
    }
}

/// One step of the store, on a thread where it may wait. The leases go along and come back; if this future is
/// dropped, or the store panics, they are given back there.
#[cfg(feature = "store")]
async fn stored(
    transport: &Transport,
    held: &mut grantflow_store::Held,
    op: grantflow::store::StoreOp,
) -> Result<Reply, Error> {
    let Some(store) = transport.store() else { return Ok(Reply::Refused) };
    let mut leases = std::mem::take(held);
    let step = tokio::task::spawn_blocking(move || {
        let reply = grantflow_store::perform(&*store, &mut leases, op);
        (reply, leases)
    });
    match step.await {
        Ok((reply, leases)) => {
            *held = leases;
            Ok(reply)
        }
        Err(error) => match error.try_into_panic().ok().and_then(|panic| runtime::lacking(&*panic)) {
            Some(error) => Err(error),
            None => Ok(Reply::Failed(Failure::maybe_sent(FailureKind::Store, "the store panicked"))),
        },
    }
}
