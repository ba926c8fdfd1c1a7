//! The sign-in of an installed application over the loopback interface (RFC 8252, section 7.3): bytes
//! of the redirect's request in, bytes of the page out. The sockets are the adapters'.
//!
//! ```text
//! InstalledApp ─addresses─▶ bind ─start(port)─▶ StartSignIn ─▶ Receiver ─url─▶ the user's browser
//!                                                                │  ▲
//!                     accept ─▶ Connections ─serve(receiver)─────┘  │ pages out, until serve says that
//!                                                                   │ the answer is in
//!                                         finish ◀──────────────────┘
//!                                            ▼
//!                                   FinishAuthorization ─▶ Token
//! ```
//!
//! A receiver without any socket:
//!
//! ```
//! use grantflow::loopback::Heard;
//! use grantflow::{Client, InstalledApp, Issuer, ServerMetadata, Timestamp};
//!
//! # fn run<M: grantflow::Machine>(mut machine: M) -> Result<M::Output, grantflow::Error> {
//! #     let mut cx = grantflow::Cx::new(grantflow::Now::default(), [7; 32]);
//! #     match machine.resume(&mut cx, grantflow::Reply::Start) { grantflow::Step::Done(result) => result, _ => panic!() }
//! # }
//! # let now = Timestamp::default();
//! let server = ServerMetadata::new(Issuer::new("https://as.example")?)
//!     .authorization_endpoint("https://as.example/authorize")?
//!     .token_endpoint("https://as.example/token")?;
//! let app = InstalledApp::new(&server, &Client::new("native-app")).scopes(["openid"]);
//! let mut receiver = run(app.start(50123))?;
//! let state = receiver.url().split("&state=").nth(1).unwrap().split('&').next().unwrap();
//! let request = format!("GET /?code=SplxlOBe&state={state} HTTP/1.1\r\nHost: 127.0.0.1:50123\r\n\r\n");
//! assert!(matches!(receiver.hear(request.as_bytes(), now), Heard::Answered(_)));
//! let machine = receiver.finish();
//! # let _ = machine;
//! # Ok::<(), grantflow::Error>(())
//! ```

mod app;
mod connections;
mod page;
mod receiver;
mod redirect;
mod start;
mod steps;
#[cfg(test)]
mod tests;

pub use app::InstalledApp;
pub use connections::{Connections, Io};
pub use receiver::{Heard, Receiver};
pub use start::StartSignIn;

use url::Url;

use crate::Error;
use crate::server::is_loopback;

/// Checks an address before it goes to a browser: https, or http on a loopback host; only characters
/// that an address is made of, no quote among them, and no user name.
///
/// It must be handed to the browser as one argument of a program, never through a shell.
///
/// # Errors
///
/// Of kind [`ErrorKind::Config`](crate::ErrorKind::Config).
pub fn openable(url: &str) -> Result<(), Error> {
    let wrong = |why| Err(Error::config(format!("an address that is not safe to open in a browser: {why}")));
    // RFC 3986, section 2, without the single quote.
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&()*+,;=%".contains(&byte);
    if !url.bytes().all(known) {
        return wrong("it holds a character that no address may have, or a quote");
    }
    let Ok(parsed) = Url::parse(url) else { return wrong("it is no absolute address") };
    // Three slashes are one too many, but the parser mends them.
    let host = |scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.starts_with('/'));
    if !(host("https://") || host("http://") && is_loopback(&parsed)) {
        return wrong("it must begin with https://, or be http on a loopback address");
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return wrong("it holds a user name or password");
    }
    Ok(())
}
