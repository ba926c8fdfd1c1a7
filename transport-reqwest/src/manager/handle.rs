//! The handle that managers and pools hold: with its last clone, everything ends.

use super::book::Book;
use super::saving;

pub(super) struct Handle(pub(super) Book);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
        self.0.hub.settled_at_last();
        saving::save_at_last(self.0.origins());
    }
}
