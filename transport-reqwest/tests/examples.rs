//! The examples that play no server themselves, against pretend servers of this one.

use std::sync::OnceLock;

use grantflow_tests::examples::Examples;

fn examples() -> &'static Examples {
    static BUILT: OnceLock<Examples> = OnceLock::new();
    BUILT.get_or_init(|| Examples::build(env!("CARGO_MANIFEST_DIR"), env!("CARGO_TARGET_TMPDIR")))
}

#[test]
fn default_credentials_are_found_wherever_they_are() {
    examples().check_default_credentials();
}

#[test]
fn the_second_login_opens_no_browser_and_sends_no_request() {
    examples().check_second_login();
}
