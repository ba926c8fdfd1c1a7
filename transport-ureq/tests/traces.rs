//! What a run tells to `tracing`.
#![cfg(feature = "tracing")]

mod common;

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use common::{Server, call, once};
use grantflow_ureq::Transport;
use grantflow_ureq::grantflow::Effect;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes down all spans and events.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Log {
    fn line(&self, begin: &str, record: impl FnOnce(&mut Fields<'_>)) {
        let mut text = self.0.lock().unwrap();
        text.push_str(begin);
        record(&mut Fields(&mut text));
        text.push('\n');
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("grantflow")
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.line(span.metadata().name(), |fields| span.record(fields));
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        self.line("event", |fields| event.record(fields));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {
        self.line("exit", |_| {});
    }
}

#[test]
fn a_machine_is_a_span_and_its_effects_and_replies_are_events_without_secrets() {
    let server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\ncanary");
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        Transport::new().unwrap().run(once(Effect::Http(call(&server.url())))).unwrap();
    });
    let text = log.0.lock().unwrap();
    let [span, effect, reply, exit] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!(span.starts_with("grantflow machine=") && span.contains("common::Once"), "{span}");
    assert!(effect.starts_with("event effect=Http(POST http://127.0.0.1:"), "{effect}");
    assert_eq!(reply, "event reply=Http(200, 6 bytes)");
    assert_eq!(exit, "exit");
    assert!(!text.contains("canary"));
}
