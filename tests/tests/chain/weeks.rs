//! Weeks of a chain.
