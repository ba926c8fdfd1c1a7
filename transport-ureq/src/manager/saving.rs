//! What a stored grant brought and its store did not take: it is saved later by the background, and once more at the end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use grantflow::source::{Outcome, Turn};
use grantflow::store::Saving;

use super::credential::{Credential, Delicate};
use super::sync::lock;
use super::task::{Task, Tend, Timer};

impl Credential {
    /// Has the background save what is not saved, when it is time to.
    pub(crate) fn save_later(self: &Arc<Self>) {
        let mut queue = lock(&self.queue);
        let due = queue.grant.save_due(self.shared.now()).filter(|_| self.shared.background());
        if let Some(time) = due {
            self.shared.arm(self, &mut queue.saving, time);
        }
    }

    /// Whether there is something to save, and no flight is under way, which does that itself.
    pub(crate) fn is_unsaved(&self) -> bool {
        lock(&self.queue).grant.save_due(self.shared.now()).is_some()
    }

    /// Saves what is not saved.
    pub(crate) fn save(self: &Arc<Self>) {
        // Who leaves waits for it: the process may end in the middle of it.
        let _delicate = Delicate::saving(self);
        let Some((turn, saving)) = lock(&self.queue).grant.save() else { return };
        let mut saved = Saved { home: self, turn: Some(turn), saving };
        // A store that panics is one that fails.
        let _ = catch_unwind(AssertUnwindSafe(|| self.shared.save(&mut saved.saving)));
    }
}

/// Saves as a task of the background.
struct Save(Arc<Credential>);

impl Task for Save {
    fn run(self: Box<Self>) {
        self.0.save();
    }

    // What cannot be saved now is saved at the end of the next flight, or of all.
    fn give_up(self: Box<Self>) -> Option<Box<dyn Task>> {
        None
    }
}

/// A turn in which is saved. It goes back whatever happens, and with it what was learned.
struct Saved<'a> {
    home: &'a Arc<Credential>,
    turn: Option<Turn<()>>,
    saving: Saving,
}

impl Drop for Saved<'_> {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.home.end(turn, self.saving.take_change(), Outcome::Saved);
        }
    }
}

impl Tend for Credential {
    fn tend(self: Arc<Self>, timer: Timer) {
        let mut queue = lock(&self.queue);
        if queue.saving == timer {
            queue.saving = 0;
        }
        match queue.grant.save_due(self.shared.now()) {
            // Saved meanwhile, or a flight is under way, at whose end this is set again.
            None => {}
            Some(Duration::ZERO) => {
                drop(queue);
                self.dispatch(Box::new(Save(self.clone())));
            }
            Some(time) => self.shared.arm(&self, &mut queue.saving, time),
        }
    }

    fn look_again(self: Arc<Self>) {}
}
