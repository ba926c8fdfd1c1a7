//! JSON Web Tokens: reading them, and checking the ID tokens of OpenID Connect.

mod claims;
mod id_token;

pub use claims::Claims;
pub use id_token::IdToken;

pub(crate) use id_token::{Expected, Occasion};
