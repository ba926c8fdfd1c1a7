//! JSON Web Keys, signed tokens, the ID tokens of OpenID Connect, and the verification of tokens by the keys of their
//! issuers.

pub(crate) mod access_token;
mod claims;
mod id_token;
mod id_token_rules;
mod index;
mod introspection_jwt;
mod issuers;
mod jwk;
mod jws;
mod keys;
mod logout_token;
mod sign;
mod signed_user_info;
mod verifier;

pub use access_token::AccessToken;
pub use claims::{ClaimSource, Claims};
pub use id_token::IdToken;
pub use jwk::{Jwk, JwkSet};
pub use jws::Jws;
pub use keys::{KeySet, ReadKeys};
pub use logout_token::LogoutToken;
pub use verifier::{Verdict, Verifiable, Verifier, Verify};

pub(crate) use id_token::{Expected, Occasion, SignIn, SignInTerms};
pub(crate) use introspection_jwt::SignedIntrospection;
pub(crate) use jws::{Verified, unverified_id_token};
pub(crate) use sign::{JwtSigner, SignJwt};
pub(crate) use signed_user_info::SignedUserInfo;
pub(crate) use verifier::LEEWAY;
