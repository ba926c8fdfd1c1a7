//! OAuth 2.0, OpenID Connect and Google sign-in for async programs: [`grantflow`]'s machines, driven
//! by [reqwest](https://docs.rs/reqwest) on [tokio](https://docs.rs/tokio).
//!
//! A person signs in with their browser, and the program calls an API for them:
//!
//! ```no_run
//! use grantflow_reqwest::Transport;
//! use grantflow_reqwest::grantflow::{InstalledApp, TokenRequest, google::ClientSecrets};
//!
//! # async fn main_() -> Result<(), grantflow::Error> {
//! let transport = Transport::new()?;
//! let secrets = transport.run(ClientSecrets::read("client_secret.json")).await?;
//! let app = InstalledApp::google(&secrets).scopes(["https://www.googleapis.com/auth/drive.readonly"]);
//! let token = transport.sign_in(&app).await?;
//! println!("for {}, until {:?}", token.scopes().as_str(), token.expires_at());
//! let header = token.authorization()?; // `Authorization: Bearer ...`, for any HTTP client
//! let again = TokenRequest::refresh(secrets.server(), secrets.client(), &token)?;
//! let token = transport.run(again.exchange()).await?;
//! # Ok(()) }
//! ```
//!
//! Everything else that [`grantflow`] can do is a [`Machine`](grantflow::Machine) for [`Transport::run`].
//! `examples/axum_sign_in.rs` is a web application that signs people in.
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
//!
//! Off by default:
//!
//! - `tower`: `AuthorizeLayer`, which puts tokens on the requests of hyper, tonic and others; `ProtectLayer`, which
//!   lets only requests with a good token reach a service, such as axum's.
//! - `tracing`: a span `grantflow` for each machine, and in it an event for each effect and reply, at the
//!   level `debug` and without any secret.
//! - `bundled-roots`: `Builder::bundled_roots`, for hosts that have no root certificates of their own.
//!
//! # Limits
//!
//! - HTTP/1.1 only. Calls that must not be repeated, and calls to this machine, have a fresh connection each.
//! - Redirects, retries, cookies and compression are off, TLS is rustls with ring, and none of this can be
//!   changed by [`Builder::http`], but for a cookie store that its caller turns on.
//! - Dropping a future closes its connections at once. A name lookup and the reading of a file go on to their end on
//!   tokio's threads for blocking work, without effect.
//! - Bodies that are sent, files and tokens are wiped from memory; the buffers of reqwest and rustls are not.
//! - This crate turns on reqwest's feature `rustls-no-provider`: if no other crate gives reqwest a provider of
//!   cryptography, `reqwest::Client::new()` panics. [`Transport::client_builder`] makes clients that have one.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(feature = "manager")]
mod authorized;
mod browser;
mod builder;
mod documents;
mod driver;
mod file;
mod google;
mod http;
mod identity;
#[cfg(test)]
mod internet;
#[cfg(feature = "manager")]
mod manager;
mod own;
#[cfg(feature = "programs")]
mod program;
#[cfg(feature = "tower")]
mod protect;
#[cfg(feature = "manager")]
mod proving;
mod resolve;
#[cfg(feature = "manager")]
mod resource;
mod run;
mod runtime;
mod shared;
mod sign_in;
#[cfg(all(feature = "manager", feature = "store"))]
mod stored;
mod terminal;
mod tls;
#[cfg(feature = "tower")]
mod tower;
mod transport;
#[cfg(feature = "verifier")]
mod verifier;

#[cfg(feature = "manager")]
pub use authorized::{AuthorizedClient, AuthorizedError};
pub use builder::Builder;
#[cfg(feature = "manager")]
pub use google::Google;
pub use grantflow;
#[cfg(feature = "store")]
pub use grantflow_store;
#[cfg(feature = "manager")]
pub use manager::{Change, Changes, ManagerBuilder, Status, TokenManager, TokenPool, TokenRef};
#[cfg(feature = "tower")]
pub use protect::{Protect, ProtectLayer};
pub use reqwest;
#[cfg(feature = "manager")]
pub use resource::ResourceClient;
#[cfg(feature = "tower")]
pub use tower::{Again, Authorize, AuthorizeLayer, Once, Twice};
pub use transport::Transport;
#[cfg(feature = "verifier")]
pub use verifier::TokenVerifier;
