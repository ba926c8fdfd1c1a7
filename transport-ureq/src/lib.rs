//! OAuth 2.0, OpenID Connect and Google sign-in for blocking programs: the machines of [`grantflow`],
//! driven by [`ureq`] on the calling thread.
//!
//! ```no_run
//! use grantflow_ureq::Transport;
//! use grantflow_ureq::grantflow::google::ClientSecrets;
//! use grantflow_ureq::grantflow::{InstalledApp, Revocation, TokenRequest};
//!
//! let transport = Transport::new()?;
//! let secrets = transport.run(ClientSecrets::read("client_secret.json"))?;
//! let (server, client) = (secrets.server(), secrets.client());
//! let token = transport.sign_in(&InstalledApp::google(&secrets).scopes("openid email"))?;
//! println!("{:?} until {:?}", token.scopes(), token.expires_at());
//! // `token.authorization()?` is the header for requests; later, without the user:
//! let token = transport.run(TokenRequest::refresh(server, client, &token)?.exchange())?;
//! transport.run(Revocation::of(server, client, &token)?.exchange())?;
//! # Ok::<(), grantflow::Error>(())
//! ```
//!
//! Everything else that the crate can do is a machine too, and [`Transport::run`] drives any of them: discovery, the
//! other grants, your own. [`Transport::run_until`] has a deadline, and a handle that ends the run from another thread.
//!
//! # Guarantees
//!
//! - Requests go over TLS, but for loopback and the metadata server, which are called in cleartext and
//!   never through a proxy.
//! - A redirect is an answer like any other. It is not followed, whatever configuration [`Builder::http`] was given.
//! - A body is cut at its limit while it is read; a call ends by its total time, however slow the server.
//! - A failure is reported as "not sent" only if no byte of the request was written: the name was not found, no server
//!   answered, or TLS failed.
//! - The buffers of requests and answers, here and in ureq, are wiped.
//!
//! # Limits
//!
//! - HTTP/1.1, a connection for each call. TLS sessions are resumed, so the second costs less.
//! - A name lookup under way cannot be ended, only left behind: its thread goes on until the system gives up.
//! - On Windows, a sign-in that took pasted lines keeps the terminal's next line.
//! - Copies of a secret in rustls, the kernel and header values are not wiped.
//!
//! # Features
//!
//! On by default; a program that turns them off holds fewer crates:
//!
//! - `manager`: `TokenManager` and `TokenPool`, which hold tokens and refresh them in time, Google in one line, and
//!   requests that carry a token.
//! - `store`: `Transport::with_store`, for grants that outlive the program, and `load_or_sign_in`.
//! - `programs`: [`Builder::allow_programs`], for sources whose token a program prints.
//! - `verifier`: `TokenVerifier`, which verifies the tokens of others by the keys of their issuers.
//! - `browser`: opens the user's browser; without it [`Transport::sign_in`] prints the URL only.
//! - `platform-roots`: trusts the root certificates of the platform.
//!
//! Off by default:
//!
//! - `bundled-roots`: `Builder::bundled_roots`, for systems without root certificates.
//! - `tracing`: a span for each machine, an event for each effect and reply, at level debug. They hold no
//!   secret.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "manager")]
mod authorized;
mod browser;
mod connect;
mod documents;
mod driver;
mod fetch;
mod google;
mod identity;
#[cfg(test)]
mod internet;
mod limit;
#[cfg(feature = "manager")]
mod manager;
#[cfg(feature = "programs")]
mod program;
#[cfg(feature = "manager")]
mod proving;
mod resolve;
#[cfg(feature = "manager")]
mod resource;
mod run;
mod shared;
mod sign_in;
#[cfg(all(feature = "manager", feature = "store"))]
mod stored;
mod terminal;
mod tls;
mod transport;
#[cfg(feature = "verifier")]
mod verifier;

#[cfg(feature = "manager")]
pub use authorized::{Authorize, AuthorizedAgent, Repeatable};
#[cfg(feature = "manager")]
pub use google::Google;
pub use grantflow;
#[cfg(feature = "store")]
pub use grantflow_store;
pub use limit::{Cancel, Limit};
#[cfg(feature = "manager")]
pub use manager::{Change, Changes, ManagerBuilder, Status, TokenManager, TokenPool, TokenRef};
#[cfg(feature = "manager")]
pub use resource::ResourceAgent;
pub use transport::{Builder, Transport};
pub use ureq;
#[cfg(feature = "verifier")]
pub use verifier::TokenVerifier;
