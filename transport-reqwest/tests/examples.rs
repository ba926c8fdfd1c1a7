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

#[test]
#[cfg(target_os = "linux")]
fn people_are_told_on_the_standard_error_what_to_open_and_what_is_waited_for() {
    examples().check_what_people_are_told();
}

#[test]
fn a_person_may_sign_in_to_a_web_application_in_two_tabs() {
    let output = examples().example("axum_sign_in").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let (_, tabs) = said.split_once("They begin in one tab").expect("there are two tabs");
    assert!(tabs.split("They are still signed in").next().unwrap().matches("Signed in as").count() == 2, "{said}");
}
