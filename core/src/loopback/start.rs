//! The machine that starts a sign-in over loopback, once the port is bound.

use url::Url;

use super::app::InstalledApp;
use super::openable;
use super::receiver::Receiver;
use crate::machine::ask;
use crate::{Cx, Error, Machine, Reply, StartAuthorization, Step};

impl InstalledApp {
    /// The machine that makes the request's URL, with the port that is bound, and the receiver of its answer.
    ///
    /// # Errors
    ///
    /// The machine ends with an error if a setter or the authorization request could not take a value.
    pub fn start(&self, port: u16) -> StartSignIn {
        StartSignIn::new(self, port)
    }
}

/// The machine that makes the [`Receiver`] of a sign-in: see [`InstalledApp::start`].
#[derive(Debug)]
pub struct StartSignIn {
    app: InstalledApp,
    begun: Result<(StartAuthorization, Url), Error>,
}

impl StartSignIn {
    pub(super) fn new(app: &InstalledApp, port: u16) -> Self {
        let begun = app.check().and_then(|()| {
            let (redirect_uri, url) = app.redirect.uri(port)?;
            Ok((app.authorization_request(redirect_uri).start(), url))
        });
        Self { app: app.clone(), begun }
    }
}

impl Machine for StartSignIn {
    type Output = Receiver;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Receiver> {
        let (start, redirect_uri) = match &mut self.begun {
            Ok(begun) => begun,
            Err(error) => return Step::Done(Err(std::mem::replace(error, Error::misuse("starting a sign-in")))),
        };
        Step::Done(ask!(start, cx, reply).and_then(|authorization| {
            openable(&authorization.url)?;
            Ok(Receiver::new(&self.app, authorization, redirect_uri))
        }))
    }
}
