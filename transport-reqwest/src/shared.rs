//! What runs on one transport share: the public documents that were read.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use grantflow::documents::Documents;
use tokio::sync::Notify;

/// The documents of a transport.
#[derive(Default)]
pub(crate) struct Shared {
    documents: Mutex<Documents>,
    pub(crate) settled: Notify,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Documents> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.lock(), f)
    }
}
