//! [`Transport::run`]: drives a machine to its end, in a runtime that has what it needs.

#[cfg(feature = "store")]
use std::sync::Arc;

#[cfg(doc)]
use grantflow::ErrorKind;
use grantflow::{Error, Machine};

use crate::{Transport, driver, runtime};

impl Transport {
    /// Runs a machine to its end. The future is `Send` if the machine is. It may be dropped at any moment:
    /// that closes the connection of a call under way, and nothing is left behind.
    ///
    /// # Errors
    ///
    /// Those of the machine, and of kind [`ErrorKind::Misuse`] if there is no tokio runtime, or if the runtime lacks
    /// the time or the I/O that the machine needs.
    pub async fn run<M: Machine>(&self, machine: M) -> Result<M::Output, Error> {
        let run = runtime::within(driver::drive(self, machine));
        #[cfg(feature = "tracing")]
        let run = tracing::Instrument::instrument(
            run,
            tracing::debug_span!("grantflow", machine = std::any::type_name::<M>()),
        );
        run.await
    }

    /// Runs a machine to its end, with a store: [`with_store`](Self::with_store) and [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// Those of the machine.
    #[cfg(feature = "store")]
    pub async fn run_with<M: Machine>(
        &self,
        store: &Arc<dyn grantflow_store::Store>,
        machine: M,
    ) -> Result<M::Output, Error> {
        self.with_store(store.clone()).run(machine).await
    }
}
