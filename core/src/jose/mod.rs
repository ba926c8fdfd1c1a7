//! JSON Web Tokens: reading them, and checking the ID tokens of OpenID Connect.

mod claims;
mod id_token;
mod sign;

pub use claims::Claims;
pub use id_token::IdToken;

pub(crate) use claims::decode;
pub(crate) use id_token::{Expected, Occasion};
pub(crate) use sign::{JwtSigner, SignJwt};
