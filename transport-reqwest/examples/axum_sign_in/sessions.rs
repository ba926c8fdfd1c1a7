//! Who is signed in. The browser has a name that nobody can guess, and all else is here: so that a session can be ended
//! by others than its browser. A service of several processes has this in its database.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use grantflow_reqwest::grantflow::jose::IdToken;

#[derive(Clone)]
pub(crate) struct Session {
    /// The provider where the person signed in.
    pub(crate) provider: String,
    /// A person is known by its issuer and subject together. An e-mail address may change hands.
    pub(crate) id_token: IdToken,
}

#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<BTreeMap<String, Session>>>);

impl Sessions {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, name: &str, session: Session) {
        self.all().insert(name.to_owned(), session);
    }

    pub(crate) fn get(&self, name: &str) -> Option<Session> {
        self.all().get(name).cloned()
    }

    pub(crate) fn end(&self, name: &str) -> Option<Session> {
        self.all().remove(name)
    }

    pub(crate) fn end_those(&self, which: impl Fn(&IdToken) -> bool) {
        self.all().retain(|_, session| !which(&session.id_token));
    }
}
