//! Tokens of grantflow for the libraries of others, which bring a trait for them: each file stands by itself, to be copied
//! into a program. `cargo test --manifest-path tests/bridges/Cargo.toml` compiles both, and uses them at a pretend Google.

pub mod google_cloud_auth;
pub mod object_store;
