//! The loop that carries out the effects of machines.

use std::io::{ErrorKind::NotFound, Read as _};
use std::path::Path;

use grantflow::machine::FailureKind;
use grantflow::{Cx, Effect, Error, Event, Failure, Machine, Reply, Step};
use zeroize::Zeroizing;

use crate::{Limit, Transport, documents};

/// The most room to make for a file before it is read.
const LARGE: usize = 1 << 20;

pub(crate) fn drive<M: Machine>(transport: &Transport, mut machine: M, limit: &Limit) -> Result<M::Output, Error> {
    #[cfg(feature = "tracing")]
    let _span = tracing::debug_span!("grantflow", machine = std::any::type_name::<M>()).entered();
    #[cfg(feature = "store")]
    let mut held = grantflow_store::Held::new();
    let mut reply = Reply::Start;
    let mut answered = false;
    loop {
        // Most steps need no randomness: only one that does ends without it.
        let mut cx = transport.cx().unwrap_or_else(|_| Cx::without_entropy(transport.now()));
        let effect = match machine.resume(&mut cx, reply) {
            Step::Done(result) => return result,
            Step::Do(effect) => effect,
        };
        // What an answer brought is still kept.
        let keeps = answered && matches!(effect, Effect::Store(_));
        let doing = limit.doing(&effect);
        if let Some(error) = limit.over(&doing).filter(|_| !keeps) {
            return Err(error);
        }
        transport.tell(Event::Effect(&effect));
        reply = match effect {
            #[cfg(feature = "store")]
            Effect::Store(op) => match transport.store() {
                Some(store) => grantflow_store::perform(store, &mut held, op),
                None => Reply::Refused,
            },
            effect => carry_out(transport, effect, limit),
        };
        transport.tell(Event::Reply(&reply));
        answered |= matches!(reply, Reply::Http(_));
        // An answer that came in time is handed on, whatever happened meanwhile.
        if matches!(reply, Reply::Failed(_) | Reply::Slept)
            && let Some(error) = limit.over(&doing).filter(|_| !keeps)
        {
            return Err(error);
        }
    }
}

fn carry_out(transport: &Transport, effect: Effect, limit: &Limit) -> Reply {
    match effect {
        Effect::Http(call) => documents::fetch(transport, call, limit).map_or_else(Reply::Failed, Reply::Http),
        Effect::Sleep(time) => {
            limit.sleep(time);
            Reply::Slept
        }
        Effect::Env(name) => Reply::Env(std::env::var_os(name)),
        Effect::ReadFile { path, max } => read_file(&path, max),
        #[cfg(feature = "programs")]
        Effect::Exec(program) => transport.settings().programs.map_or(Reply::Refused, |run| run(&program, limit)),
        _ => Reply::Refused,
    }
}

fn read_file(path: &Path, max: usize) -> Reply {
    let failed =
        |kind, source: Box<dyn std::error::Error + Send + Sync>| Reply::Failed(Failure::not_sent(kind, source));
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == NotFound => return Reply::Missing,
        Err(error) => return failed(FailureKind::File, error.into()),
    };
    // Room for all of it from the start: growth would leave copies behind.
    let size = file.metadata().map_or(0, |data| usize::try_from(data.len()).unwrap_or(max)).min(max);
    let mut content = Zeroizing::new(Vec::with_capacity(size.saturating_add(1).min(LARGE)));
    match file.take((max as u64).saturating_add(1)).read_to_end(&mut content) {
        Ok(_) if content.len() > max => failed(FailureKind::TooLarge, format!("more than {max} bytes").into()),
        Ok(_) => Reply::File(std::mem::take(&mut *content)),
        Err(error) => failed(FailureKind::File, error.into()),
    }
}
