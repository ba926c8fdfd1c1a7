//! Tokens that are there when they are needed: [`TokenManager`] for one want of one credential,
//! [`TokenPool`] for many.
//!
//! ```text
//! TokenManager ─▶ Slot (one want: its cell, and what readers see of it) ─▶ Origin (one credential's grant) ─▶ Hub
//!       └───────▶ Handle (its end is the end of all) ─▶ Book (who is who) ───────────────────────────────────▲
//! ```
//!
//! Readers of a fresh token stay in the slot's fast path. All else goes through the slot's lock, which is
//! held for moments only; each refresh is a task of its own ([`flight`]), and one task for all wants
//! ([`background`]) begins those that nobody waits for. What a caller asks of a slot stands in [`asking`].

mod asking;
mod background;
mod book;
mod builder;
mod change;
mod clock;
mod flight;
mod handle;
mod hub;
mod origin;
mod pool;
mod saving;
mod slot;
mod sync;
mod token_manager;
mod token_ref;

pub use builder::ManagerBuilder;
pub use change::{Change, Changes, Status};
pub use pool::TokenPool;
pub use token_manager::TokenManager;
pub use token_ref::TokenRef;
