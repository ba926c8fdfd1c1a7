//! Nothing: what is checked is what this depends on.
