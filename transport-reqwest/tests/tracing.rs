//! What the feature `tracing` tells, and what it keeps to itself.
#![cfg(feature = "tracing")]

mod common;

use std::fmt;
use std::sync::{Arc, Mutex};

use common::{LONG, call, run_with};
use grantflow_reqwest::Transport;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes everything of this crate down.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("grantflow")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = format!("span {}", span.metadata().name());
        span.record(&mut Line(&mut text));
        self.0.lock().unwrap().push(text);
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = "event".into();
        event.record(&mut Line(&mut text));
        self.0.lock().unwrap().push(text);
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        *self.0 += &format!(" {field}={value:?}");
    }
}

#[tokio::test]
async fn each_machine_is_a_span_and_each_effect_and_reply_an_event() {
    let notes = Notes::default();
    let guard = tracing::subscriber::set_default(notes.clone());
    let transport = Transport::new().unwrap();
    let machine = call("http://localhost:1/token?query=canary", |call| call.with_timeout(LONG));
    run_with(&transport, machine).await.unwrap_err();
    drop(guard);
    let notes = notes.0.lock().unwrap();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[0].starts_with("span grantflow machine=") && notes[0].ends_with("common::Once\""), "{notes:?}");
    assert!(notes[1].starts_with("event effect=Http(POST http://localhost:1/token headers"), "{notes:?}");
    assert!(notes[2].starts_with("event reply=Failed(Failure { kind: Connect"), "{notes:?}");
    assert!(!notes.concat().contains("canary"), "{notes:?}");
}
