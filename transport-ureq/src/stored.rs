//! Signing in once: a store keeps the person's grant, and the next run uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use grantflow::store::{DeleteGrant, LoadGrant, RecordKey, SignOut};
use grantflow::{Error, ErrorKind, InstalledApp, Scopes, Secret, Token};
use grantflow_store::{Lease, Store};

use crate::limit::LONGEST;
use crate::sign_in::print;
use crate::{Limit, TokenManager, Transport};

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
    ///
    /// ```no_run
    /// use std::sync::Arc;
    ///
    /// use grantflow_ureq::Transport;
    /// use grantflow_ureq::grantflow::InstalledApp;
    /// use grantflow_ureq::grantflow::google::ClientSecrets;
    /// use grantflow_ureq::grantflow_store::FileStore;
    ///
    /// let transport = Transport::new()?;
    /// let store = FileStore::default_for("my-program", &transport.platform())?;
    /// let secrets = transport.run(ClientSecrets::read("client_secret.json"))?;
    /// let app = InstalledApp::google(&secrets).scopes("https://www.googleapis.com/auth/drive.readonly");
    /// let tokens = transport.with_store(Arc::new(store)).load_or_sign_in(&app, "")?;
    /// println!("{:?}", tokens.status());
    /// # Ok::<(), grantflow_ureq::grantflow::Error>(())
    /// ```
    ///
    /// Files of Google's other programs, a `token.json` or gcloud's `application_default_credentials.json`, are not
    /// shared with those programs, since they drop members that they do not know. The grant of such a file can be taken
    /// over, and such a file can be written:
    ///
    /// ```no_run
    /// # use grantflow_ureq::grantflow;
    /// use grantflow_ureq::Transport;
    /// use grantflow_ureq::grantflow::google::AuthorizedUser;
    /// use grantflow_ureq::grantflow::source::{TokenSource as _, Want};
    /// use grantflow_ureq::grantflow::store::SaveGrant;
    /// use grantflow_ureq::grantflow::{InstalledApp, ServerMetadata};
    /// use grantflow_ureq::grantflow_store::write_private;
    ///
    /// # fn main_(transport: Transport) -> Result<(), grantflow::Error> {
    /// let user = transport.run(AuthorizedUser::read("token.json"))?;
    /// let app = InstalledApp::new(&ServerMetadata::google(), user.client()).scopes(user.scopes().clone());
    /// let token = transport.run(user.mint(&Want::default(), &user.first_state()))?;
    /// transport.run(SaveGrant::new(app.record_key(""), Want::default(), &token))?;
    ///
    /// let tokens = transport.load_or_sign_in(&app, "")?; // nobody is asked
    /// let user = AuthorizedUser::signed_in(app.client(), &*tokens.token()?)?;
    /// write_private("token.json", user.to_json(&user.first_state(), None).expose().as_bytes())?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`sign_in`](Self::sign_in), of the store, and of a refresh that fails for now.
    pub fn load_or_sign_in(&self, app: &InstalledApp, label: &str) -> Result<TokenManager, Error> {
        self.load_or_sign_in_until(app, label, &Limit::new())
    }

    /// Does as [`load_or_sign_in`](Self::load_or_sign_in), but waits for people no longer than the limit allows.
    pub fn load_or_sign_in_until(&self, app: &InstalledApp, label: &str, limit: &Limit) -> Result<TokenManager, Error> {
        let store = self.store().ok_or_else(no_store)?;
        let key = app.record_key(label);
        let mut found = Unfit::default();
        if let Some(tokens) = self.load(app, &key, &mut found, limit)? {
            return Ok(tokens);
        }
        let lease = lease(store, &key.for_sign_in(), app.time_limit(), limit)?;
        // In another program the person may have just signed in.
        if let Some(tokens) = self.load(app, &key, &mut found, limit)? {
            return Ok(tokens);
        }
        let app = &app.beside(&found.asked);
        let token = self.sign_in_until(app, limit)?;
        self.keep(app, key, &token, lease)
    }

    /// As [`load_or_sign_in`](Self::load_or_sign_in), where the grant that is kept does not do whatever it says of itself, since
    /// `refused` is of it: another one that was kept meanwhile does.
    pub(crate) fn sign_in_anew(&self, app: &InstalledApp, label: &str, refused: &Token) -> Result<TokenManager, Error> {
        let (key, limit) = (app.record_key(label), Limit::new());
        let lease = lease(self.store().ok_or_else(no_store)?, &key.for_sign_in(), app.time_limit(), &limit)?;
        let saved = self.run(LoadGrant::new(key.clone(), app.want()).of(app.client()))?;
        let asked = saved.as_ref().map(|saved| saved.asked.clone()).unwrap_or_default();
        let newer = saved.and_then(|saved| saved.token).is_some_and(|it| it.access_token() != refused.access_token());
        if newer && let Some(tokens) = self.load(app, &key, &mut Unfit::default(), &limit)? {
            return Ok(tokens);
        }
        let app = &app.beside(&asked);
        let token = self.sign_in(app)?;
        self.keep(app, key, &token, lease)
    }

    /// Keeps what a person has just granted, and begins with it.
    fn keep(&self, app: &InstalledApp, key: RecordKey, token: &Token, lease: Lease) -> Result<TokenManager, Error> {
        if let Some(message) = app.after_sign_in(token) {
            print(&message);
        }
        match self.run(app.keep(key.clone(), token)) {
            Err(error) if error.kind() == ErrorKind::Store => return self.unsaved(app, key, token, error),
            saved => saved?,
        }
        drop(lease);
        self.begin(app, key)
    }

    /// Revokes the person's grant, and deletes it from the store. It is no error if there is none.
    ///
    /// # Errors
    ///
    /// If the grant cannot be revoked for now; it is then kept, unless it is [forgotten](Self::forget).
    pub fn sign_out(&self, app: &InstalledApp, label: &str) -> Result<(), Error> {
        self.store().ok_or_else(no_store)?;
        self.run(SignOut::new(app.record_key(label), app.server(), app.client()))
    }

    /// Deletes the person's grant from the store and asks no server: for a server that is gone, or does not answer. The
    /// grant stays good there until it ends by itself. It is no error if there is none.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub fn forget(&self, app: &InstalledApp, label: &str) -> Result<(), Error> {
        self.store().ok_or_else(no_store)?;
        self.run(DeleteGrant::new(app.record_key(label)))
    }

    /// What is kept, if it does for the application and still works. A refresh token that was refused is not
    /// tried again.
    fn load(
        &self,
        app: &InstalledApp,
        key: &RecordKey,
        found: &mut Unfit,
        limit: &Limit,
    ) -> Result<Option<TokenManager>, Error> {
        let saved = self.run(LoadGrant::new(key.clone(), app.want()).of(app.client()))?;
        saved.iter().for_each(|saved| found.asked = saved.asked.clone());
        let Some(saved) = saved.filter(|saved| app.can_use(saved)) else { return Ok(None) };
        let known = |it: &Secret| saved.refresh_token.as_ref().is_some_and(|kept| it.matches(kept.expose()));
        if found.refused.as_ref().is_some_and(known) {
            return Ok(None);
        }
        let mut started = self.begin(app, key.clone());
        if let Some(pause) = started.as_ref().err().and_then(|error| app.tries_again_after(error)) {
            limit.sleep(pause);
            started = self.begin(app, key.clone());
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
    fn begin(&self, app: &InstalledApp, key: RecordKey) -> Result<TokenManager, Error> {
        let begins = Arc::new(AtomicBool::new(true));
        let told = begins.clone();
        let tokens = TokenManager::builder(self).on_wait(move |_, waiting| {
            if told.load(Ordering::Relaxed) {
                print(&format!("Waiting until {waiting}."));
            }
        });
        let tokens = tokens.build(app.kept(key), app.want());
        tokens.start()?;
        begins.store(false, Ordering::Relaxed);
        Ok(tokens)
    }

    /// The manager of a grant that could not be saved yet.
    fn unsaved(&self, app: &InstalledApp, key: RecordKey, token: &Token, error: Error) -> Result<TokenManager, Error> {
        print(&format!("The sign-in could not be saved. That is tried again as long as this program runs. {error}"));
        Ok(TokenManager::new(self, app.signed_in(key, token, error)?, app.want()))
    }
}

/// Waits until nobody else works on the key, at most this long.
fn lease(store: &dyn Store, key: &RecordKey, patience: Duration, limit: &Limit) -> Result<Lease, Error> {
    let end = Instant::now() + patience.min(LONGEST);
    let mut told = false;
    loop {
        if let Some(lease) = store.try_lease(key, LEASE)? {
            return Ok(lease);
        }
        if let Some(error) = limit.over("while another program worked on the grant") {
            return Err(error);
        }
        if Instant::now() >= end {
            return Err(Error::new(ErrorKind::Timeout, "another program works on this grant and does not end"));
        }
        if !std::mem::replace(&mut told, true) {
            print("Another program is signing in for the same account. Waiting for it to end.");
        }
        limit.sleep(PAUSE);
    }
}

fn no_store() -> Error {
    Error::new(ErrorKind::Unsupported, "this transport is not bound to a store: see Transport::with_store")
}
