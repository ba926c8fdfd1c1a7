//! Signs in at a pretend server, where a real browser plays the person: prints the URL to open. With
//! `error`, the person says no. `tests/browser/run` starts this and looks at what the browser shows.

use std::error::Error;
use std::time::Duration;

use grantflow::{Client, ErrorKind, InstalledApp};
use grantflow_tests::server::Consent;
use grantflow_tests::{Front, Server};
use grantflow_ureq::Transport;

fn main() -> Result<(), Box<dyn Error>> {
    let refuse = std::env::args().nth(1).as_deref() == Some("error");
    let server = Server::demo().with(|settings| {
        if refuse {
            settings.consent = Consent::Deny("access_denied");
        }
    });
    let front = Front::start(server)?;
    let app = InstalledApp::new(&front.metadata(), &Client::new("demo"))
        .scopes("openid email")
        .open_browser(false)
        .timeout(Duration::from_secs(60))
        .show(|url| println!("{url}"));
    match Transport::new()?.sign_in(&app) {
        Ok(token) if !refuse && token.id_token().is_some() => Ok(()),
        Err(error) if refuse && error.kind() == ErrorKind::Authorization => Ok(()),
        Ok(_) => Err("signed in, although the person said no".into()),
        Err(error) => Err(error.into()),
    }
}
