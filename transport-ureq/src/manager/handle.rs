//! What the clones of a manager or pool share, and how the last of them leaves.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::flight::Credential;
use super::shared::Shared;
use super::slot::{Closed, Slot};
use super::sync::lock;
use super::wants::Wants;

/// How long leaving waits for a refresh whose new refresh token would be lost.
const LONGEST_GOODBYE: Duration = Duration::from_secs(5);

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
        self.shared.leave();
    }

    /// Ends one want, which is all of a manager and a part of a pool.
    pub(crate) fn end(&self, slot: &Arc<Slot>) {
        let Holds::Pool(wants) = &self.holds else { return self.shutdown() };
        wants.forget(slot);
        slot.close(Closed::ShutDown);
        part(std::slice::from_ref(&slot.home));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Waits, but not for ever, until no flight of these is in the middle of what must not be torn off.
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
