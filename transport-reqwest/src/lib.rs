//! OAuth 2.0, OpenID Connect and Google sign-in for async programs, on `reqwest` and `tokio`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod browser;
mod builder;
mod driver;
mod file;
mod http;
mod paste;
mod sign_in;
mod tls;
mod transport;

pub use builder::Builder;
pub use grantflow;
pub use reqwest;
pub use transport::Transport;
