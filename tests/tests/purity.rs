//! Purity is checked, not promised: what core is built of, who knows whom, how long the drivers are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).current_dir(root()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The names of all crates in core's normal dependencies, core included.
fn crates(features: &str) -> BTreeSet<String> {
    let tree = ["tree", "-p", "grantflow", "-e", "normal", "--offline", "--prefix", "none", "--no-default-features"];
    let tree = cargo(&[&tree[..], &["--features", features]].concat());
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn core_holds_no_http_client_no_runtime_no_tls_and_no_entropy() {
    let foreign = [
        "reqwest",
        "ureq",
        "ureq-proto",
        "hyper",
        "hyper-util",
        "h2",
        "curl",
        "isahc",
        "attohttpc",
        "tokio",
        "async-std",
        "smol",
        "async-io",
        "mio",
        "socket2",
        "polling",
        "futures",
        "futures-core",
        "futures-util",
        "rustls",
        "rustls-webpki",
        "rustls-pki-types",
        "native-tls",
        "openssl",
        "openssl-sys",
        "schannel",
        "security-framework",
        "webpki-roots",
        "rand",
        "fastrand",
        "getrandom",
        "time",
        "chrono",
        "jiff",
        "tempfile",
        "webbrowser",
        "tracing",
        "log",
    ];
    let plain = crates("");
    assert!(plain.contains("grantflow") && plain.contains("url"), "{plain:?}");
    let found: Vec<_> = foreign.iter().filter(|name| plain.contains(**name)).collect();
    assert!(found.is_empty(), "{found:?}");
    // ring draws its own randomness for signatures: the one exception, and it has a name.
    let with_ring: Vec<_> = crates("ring").into_iter().filter(|name| foreign.contains(&&**name)).collect();
    assert_eq!(with_ring, ["getrandom"]);
    let above = cargo(&[
        "tree",
        "-p",
        "grantflow",
        "-e",
        "normal",
        "--offline",
        "--features",
        "ring",
        "--prefix",
        "none",
        "--depth",
        "1",
        "-i",
        "getrandom",
    ]);
    let above: Vec<_> = above.lines().filter_map(|line| line.split(' ').next()).skip(1).collect();
    assert_eq!(above, ["ring"]);
}

#[test]
fn core_stays_small() {
    let crates = crates("ring");
    println!("core with ring: {} crates", crates.len());
    assert!(crates.len() <= 66, "{}: {crates:?}", crates.len());
}

#[test]
fn imports_run_one_way() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    for (name, allowed) in [
        ("grantflow", &[][..]),
        ("grantflow-store", &["grantflow"]),
        ("grantflow-ureq", &["grantflow", "grantflow-store"]),
        ("grantflow-reqwest", &["grantflow", "grantflow-store"]),
    ] {
        let package = packages.iter().find(|package| package["name"] == name).unwrap();
        let ours = package["dependencies"].as_array().unwrap().iter().filter(|dependency| dependency["kind"].is_null());
        let ours: Vec<_> =
            ours.filter_map(|d| d["name"].as_str()).filter(|name| name.starts_with("grantflow")).collect();
        assert_eq!(ours, allowed, "{name}");
    }
}

#[test]
fn a_driver_fits_on_a_page() {
    for adapter in ["transport-ureq", "transport-reqwest"] {
        let lines = std::fs::read_to_string(root().join(adapter).join("src/driver.rs")).unwrap().lines().count();
        println!("{adapter}/src/driver.rs: {lines} lines");
        assert!(lines <= 100, "{adapter}: {lines}");
    }
}

#[test]
fn every_crate_forbids_unsafe_code() {
    for package in ["core", "store", "transport-ureq", "transport-reqwest", "tests"] {
        let source = std::fs::read_to_string(root().join(package).join("src/lib.rs")).unwrap();
        assert!(source.contains("#![forbid(unsafe_code)]"), "{package}");
    }
}

#[test]
fn a_source_that_wraps_another_hands_on_every_question() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let block = |text: &str, begin: &str| {
        let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("{begin}"));
        rest.split("\n}\n").next().unwrap().to_owned()
    };
    let names = |block: &str| {
        let methods = block.lines().filter_map(|line| line.strip_prefix("    fn "));
        methods.map(|line| line.split(['(', '<']).next().unwrap().to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    let asked = names(&block(&read("core/src/source/mod.rs"), "pub trait TokenSource"));
    assert!(asked.len() > 4, "{asked:?}");
    let wrapper = block(&read("transport-ureq/src/manager/credential.rs"), "TokenSource for Calm {");
    assert_eq!(names(&wrapper), asked);
}
