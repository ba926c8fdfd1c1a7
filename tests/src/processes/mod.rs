//! Several processes that share one grant through a store, in virtual time.

mod desk;
mod process;
mod shelf;
mod sim;

pub use desk::{Desk, Trip};
pub use process::{Process, desk, desk_with, intent, kept, late, sent};
pub use shelf::{Moment, Shelf};
pub use sim::{Report, run};
