//! The failure of a file that a store may not use, by its path.

use std::path::Path;

use grantflow::machine::FailureKind;
use grantflow::{Failure, Shown};

/// A failure of a store, at this path.
pub(super) fn failed(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::not_sent(FailureKind::Store, format!("{}: {why}", Shown::path(path)))
}
