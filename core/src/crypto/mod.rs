//! Signatures and encryption: [`Signer`], which may be a key here or a remote one, [`SigningKey`], [`VerifyingKey`] and
//! [`MacKey`], by one of three libraries.
//!
//! | feature | library | algorithms | note |
//! |---|---|---|---|
//! | `aws-lc-rs` | [aws-lc-rs](https://docs.rs/aws-lc-rs) | all | RSA twice as fast with AVX-512; its first random byte takes some 20 ms; needs a C compiler |
//! | `ring` | [ring](https://docs.rs/ring) | all but ES512 | what the adapters turn on |
//! | `rust-crypto` | [rsa](https://docs.rs/rsa) 0.10, [p256](https://docs.rs/p256), [p384](https://docs.rs/p384), [ed25519-dalek](https://docs.rs/ed25519-dalek) | all but ES512 | pure Rust, where ring cannot be built; RSA three times slower |
//!
//! [`SealingKeys`] encrypt what is kept, by ChaCha20-Poly1305, which each of the libraries has (`rust-crypto` by
//! [chacha20poly1305](https://docs.rs/chacha20poly1305)).
//!
//! Several libraries may be on at the same time, as when two dependencies turn them on: for each algorithm the first
//! library in this order that has it is used. There is no provider to install, and nothing is process-wide.
//!
//! `aws-lc-rs` and `ring` draw the randomness of signatures and of new keys themselves; `rust-crypto` takes it from
//! [`Cx`](crate::Cx), so that runs are replayable to the bit.
//!
//! The advisory [RUSTSEC-2023-0071](https://rustsec.org/advisories/RUSTSEC-2023-0071.html) of 22 November 2023 says of
//! the crate `rsa` that its private-key operations leak information about the key by the time that they take, over a
//! network too; its text of August 2026 names no version as patched. Version 0.10, of 8 November 2026, was rewritten to
//! compute in constant time, and says that it resolves this. It is the only version that is used here, and it is
//! always given randomness to blind with. Until the advisory names it, prefer another library for RSA keys whose
//! signatures an attacker can time. Verifying uses no private key.

mod aead;
mod algorithm;
#[cfg(feature = "aws-lc-rs")]
mod aws_lc_rs;
mod backend;
mod der;
mod keys;
mod mac;
mod pem;
#[cfg(feature = "ring")]
mod ring;
#[cfg(feature = "rust-crypto")]
mod rust_crypto;
mod sealing;
mod signing;
mod verifying;

pub use algorithm::Algorithm;
pub use mac::{MacAlgorithm, MacKey};
pub(crate) use mac::{hex, hmac_sha256};
pub use sealing::{CannotOpen, Sealed, SealingKey, SealingKeys};
pub use signing::{Signer, Signing, SigningKey};
pub use verifying::VerifyingKey;

pub(crate) use algorithm::Curve;
pub(crate) use keys::{PrivateKey, PublicKey};
