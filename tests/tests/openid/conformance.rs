//! The page of conformance names tests, and each of them exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../../../docs/conformance.md");

/// The names of all tests in a folder, those of the adapters' suite included.
fn tests_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_in(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.replace("#[tokio::test]", "#[test]");
            let after = text.split("#[test]").skip(1);
            let suite = text.split_once("\nsuite! {").and_then(|(_, rest)| rest.split('}').next()).unwrap_or_default();
            found.extend(suite.split_whitespace().map(str::to_owned));
            found.extend(after.filter_map(|rest| {
                let (_, rest) = rest.split_once("fn ")?;
                rest.split_once('(').map(|(name, _)| name.to_owned())
            }));
        }
    }
}

#[test]
fn each_test_that_the_page_names_exists_and_each_module_has_its_row() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeSet::new();
    tests_in(&root.join("tests"), &mut tests);
    for package in ["proofs", "../core", "../store", "../transport-ureq", "../transport-reqwest"] {
        tests_in(&root.join(package), &mut tests);
    }
    let rows = PAGE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| module"));
    let (mut named, mut count) = (BTreeSet::new(), 0);
    for row in rows {
        let cell = row.split(" | ").nth(1).unwrap();
        let names: Vec<_> = cell.split('`').skip(1).step_by(2).filter(|name| name.contains('_')).collect();
        assert!(
            !names.is_empty() || cell.contains("not applicable: ") || cell.contains("not yet") || cell == "here |",
            "a row says nothing: {row}"
        );
        for name in names {
            assert!(tests.contains(name), "there is no test {name}");
            named.insert(name.to_owned());
        }
        count += 1;
    }
    assert!(count > 95, "{count} rows");
    let begins = ["oidcc_client_test", "fapi2_security_profile_final_client", "fapi_ciba_id1_client"];
    let modules = tests.iter().filter(|name| begins.iter().any(|begin| name.starts_with(begin)));
    for module in modules {
        assert!(named.contains(module), "{module} has no row");
    }
}
