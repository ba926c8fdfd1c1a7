//! [`Transport::run`]: drives a machine to its end, and no longer than its caller allows.

#[cfg(feature = "store")]
use std::sync::Arc;

#[cfg(doc)]
use grantflow::ErrorKind;
use grantflow::{Error, Machine};

use crate::driver::drive;
use crate::{Limit, Transport};

impl Transport {
    /// Drives a machine to its end.
    ///
    /// # Errors
    ///
    /// Those of the machine; nothing else ends it.
    pub fn run<M: Machine>(&self, machine: M) -> Result<M::Output, Error> {
        drive(self, machine, &Limit::new())
    }

    /// Drives a machine to its end, but no longer than the limit allows.
    ///
    /// # Errors
    ///
    /// Those of the machine, and of kind [`ErrorKind::Timeout`] or [`ErrorKind::Cancelled`]. A request that is under
    /// way at that moment may have reached its server.
    pub fn run_until<M: Machine>(&self, machine: M, limit: &Limit) -> Result<M::Output, Error> {
        drive(self, machine, limit)
    }

    /// Drives a machine to its end, with a store: [`with_store`](Self::with_store) and [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// Those of the machine.
    #[cfg(feature = "store")]
    pub fn run_with<M: Machine>(
        &self,
        store: &Arc<dyn grantflow_store::Store>,
        machine: M,
    ) -> Result<M::Output, Error> {
        self.with_store(store.clone()).run(machine)
    }
}
