//! Mistakes made on purpose, and what people read of them: `docs/errors.md`, whose rows are the test's data.

mod network;
mod offline;

use std::collections::BTreeSet;

use grantflow::{Advice, Error, ErrorKind};

/// A mistake by its name, and the error that it leads to.
struct Mistake {
    name: &'static str,
    error: Error,
}

fn mistake(name: &'static str, error: Error) -> Mistake {
    Mistake { name, error }
}

fn mistakes() -> Vec<Mistake> {
    let mut all = offline::files();
    all.extend(offline::addresses());
    all.extend(offline::answers());
    all.extend(offline::grants());
    all.extend(network::all());
    all
}

/// A row of the page: the kind, and the words between backticks, of which `…` stands for anything.
struct Row {
    kind: String,
    words: String,
}

fn rows() -> Vec<Row> {
    let page = include_str!("../../../docs/errors.md");
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `"));
    cells
        .filter_map(|line| {
            // The table of advice has no kinds.
            let (words, rest) = line.split_once("` | `")?;
            let kind = rest.split_once("` | ").expect("a kind and what to do").0;
            Some(Row { kind: kind.to_owned(), words: words.to_owned() })
        })
        .collect()
}

impl Row {
    fn fits(&self, error: &Error) -> bool {
        let text = error.to_string();
        let mut rest = text.as_str();
        self.kind == format!("{:?}", error.kind())
            && self.words.split('…').all(|part| match rest.split_once(part) {
                Some((_, after)) => {
                    rest = after;
                    true
                }
                None => false,
            })
    }
}

#[test]
fn every_row_of_the_page_is_what_a_mistake_leads_to_and_every_mistake_has_a_row() {
    let (rows, mistakes) = (rows(), mistakes());
    let mut wrong = String::new();
    for Mistake { name, error } in &mistakes {
        println!("{name}\n    {:?}: {error}\n", error.kind());
        if !rows.iter().any(|row| row.fits(error)) {
            wrong += &format!("no row for {name}: {:?}: {error}\n", error.kind());
        }
    }
    for row in &rows {
        if !mistakes.iter().any(|mistake| row.fits(&mistake.error)) {
            wrong += &format!("no mistake leads to the row {}: {}\n", row.kind, row.words);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(rows.len() >= 38 && mistakes.len() >= 38, "{} rows, {} mistakes", rows.len(), mistakes.len());
}

#[test]
fn every_kind_of_error_is_made_and_is_on_the_page() {
    let source = include_str!("../../../core/src/error/kind.rs");
    let (_, kinds) = source.split_once("pub enum ErrorKind {").unwrap();
    let kinds = kinds.split_once("\n}").unwrap().0.lines().filter_map(|line| line.trim().strip_suffix(','));
    let kinds: BTreeSet<_> = kinds.collect();
    let made: BTreeSet<_> = mistakes().iter().map(|mistake| format!("{:?}", mistake.error.kind())).collect();
    assert_eq!(kinds, made.iter().map(String::as_str).collect());
}

#[test]
fn a_message_says_everything_by_itself() {
    for Mistake { name, error } in mistakes() {
        let text = error.to_string();
        // No reason lies in the source alone.
        let mut source = std::error::Error::source(&error);
        while let Some(reason) = source {
            let own = reason.downcast_ref::<Error>();
            let words = own.map_or_else(|| reason.to_string(), |own| own.to_string());
            let words = words.split("; ").next().unwrap_or_default().split(" (http").next().unwrap_or_default();
            assert!(text.contains(words), "{name}: {words:?} is not in {text:?}");
            source = reason.source();
        }
        // A program that cancels knows what it wants.
        let says_what_to_do = error.advice().is_some() || error.kind() == ErrorKind::Cancelled;
        assert!(says_what_to_do, "{name}: it has no advice: {text}");
        assert!(error.advice() != Some(Advice::TryLater) || error.is_transient(), "{name}: {text}");
    }
}

#[test]
fn a_row_fits_by_its_words_in_their_order() {
    let error = Error::new(ErrorKind::Config, "one two three");
    for (kind, words, fits) in [("Config", "one…three", true), ("Config", "three…one", false), ("Store", "one", false)]
    {
        assert_eq!(Row { kind: kind.into(), words: words.into() }.fits(&error), fits, "{words}");
    }
}
