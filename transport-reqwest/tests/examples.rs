//! The examples that play no server themselves, against pretend servers of this one.

use grantflow_tests::examples::Examples;

#[test]
fn default_credentials_are_found_wherever_they_are() {
    Examples::build(env!("CARGO_MANIFEST_DIR"), env!("CARGO_TARGET_TMPDIR")).check_default_credentials();
}
