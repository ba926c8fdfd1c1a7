//! What the programs of `start` have in common, apart from the library.

use std::fs;

#[allow(dead_code, reason = "a refresh asks for what was granted")]
pub(crate) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The key file.
pub(crate) fn key_file() -> String {
    std::env::args().nth(1).expect("the path of the key file")
}

/// Shows the token, and the most memory that the process ever had, in kB.
pub(crate) fn show(token: &str) {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    println!("{token} {}", peak.trim().trim_end_matches(" kB"));
}
