//! What the clones of a manager or pool share, and how the last of them leaves.

use std::sync::mpsc::channel;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::credential::Credential;
use super::shared::Shared;
use super::slot::{Closed, Slot};
use super::sync::lock;
use super::wants::Wants;

/// How long leaving waits for a refresh, or a save, whose new refresh token would be lost.
const LONGEST_GOODBYE: Duration = Duration::from_secs(5);

/// How long it waits for a store to take what it did not take before.
const LONGEST_SAVING: Duration = Duration::from_secs(10);

/// Owned by those who may still ask; flights own no share of it.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) holds: Holds,
}

pub(crate) enum Holds {
    One(Arc<Slot>),
    Pool(Wants),
}

impl Handle {
    pub(crate) fn shutdown(&self) {
        let credentials = match &self.holds {
            Holds::One(slot) => {
                slot.close(Closed::ShutDown);
                vec![slot.home.clone()]
            }
            Holds::Pool(wants) => wants.close(),
        };
        part(&credentials);
        save(credentials);
        self.shared.leave();
    }

    /// Ends one want, which is all of a manager and a part of a pool.
    pub(crate) fn end(&self, slot: &Arc<Slot>) {
        let Holds::Pool(wants) = &self.holds else { return self.shutdown() };
        wants.forget(slot);
        slot.close(Closed::ShutDown);
        part(std::slice::from_ref(&slot.home));
        save(vec![slot.home.clone()]);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Saves once more what could not be saved, and waits for that, within its time. Only the store has a hand in it, so that
/// it may be waited for in a callback too.
pub(super) fn save(mut credentials: Vec<Arc<Credential>>) {
    credentials.retain(|credential| credential.is_unsaved());
    if credentials.is_empty() {
        return;
    }
    let (done, end) = channel::<()>();
    let all = credentials.clone();
    let work = move || {
        all.iter().for_each(Credential::save);
        drop(done);
    };
    match thread::Builder::new().name("grantflow-save".into()).spawn(work) {
        // It ends when the other end is dropped.
        Ok(_) => {
            let _ = end.recv_timeout(LONGEST_SAVING);
        }
        Err(_) => credentials.iter().for_each(Credential::save),
    }
}

/// Waits, but not without end, until no flight or save of these is in the middle of what must not be torn off.
fn part(credentials: &[Arc<Credential>]) {
    if Shared::is_telling() {
        return;
    }
    let end = Instant::now() + LONGEST_GOODBYE;
    for credential in credentials {
        let mut queue = lock(&credential.queue);
        while queue.delicate > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = credential.over.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
