//! JSON Web Keys, signed tokens, and the ID tokens of OpenID Connect.

mod claims;
mod id_token;
mod jwk;
mod jws;
mod sign;

pub use claims::Claims;
pub use id_token::IdToken;
pub use jwk::{Jwk, JwkSet};
pub use jws::Jws;

pub(crate) use id_token::{Expected, Occasion};
pub(crate) use jws::unverified_id_token;
pub(crate) use sign::{JwtSigner, SignJwt};
