//! Stores of async programs.

use std::fmt;
use std::future::ready;
use std::pin::Pin;
use std::time::Duration;

use grantflow::Failure;
use grantflow::machine::FailureKind;
use grantflow::store::{Page, RecordKey, Stored, Which};

use crate::{Lease, Store, cannot_list};

/// A [`Store`] whose methods are async, to be used through [`Awaited`]. [`Store`] says what each method must do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no async store",
    note = "a store whose methods block is given to `with_store`"
)]
pub trait AsyncStore: Send + Sync {
    /// See [`Store::load`].
    fn load(&self, key: &RecordKey) -> impl Future<Output = Result<Option<Stored>, Failure>> + Send;

    /// See [`Store::save`].
    fn save(
        &self,
        key: &RecordKey,
        expected: Option<u64>,
        stored: &Stored,
    ) -> impl Future<Output = Result<bool, Failure>> + Send;

    /// See [`Store::delete`].
    fn delete(&self, key: &RecordKey, expected: u64) -> impl Future<Output = Result<bool, Failure>> + Send;

    /// See [`Store::try_lease`]. The lease's guard must not wait when it is dropped: it may spawn a task, for which the
    /// next caller for a lease of the same store waits.
    fn try_lease(&self, key: &RecordKey, time: Duration)
    -> impl Future<Output = Result<Option<Lease>, Failure>> + Send;

    /// See [`Store::list`].
    fn list(
        &self,
        which: &Which,
        after: Option<&RecordKey>,
        most: usize,
    ) -> impl Future<Output = Result<Page, Failure>> + Send {
        let _ = (which, after, most);
        ready(Err(cannot_list()))
    }

    /// See [`Store::count`].
    fn count(&self, which: &Which) -> impl Future<Output = Result<u64, Failure>> + Send {
        let _ = which;
        ready(Err(cannot_list()))
    }
}

/// A future to wait for.
pub type Work<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// An async store as a blocking one. Adapters take blocking stores, even the async adapter: they call them on threads
/// that may wait.
///
/// `wait` waits in the program's runtime; with tokio:
///
/// ```
/// # use grantflow_store::{AsyncStore, Awaited, Store};
/// # fn wrap(mine: impl AsyncStore) -> impl Store {
/// let handle = tokio::runtime::Handle::current();
/// let store = Awaited::new(mine, move |work| handle.block_on(work));
/// # store }
/// ```
#[derive(Clone)]
pub struct Awaited<S, W> {
    store: S,
    wait: W,
}

impl<S: AsyncStore, W: Fn(Work<'_>) + Send + Sync> Awaited<S, W> {
    /// A store that uses this function to wait for the async store.
    pub fn new(store: S, wait: W) -> Self {
        Self { store, wait }
    }

    fn wait<T: Send>(&self, work: impl Future<Output = Result<T, Failure>> + Send) -> Result<T, Failure> {
        let mut result = None;
        (self.wait)(Box::pin(async { result = Some(work.await) }));
        let unfinished = || Failure::maybe_sent(FailureKind::Store, "the store was not waited for to its end");
        result.unwrap_or_else(|| Err(unfinished()))
    }
}

impl<S: AsyncStore, W: Fn(Work<'_>) + Send + Sync> Store for Awaited<S, W> {
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        self.wait(self.store.load(key))
    }
    fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        self.wait(self.store.save(key, expected, stored))
    }
    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        self.wait(self.store.delete(key, expected))
    }
    fn try_lease(&self, key: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        self.wait(self.store.try_lease(key, time))
    }
    fn list(&self, which: &Which, after: Option<&RecordKey>, most: usize) -> Result<Page, Failure> {
        self.wait(self.store.list(which, after, most))
    }
    fn count(&self, which: &Which) -> Result<u64, Failure> {
        self.wait(self.store.count(which))
    }
}

impl<S: fmt::Debug, W> fmt::Debug for Awaited<S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Awaited").field(&self.store).finish()
    }
}
