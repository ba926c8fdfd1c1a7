//! The life of a token for blocking programs: [`TokenManager`] and [`TokenPool`].
//!
//! ```text
//! TokenManager ─┐                                 Change ─▶ callbacks, receivers
//! TokenPool ────┴▶ Slot: the cell, who waits ─▶ Job ─▶ Credential: one rotating mint at a time ─▶ Transport
//!                    ▲                                                   │
//!                    └── Worker: one timer, a few threads that mint ◀────┘
//! ```

mod asking;
mod builder;
mod clock;
mod credential;
mod flight;
mod handle;
mod pool;
mod saving;
mod shared;
mod slot;
mod sync;
mod task;
mod token_manager;
mod token_ref;
mod wants;
mod worker;

pub use builder::ManagerBuilder;
pub use pool::TokenPool;
pub use shared::{Change, Changes};
pub use token_manager::{Status, TokenManager};
pub use token_ref::TokenRef;
