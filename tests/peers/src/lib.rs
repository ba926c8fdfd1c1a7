//! The pages of the documentation whose programs need other crates too: `cargo test --doc --release`.

#[cfg(doctest)]
#[doc = include_str!("../../../docs/migrating.md")]
pub struct Migrating;
