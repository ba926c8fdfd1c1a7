//! Public documents: each is read once for all that ask for it at the same time, and an old one is served where it may
//! be.

use std::pin::pin;
use std::time::Duration;

use grantflow::documents::{Look, Ticket};
use grantflow::{Call, Failure};
use http::Response;
use tokio::time::Instant;

use crate::{Transport, http as wire};

/// How long to wait for another run that reads the same document.
const PATIENCE: Duration = Duration::from_secs(5);

/// Carries a call out, or answers it with a document that is there.
pub(crate) async fn fetch(transport: &Transport, call: Call) -> Result<Response<Vec<u8>>, Failure> {
    let shared = transport.documents();
    let begun = Instant::now();
    let patience = PATIENCE.min(call.timeout());
    loop {
        let mut settled = pin!(shared.settled.notified());
        // What is settled between the look and the wait is not missed.
        settled.as_mut().enable();
        let look = shared.lock().look(&call, transport.now());
        match look {
            Look::Have(document) => return Ok(document.response(transport.now())),
            Look::Old(document, ticket) => {
                let reading = Reading::new(transport, ticket);
                drop(tokio::spawn(async move { reading.read(call).await }));
                return Ok(document.response(transport.now()));
            }
            Look::Fetch(ticket) => return Reading::new(transport, ticket).read(left(call, begun)).await,
            Look::Failed(failure) => return Err(failure),
            Look::Busy => {
                let waited = tokio::time::timeout(patience.saturating_sub(begun.elapsed()), settled).await;
                if waited.is_err() {
                    let ticket = shared.lock().insist(&call, transport.now());
                    let call = left(call, begun);
                    return match ticket {
                        Some(ticket) => Reading::new(transport, ticket).read(call).await,
                        None => wire::send(transport, call).await,
                    };
                }
            }
            _ => return wire::send(transport, call).await,
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

    async fn read(mut self, call: Call) -> Result<Response<Vec<u8>>, Failure> {
        let outcome = wire::send(&self.transport, call).await;
        match self.ticket.take() {
            Some(ticket) => {
                let shared = self.transport.documents();
                let outcome = shared.lock().settle(ticket, self.transport.now(), outcome);
                shared.settled.notify_waiters();
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
            shared.settled.notify_waiters();
        }
    }
}
