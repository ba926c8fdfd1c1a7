//! The loop between a machine and the world.

use grantflow::{Effect, Error, Event, Machine, Reply, Step};

use crate::{Transport, file, http};

/// Carries out what the machine asks for until it is done. Dropping the future drops the machine and
/// whatever effect is under way.
pub(crate) async fn drive<M: Machine>(transport: &Transport, mut machine: M) -> Result<M::Output, Error> {
    let mut reply = Reply::Start;
    loop {
        let effect = match machine.resume(&mut transport.any_cx(), reply) {
            Step::Done(result) => return result,
            Step::Do(effect) => effect,
        };
        transport.tell(Event::Effect(&effect));
        reply = match effect {
            Effect::Http(call) => http::send(transport, call).await.map_or_else(Reply::Failed, Reply::Http),
            Effect::Sleep(time) => {
                tokio::time::sleep(time).await;
                Reply::Slept
            }
            Effect::Env(name) => Reply::Env(std::env::var_os(name)),
            Effect::ReadFile { path, max } => file::read(path, max).await,
            _ => Reply::Refused,
        };
        transport.tell(Event::Reply(&reply));
    }
}
