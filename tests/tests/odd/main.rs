//! What odd servers send and what people paste, from tables in `tests/data/odd`: the rest is read, what was left
//! out is said, and nothing is half taken.

mod answers;
mod challenges;
mod coding;
mod discovery;
mod files;
mod refusals;

use serde_json::Value;

/// The rows of a table.
fn rows(json: &str, name: &str) -> Vec<Value> {
    let table: Value = serde_json::from_str(json).unwrap();
    let rows = table[name].as_array().unwrap().clone();
    assert!(!rows.is_empty());
    rows
}

fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_else(|| panic!("{row} has no {name}"))
}
