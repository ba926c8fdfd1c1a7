//! Signing in once: a store keeps the person's grant, and the next run uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use grantflow::store::{DeleteGrant, LoadGrant, RecordKey, SignOut};
use grantflow::{Error, ErrorKind, Failure, InstalledApp, Scopes, Secret, Token};
use grantflow_store::{Lease, Store};

use crate::terminal::print;
use crate::{TokenManager, Transport, runtime};

/// What is kept and does not do: the refresh token that was refused, and what was asked for.
#[derive(Default)]
struct Unfit {
    refused: Option<Secret>,
    asked: Scopes,
}

/// How long between two looks at what another process does.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a lease must hold: where it ends by itself, a program that died lets the next one ask after that.
const LEASE: Duration = Duration::from_secs(180);

impl Transport {
    /// Loads the person's grant and keeps its tokens fresh, or signs the person in and keeps the grant. The first run
    /// opens a browser, or shows a code ([`InstalledApp::device`]); the next one asks nothing. The transport must be
    /// bound to a store ([`with_store`](Self::with_store)); `label` tells one person's grants apart.
    ///
    /// The person is asked to sign in if no grant is kept, if it was revoked, or if it lacks scopes; not because a
    /// request failed. If two programs need the grant at once, one of them asks, and the other waits for the result,
    /// for at least three minutes. If the person grants fewer scopes than were asked for, the standard error says so,
    /// and they are asked again the next time, unless [`InstalledApp::accept_partial_consent`] was called. One label is
    /// one set of scopes.
    ///
    /// From a server that gives no refresh token, the access token is kept and used until it expires, which at some
    /// servers it never does, or is refused; then the person is asked again. If the server can give a refresh token,
    /// ask for it: by the scope `offline_access`, and by `prompt("consent")` if it comes with consent alone. If the
    /// store fails just when the user has signed in, the terminal says so; the manager has the grant in memory, and
    /// saves it later: [`Status::unsaved`](crate::Status::unsaved).
    ///
    /// If another process is using the refresh token, or died while it did, the first token waits for the end of that
    /// use, for at most 30 seconds, and the standard error says so. Each refresh of the manager goes through the store.
    /// Dropping the future ends it and leaves nothing behind.
    ///
    /// ```no_run
    /// use std::sync::Arc;
    ///
    /// use grantflow_reqwest::Transport;
    /// use grantflow_reqwest::grantflow::InstalledApp;
    /// use grantflow_reqwest::grantflow::google::ClientSecrets;
    /// use grantflow_reqwest::grantflow_store::FileStore;
    ///
    /// # async fn main_() -> Result<(), grantflow::Error> {
    /// let transport = Transport::new()?;
    /// let store = FileStore::default_for("my-program", &transport.platform())?;
    /// let secrets = transport.run(ClientSecrets::read("client_secret.json")).await?;
    /// let app = InstalledApp::google(&secrets).scopes("https://www.googleapis.com/auth/drive.readonly");
    /// let tokens = transport.with_store(Arc::new(store)).load_or_sign_in(&app, "").await?;
    /// println!("{:?}", tokens.status());
    /// # Ok(()) }
    /// ```
    ///
    /// Files of Google's other programs, a `token.json` or gcloud's `application_default_credentials.json`, are not
    /// shared with those programs, since they drop members that they do not know. The grant of such a file can be taken
    /// over, and such a file can be written:
    ///
    /// ```no_run
    /// # use grantflow_reqwest::grantflow;
    /// use grantflow_reqwest::Transport;
    /// use grantflow_reqwest::grantflow::google::AuthorizedUser;
    /// use grantflow_reqwest::grantflow::source::{TokenSource as _, Want};
    /// use grantflow_reqwest::grantflow::store::SaveGrant;
    /// use grantflow_reqwest::grantflow::{InstalledApp, ServerMetadata};
    /// use grantflow_reqwest::grantflow_store::write_private;
    ///
    /// # async fn main_(transport: Transport) -> Result<(), grantflow::Error> {
    /// let user = transport.run(AuthorizedUser::read("token.json")).await?;
    /// let app = InstalledApp::new(&ServerMetadata::google(), user.client()).scopes(user.scopes().clone());
    /// let token = transport.run(user.mint(&Want::default(), &user.first_state())).await?;
    /// transport.run(SaveGrant::new(app.record_key(""), Want::default(), &token)).await?;
    ///
    /// let tokens = transport.load_or_sign_in(&app, "").await?; // nobody is asked
    /// let user = AuthorizedUser::signed_in(app.client(), &*tokens.token().await?)?;
    /// write_private("token.json", user.to_json(&user.first_state(), None).expose().as_bytes())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`sign_in`](Self::sign_in), of the store, and of a refresh that fails for now.
    pub async fn load_or_sign_in(&self, app: &InstalledApp, label: &str) -> Result<TokenManager, Error> {
        runtime::within(self.load_or_sign_in_here(app, label)).await
    }

    async fn load_or_sign_in_here(&self, app: &InstalledApp, label: &str) -> Result<TokenManager, Error> {
        let key = app.record_key(label);
        let mut found = Unfit::default();
        if let Some(tokens) = self.load(app, &key, &mut found).await? {
            return Ok(tokens);
        }
        let lease = self.lease(&key.for_sign_in(), app.time_limit()).await?;
        let tokens = self.load_again_or_sign_in(app, key, found).await;
        give_back(lease).await;
        tokens
    }

    async fn load_again_or_sign_in(
        &self,
        app: &InstalledApp,
        key: RecordKey,
        mut found: Unfit,
    ) -> Result<TokenManager, Error> {
        // In another program the person may have just signed in.
        if let Some(tokens) = self.load(app, &key, &mut found).await? {
            return Ok(tokens);
        }
        self.sign_in_and_keep(&app.beside(&found.asked), key).await
    }

    /// As [`load_or_sign_in`](Self::load_or_sign_in), where the grant that is kept does not do whatever it says of itself, since
    /// `refused` is of it: another one that was kept meanwhile does.
    pub(crate) async fn sign_in_anew(
        &self,
        app: &InstalledApp,
        label: &str,
        refused: &Token,
    ) -> Result<TokenManager, Error> {
        let key = app.record_key(label);
        let lease = self.lease(&key.for_sign_in(), app.time_limit()).await?;
        let tokens = self.newer_or_sign_in(app, key, refused).await;
        give_back(lease).await;
        tokens
    }

    async fn newer_or_sign_in(
        &self,
        app: &InstalledApp,
        key: RecordKey,
        refused: &Token,
    ) -> Result<TokenManager, Error> {
        let saved = self.run(LoadGrant::new(key.clone(), app.want()).of(app.client())).await?;
        let asked = saved.as_ref().map(|saved| saved.asked.clone()).unwrap_or_default();
        let newer = saved.and_then(|saved| saved.token).is_some_and(|it| it.access_token() != refused.access_token());
        if newer && let Some(tokens) = self.load(app, &key, &mut Unfit::default()).await? {
            return Ok(tokens);
        }
        self.sign_in_and_keep(&app.beside(&asked), key).await
    }

    /// Signs a person in, keeps what they grant, and begins with it.
    async fn sign_in_and_keep(&self, app: &InstalledApp, key: RecordKey) -> Result<TokenManager, Error> {
        let token = self.sign_in(app).await?;
        if let Some(message) = app.after_sign_in(&token) {
            print(&message);
        }
        match self.run(app.keep(key.clone(), &token)).await {
            Err(error) if error.kind() == ErrorKind::Store => return self.unsaved(app, key, &token, error),
            saved => saved?,
        }
        self.begin(app, key).await
    }

    /// Revokes the person's grant, and deletes it from the store. It is no error if there is none.
    ///
    /// # Errors
    ///
    /// If the grant cannot be revoked for now; it is then kept, unless it is [forgotten](Self::forget).
    pub async fn sign_out(&self, app: &InstalledApp, label: &str) -> Result<(), Error> {
        if self.store().is_none() {
            return Err(no_store());
        }
        self.run(SignOut::new(app.record_key(label), app.server(), app.client())).await
    }

    /// Deletes the person's grant from the store and asks no server: for a server that is gone, or does not answer. The
    /// grant stays good there until it ends by itself. It is no error if there is none.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn forget(&self, app: &InstalledApp, label: &str) -> Result<(), Error> {
        if self.store().is_none() {
            return Err(no_store());
        }
        self.run(DeleteGrant::new(app.record_key(label))).await
    }

    /// What is kept, if it does for the application and still works. A refresh token that was refused is not
    /// tried again.
    async fn load(
        &self,
        app: &InstalledApp,
        key: &RecordKey,
        found: &mut Unfit,
    ) -> Result<Option<TokenManager>, Error> {
        if self.store().is_none() {
            return Err(no_store());
        }
        let saved = self.run(LoadGrant::new(key.clone(), app.want()).of(app.client())).await?;
        saved.iter().for_each(|saved| found.asked = saved.asked.clone());
        let Some(saved) = saved.filter(|saved| app.can_use(saved)) else { return Ok(None) };
        let known = |it: &Secret| saved.refresh_token.as_ref().is_some_and(|kept| it.matches(kept.expose()));
        if found.refused.as_ref().is_some_and(known) {
            return Ok(None);
        }
        let mut started = self.begin(app, key.clone()).await;
        if let Some(pause) = started.as_ref().err().and_then(|error| app.tries_again_after(error)) {
            tokio::time::sleep(pause).await;
            started = self.begin(app, key.clone()).await;
        }
        match started {
            Ok(tokens) => Ok(Some(tokens)),
            Err(error) if app.asks_after(&error) => {
                found.refused = saved.refresh_token;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The manager of what is kept, with its first token. As long as there is none, people are told of waits.
    async fn begin(&self, app: &InstalledApp, key: RecordKey) -> Result<TokenManager, Error> {
        let begins = Arc::new(AtomicBool::new(true));
        let told = begins.clone();
        let tokens = TokenManager::builder(self).on_wait(move |_, waiting| {
            if told.load(Ordering::Relaxed) {
                print(&format!("Waiting until {waiting}."));
            }
        });
        let tokens = tokens.build(app.kept(key), app.want());
        tokens.start().await?;
        begins.store(false, Ordering::Relaxed);
        Ok(tokens)
    }

    /// The manager of a grant that could not be saved yet.
    fn unsaved(&self, app: &InstalledApp, key: RecordKey, token: &Token, error: Error) -> Result<TokenManager, Error> {
        print(&format!("The sign-in could not be saved. That is tried again as long as this program runs. {error}"));
        Ok(TokenManager::new(self, app.signed_in(key, token, error)?, app.want()))
    }

    /// Waits until nobody else works on the key, at most this long.
    async fn lease(&self, key: &RecordKey, patience: Duration) -> Result<Lease, Error> {
        let (begin, mut told) = (Instant::now(), false);
        loop {
            let key = key.clone();
            if let Some(lease) = self.on_store(move |store| store.try_lease(&key, LEASE)).await? {
                return Ok(lease);
            }
            if begin.elapsed() >= patience {
                let message = "another program works on this grant and does not end";
                return Err(Error::new(ErrorKind::Timeout, message));
            }
            if !std::mem::replace(&mut told, true) {
                print("Another program is signing in for the same account. Waiting for it to end.");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Works on the store where that may wait.
    async fn on_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.store().ok_or_else(no_store)?;
        let result = tokio::task::spawn_blocking(move || work(&*store)).await;
        let panicked = |error: tokio::task::JoinError| {
            let lacking = error.try_into_panic().ok().and_then(|panic| runtime::lacking(&*panic));
            lacking.unwrap_or_else(|| Error::new(ErrorKind::Store, "the store panicked"))
        };
        Ok(result.map_err(panicked)??)
    }
}

/// Gives a lease back where that may wait.
async fn give_back(lease: Lease) {
    // If it panics, there is nothing more to do.
    let _ = tokio::task::spawn_blocking(move || drop(lease)).await;
}

fn no_store() -> Error {
    Error::new(ErrorKind::Unsupported, "this transport is not bound to a store: see Transport::with_store")
}
