//! Public documents: each is read once for all that ask for it at the same time, and an old one is served where it may
//! be.

use std::time::{Duration, Instant};

use grantflow::documents::{Look, Ticket};
use grantflow::machine::FailureKind;
use grantflow::{Call, Failure};
use http::Response;

use crate::{Limit, Transport};

/// How long to wait for another run that reads the same document.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a run that waits looks whether it was cancelled.
const GLANCE: Duration = Duration::from_millis(50);

/// Carries a call out, or answers it with a document that is there.
pub(crate) fn fetch(transport: &Transport, call: Call, limit: &Limit) -> Result<Response<Vec<u8>>, Failure> {
    let shared = transport.documents();
    let begun = Instant::now();
    let patience = PATIENCE.min(call.timeout());
    loop {
        let mut documents = shared.lock();
        match documents.look(&call, transport.now()) {
            Look::Have(document) => {
                drop(documents);
                return Ok(document.response(transport.now()));
            }
            Look::Old(document, ticket) => {
                drop(documents);
                let reading = Reading::new(transport, ticket);
                // Without a thread to be had, the next one who asks tries again.
                let beside = std::thread::Builder::new().name("grantflow-documents".into());
                drop(beside.spawn(move || reading.read(call, &Limit::new())));
                return Ok(document.response(transport.now()));
            }
            Look::Fetch(ticket) => {
                drop(documents);
                return Reading::new(transport, ticket).read(left(call, begun), limit);
            }
            Look::Failed(failure) => return Err(failure),
            Look::Busy if begun.elapsed() < patience => {
                let glance = GLANCE.min(patience.saturating_sub(begun.elapsed()));
                drop(shared.settled.wait_timeout(documents, glance));
                if let Some(error) = limit.over("while another read the same document") {
                    return Err(Failure::not_sent(FailureKind::Other, error));
                }
            }
            Look::Busy => {
                let ticket = documents.insist(&call, transport.now());
                drop(documents);
                let call = left(call, begun);
                return match ticket {
                    Some(ticket) => Reading::new(transport, ticket).read(call, limit),
                    None => transport.fetch(call, limit),
                };
            }
            _ => {
                drop(documents);
                return transport.fetch(call, limit);
            }
        }
    }
}

/// The call with the time that is left to it.
fn left(call: Call, begun: Instant) -> Call {
    let time = call.timeout().saturating_sub(begun.elapsed());
    call.with_timeout(time)
}

/// The right to read a document, which is given back however the reading ends.
struct Reading {
    transport: Transport,
    ticket: Option<Ticket>,
}

impl Reading {
    fn new(transport: &Transport, ticket: Ticket) -> Self {
        Self { transport: transport.clone(), ticket: Some(ticket) }
    }

    fn read(mut self, call: Call, limit: &Limit) -> Result<Response<Vec<u8>>, Failure> {
        let outcome = self.transport.fetch(call, limit);
        // That one run was cancelled says nothing to the others.
        if limit.over("while a document was read").is_some() {
            return outcome;
        }
        match self.ticket.take() {
            Some(ticket) => {
                let shared = self.transport.documents();
                let outcome = shared.lock().settle(ticket, self.transport.now(), outcome);
                shared.settled.notify_all();
                outcome
            }
            None => outcome,
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let shared = self.transport.documents();
            shared.lock().abandon(ticket);
            shared.settled.notify_all();
        }
    }
}
