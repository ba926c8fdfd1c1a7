//! Whether a server replaces refresh tokens.

use serde::{Deserialize, Serialize};

/// Whether a server replaces the refresh token when it is used. This decides whether a refresh of unknown outcome may
/// be sent a second time.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rotation {
    /// Not known yet: treated as [`Rotates`](Self::Rotates).
    #[default]
    Unknown,
    /// The refresh token stays the same, as Google's does. A refresh may be sent again freely, and several side by side.
    ///
    /// This value is also learned: five refreshes in a row that bring no other refresh token set it, and the first
    /// refresh that brings one takes it back. If a server begins to rotate while several refreshes with one refresh
    /// token are under way, its grace window decides whether the grant survives.
    Never,
    /// Each refresh token is good for one use.
    Rotates,
}
