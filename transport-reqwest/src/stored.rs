//! Signing in once: what a person granted is kept in a store and used the next time.

use std::time::{Duration, Instant};

use grantflow::source::Want;
use grantflow::store::{DeleteGrant, LoadGrant, RecordKey, SaveGrant, SavedGrant, SharedGrant};
use grantflow::{Advice, Error, ErrorKind, InstalledApp, Revocation};
use grantflow_store::Lease;

use crate::{TokenManager, Transport};

/// How long between two looks at what another process does.
const PAUSE: Duration = Duration::from_millis(200);

impl Transport {
    /// Loads what the person granted before and keeps it fresh, or signs them in and keeps that: the first
    /// time it opens a browser, the next time nobody is asked. The transport must be bound to a store
    /// ([`with_store`](Self::with_store)); `label` tells one person's grants apart.
    ///
    /// Someone is asked to sign in if nothing is kept, or it was revoked, or lacks scopes; not because a request
    /// failed. If two programs need it at once, one of them asks and the other takes what comes of it.
    /// Whatever the manager refreshes goes through the store. Dropping the future ends it and leaves nothing behind.
    ///
    /// # Errors
    ///
    /// Those of [`sign_in`](Self::sign_in), of the store, and of a refresh that fails for now.
    pub async fn load_or_sign_in(&self, app: &InstalledApp, label: &str) -> Result<TokenManager, Error> {
        let key = app.record_key(label);
        if let Some(tokens) = self.load(app, &key).await? {
            return Ok(tokens);
        }
        let end = Instant::now().checked_add(app.time_limit());
        let lease = loop {
            if let Some(lease) = self.lease_sign_in(app, &key).await? {
                break lease;
            }
            // Somebody is asking already.
            if end.is_some_and(|end| Instant::now() >= end) {
                return Err(Error::new(ErrorKind::Timeout, "another program's sign-in does not come to an end"));
            }
            tokio::time::sleep(PAUSE).await;
        };
        // They may have just finished.
        if let Some(tokens) = self.load(app, &key).await? {
            return Ok(tokens);
        }
        let token = self.sign_in(app).await?;
        self.run(SaveGrant::new(key.clone(), Want::default(), &token)).await?;
        drop(lease);
        let tokens = self.shared(app, key);
        tokens.start().await?;
        Ok(tokens)
    }

    /// Revokes what the person granted, and deletes it from the store. Nothing kept is no error.
    ///
    /// # Errors
    ///
    /// If it cannot be revoked for now; it is kept then.
    pub async fn sign_out(&self, app: &InstalledApp, label: &str) -> Result<(), Error> {
        let key = app.record_key(label);
        let Some(saved) = self.run(LoadGrant::new(key.clone(), Want::default())).await? else { return Ok(()) };
        if app.server().revocation().is_ok() {
            self.run(Revocation::new(app.server(), app.client(), &saved.refresh_token)?.exchange()).await?;
        }
        self.run(DeleteGrant::new(key)).await
    }

    /// What is kept, if it does for the application and still works.
    async fn load(&self, app: &InstalledApp, key: &RecordKey) -> Result<Option<TokenManager>, Error> {
        let saved = self.run(LoadGrant::new(key.clone(), Want::default())).await?;
        if !saved.is_some_and(|SavedGrant { scopes, .. }| app.is_covered_by(&scopes)) {
            return Ok(None);
        }
        let tokens = self.shared(app, key.clone());
        match tokens.start().await {
            Ok(()) => Ok(Some(tokens)),
            Err(error) if error.advice() == Some(Advice::SignInAgain) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn shared(&self, app: &InstalledApp, key: RecordKey) -> TokenManager {
        TokenManager::new(self, SharedGrant::new(key, app.server(), app.client()), Want::default())
    }

    async fn lease_sign_in(&self, app: &InstalledApp, key: &RecordKey) -> Result<Option<Lease>, Error> {
        let store = self.store().ok_or_else(no_store)?;
        let time = app.time_limit().saturating_add(Duration::from_secs(60));
        let key = key.for_sign_in();
        let lease = tokio::task::spawn_blocking(move || store.try_lease(&key, time)).await;
        Ok(lease.map_err(|e| Error::new(ErrorKind::Store, "the store panicked").with_source(e))??)
    }
}

fn no_store() -> Error {
    Error::new(ErrorKind::Unsupported, "this transport is not bound to a store")
}
