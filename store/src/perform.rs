//! The operations of a store, carried out for machines.

use std::collections::BTreeMap;

use grantflow::Reply;
use grantflow::store::{RecordKey, StoreOp, StoreReply};

use crate::{Lease, Store};

/// The leases of one run. When this is dropped, it gives back those that the run still holds.
#[derive(Debug, Default)]
pub struct Held(BTreeMap<RecordKey, Lease>);

impl Held {
    /// No leases.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a lease in, and gives back the one that was held for the key before.
    pub fn keep(&mut self, key: RecordKey, lease: Lease) -> StoreReply {
        let until = lease.until();
        self.0.insert(key, lease);
        StoreReply::Leased(until)
    }

    /// Takes a lease out; `None` if it is not held.
    pub fn take(&mut self, key: &RecordKey) -> Option<Lease> {
        self.0.remove(key)
    }
}

/// Carries out one [`StoreOp`]. A driver calls it for each [`Effect::Store`](grantflow::Effect::Store), with a
/// [`Held`] that lives as long as the run.
pub fn perform(store: &dyn Store, held: &mut Held, op: StoreOp) -> Reply {
    let changed = |done| if done { StoreReply::Saved } else { StoreReply::Conflict };
    let result = match op {
        StoreOp::Load { key } => store.load(&key).map(StoreReply::Loaded),
        StoreOp::Save { key, expected, stored } => store.save(&key, expected, &stored).map(changed),
        StoreOp::Delete { key, expected } => store.delete(&key, expected).map(changed),
        StoreOp::Lease { key, time } => {
            store.try_lease(&key, time).map(|lease| lease.map_or(StoreReply::Busy, |lease| held.keep(key, lease)))
        }
        StoreOp::Release { key } => {
            held.take(&key);
            Ok(StoreReply::Released)
        }
        StoreOp::List { which, after, most } => store.list(&which, after.as_ref(), most).map(StoreReply::Listed),
        StoreOp::Count { which } => store.count(&which).map(StoreReply::Counted),
        _ => return Reply::Refused,
    };
    result.map_or_else(Reply::Failed, Reply::Store)
}
