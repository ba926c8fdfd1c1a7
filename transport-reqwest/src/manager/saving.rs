//! What a stored grant brought and its store did not take: it is saved later by a task, and once more at the end.
//!
//! ```text
//! a turn ends, something is not saved ─▶ in the timetable ─▶ a task with a turn of its own ─▶ saved, or in the timetable
//! ```
//!
//! The task's turn lies with its credential and not with the task, so that nobody waits for a runtime that nobody drives.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use grantflow::source::{Change, Outcome};
use grantflow::store::Saving;

use super::background::{At, Tend};
use super::hub::{Hub, blocking};
use super::origin::{Line, Origin};
use crate::runtime;

/// How long a store has to take it.
pub(super) const TIME: Duration = Duration::from_secs(10);

impl Origin {
    /// Has it saved when it is time to, if something is not saved.
    pub(super) fn save_later(self: &Arc<Self>, line: &mut Line) {
        let now = self.now();
        if let Some(wait) = line.grant.save_due(now)
            && !self.hub.is_closed()
        {
            self.hub.timetable.set(self, &mut line.save_at, Some(now.mono.saturating_add(wait)));
        }
    }

    /// Whether there is something to save, or is being saved, and no flight is under way, which does that itself.
    pub(super) fn is_unsaved(&self) -> bool {
        let line = self.line();
        line.saving.is_some() || line.grant.save_due(self.now()).is_some()
    }

    /// Saves what is not saved.
    pub(super) async fn save(self: Arc<Self>) {
        let mut saved = {
            let mut line = self.line();
            let Some((turn, saving)) = line.grant.save() else { return };
            line.saving = Some((turn, self.now().mono));
            Saved { origin: self.clone(), saving }
        };
        let hub = self.hub.clone();
        let run = async { Ok(tokio::time::timeout(TIME, hub.transport.run(&mut saved.saving)).await) };
        let _ = runtime::within(run).await;
    }

    /// Ends the turn of a save that takes longer than it may, as one that nobody drives.
    pub(super) fn relieve_saving(self: &Arc<Self>) {
        let now = self.now().mono;
        self.relieve_saving_if(|since| now.saturating_sub(since) > TIME);
    }

    fn relieve_saving_if(self: &Arc<Self>, relieved: impl Fn(Duration) -> bool) {
        let mut line = self.line();
        if let Some((turn, _)) = line.saving.take_if(|(_, since)| relieved(*since)) {
            self.end(&mut line, turn, Change::default(), Outcome::Saved);
        }
    }

    /// Saves what is not saved, at the end of all. A save under way is begun anew: its runtime may end in the middle of it.
    async fn save_at_the_end(self: Arc<Self>) {
        self.relieve_saving_if(|_| true);
        self.save().await;
    }
}

/// A save under way. Its turn goes back whatever happens, and with it what was learned.
struct Saved {
    origin: Arc<Origin>,
    saving: Saving,
}

impl Drop for Saved {
    fn drop(&mut self) {
        let mut line = self.origin.line();
        // If it was relieved, the next one finds out what it did.
        if let Some((turn, _)) = line.saving.take() {
            self.origin.end(&mut line, turn, self.saving.take_change(), Outcome::Saved);
        }
    }
}

impl Tend for Origin {
    fn tend(self: Arc<Self>, at: At) {
        let mut line = self.line();
        if line.save_at == Some(at) {
            line.save_at = None;
        }
        match line.grant.save_due(self.now()) {
            // Saved meanwhile, or a flight is under way, at whose end this is set again.
            None => {}
            Some(Duration::ZERO) => {
                drop(line);
                // Without a runtime, the next flight does it, or the end.
                if let Ok(runtime) = self.hub.runtime() {
                    runtime.spawn(self.save());
                }
            }
            Some(_) => self.save_later(&mut line),
        }
    }

    fn look_again(self: Arc<Self>) {}
}

impl Hub {
    /// Saves once more what could not be saved.
    pub(super) async fn save(&self, origins: Vec<Arc<Origin>>) {
        let Ok(runtime) = self.runtime() else { return };
        let all = async {
            for origin in origins {
                origin.save_at_the_end().await;
            }
        };
        let _ = runtime::inside(&runtime, async { Ok(tokio::time::timeout(TIME, all).await.is_ok()) }).await;
    }
}

/// As [`Hub::save`], for the last handle, wherever it is dropped: on a thread and in a runtime of their own, since the one
/// that is here may be about to end.
pub(super) fn save_at_last(mut origins: Vec<Arc<Origin>>) {
    origins.retain(|origin| origin.is_unsaved());
    if origins.is_empty() {
        return;
    }
    let (done, end) = channel::<()>();
    let work = move || {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
            runtime.block_on(async {
                for origin in origins {
                    origin.save_at_the_end().await;
                }
            });
        }
        drop(done);
    };
    if std::thread::Builder::new().name("grantflow-save".into()).spawn(work).is_ok() {
        // It ends when the other end is dropped.
        blocking(|| {
            let _ = end.recv_timeout(TIME);
        });
    }
}
