//! The page tells what people stumble over, and the test of each: they exist.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

const PAGE: &str = include_str!("../../../docs/google.md");

/// The names of all functions in the sources of a folder.
fn functions(folder: &Path, found: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            functions(&path, found)?;
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path)?;
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
    Ok(())
}

#[test]
fn each_test_of_what_people_stumble_over_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    functions(&root.join("tests"), &mut known).unwrap();
    functions(&root.join("../core/src"), &mut known).unwrap();
    let (_, table) = PAGE.split_once("## What people stumble over").unwrap();
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert_eq!(rows.len(), 40);
    for row in rows {
        let (_, cell) = row.trim_end_matches(" |").rsplit_once(" | ").unwrap();
        let named: Vec<_> = cell.split('`').skip(1).step_by(2).filter(|name| name.matches('_').count() > 2).collect();
        assert!(!named.is_empty(), "a row names no test: {row}");
        for name in named {
            assert!(known.contains(name), "there is no test {name}");
        }
    }
}
