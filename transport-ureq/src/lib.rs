//! OAuth 2.0, OpenID Connect and Google sign-in for blocking programs: [`grantflow`]'s machines, driven
//! by [ureq](https://docs.rs/ureq).
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod connect;
mod driver;
mod fetch;
mod limit;
mod sign_in;
mod terminal;
mod tls;
mod transport;

pub use grantflow;
pub use limit::{Cancel, Limit};
pub use transport::{Builder, Transport};
