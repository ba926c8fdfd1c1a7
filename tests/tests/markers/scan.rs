//! Finds the public functions that take a text, by their sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What makes a parameter a text, or something that is made of one.
const TEXTS: [&str; 16] = [
    "&str",
    "&'static str",
    "String",
    "AsRef<",
    "Path",
    "[u8]",
    "Vec<u8>",
    "Secret",
    "Scopes",
    "Hosts",
    "Into<Arc<str>>",
    "Into<Box<str>>",
    "Cow<",
    "Value",
    "Uri",
    "HeaderMap",
];

/// Functions that are not given secrets here, and why.
pub(crate) const ELSEWHERE: &[(&str, &str)] = &[
    ("store KeyringStore::new", "needs the secret service of the system; `store/tests/markers.rs` has the other one"),
    ("store KeyringStore::with_entries", "store/tests/markers.rs"),
    ("store $store::new", "store/tests/markers.rs"),
    ("store $store::prefix", "store/tests/markers.rs"),
    ("store AsyncPostgresStore::new", "store/tests/markers.rs"),
    ("store AsyncPostgresStore::with_tls", "as new"),
    ("store AsyncPostgresStore::table", "store/tests/markers.rs"),
    ("store PostgresStore::new", "store/tests/markers.rs"),
    ("store PostgresStore::with_tls", "as new"),
    ("store PostgresStore::table", "store/tests/markers.rs"),
    ("core InstalledApp::google", "it takes a file that was read"),
    ("core Documents::settle", "its text is the body of an answer: leaks.rs"),
    ("core Base::From<S>", "it takes a source of tokens"),
    ("core Hosts::From<Vec<S>>", "tried beside `From<String>`"),
    ("core Scopes::From<Vec<S>>", "tried beside `From<String>`"),
    ("ureq Transport::forget", "as sign_out, whose label is tried"),
    ("reqwest Transport::forget", "as sign_out, whose label is tried"),
    ("core Call::new", "its text is a request: leaks.rs"),
    ("core Cx::random", "its text is part of the program"),
    ("core Claims::source", "its text is the name of a claim"),
    ("core Answer::get", "its text is the name of a parameter"),
    ("core Token::apply", "it writes into the headers"),
    ("reqwest AuthorizedClient::presenting", "as new, whose hosts are tried"),
    ("core InstalledApp::show", "it takes a function"),
    ("core ProtectedResource::app", "it takes a function"),
    ("core ProtectedResource::source", "it takes a function"),
    ("ureq ManagerBuilder::on_wait", "it takes a function"),
    ("reqwest ManagerBuilder::on_wait", "it takes a function"),
    ("core String::From<Issuer>", "it gives a text"),
    ("core String::From<Endpoint>", "it gives a text"),
    ("core String::From<Scopes>", "it gives a text"),
];

/// All of them, as in `core Client::new`; constructors by conversion as in `core Scopes::From<&str>`.
pub(crate) fn public_functions() -> BTreeSet<String> {
    scan(&|parameters| TEXTS.iter().any(|kind| parameters.contains(kind)))
}

/// All public functions, whatever they take.
pub(crate) fn all_functions() -> BTreeSet<String> {
    scan(&|_| true)
}

fn scan(is_text: &dyn Fn(&str) -> bool) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = BTreeSet::new();
    for (name, folder) in
        [("core", "core"), ("store", "store"), ("ureq", "transport-ureq"), ("reqwest", "transport-reqwest")]
    {
        files(&root.join(folder).join("src"), &mut |text| functions(name, text, is_text, &mut found));
    }
    found
}

fn files(folder: &Path, read: &mut impl FnMut(&str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, read);
        } else if path.file_name().unwrap() != "tests.rs" {
            let text = fs::read_to_string(&path).unwrap();
            read(text.split("#[cfg(test)]\nmod tests {").next().unwrap());
        }
    }
}

fn functions(package: &str, text: &str, is_text: &dyn Fn(&str) -> bool, found: &mut BTreeSet<String>) {
    let lines: Vec<_> = text.lines().collect();
    let mut of = String::new();
    for (at, line) in lines.iter().enumerate() {
        let line = line.trim_start();
        if let Some(header) = line.strip_prefix("impl") {
            let header = if header.starts_with('<') { after_generics(header) } else { header.trim() };
            let (trait_of, name) = header.split_once(" for ").map_or((None, header), |(of, name)| (Some(of), name));
            of = name.split(['<', '{', ' ']).next().unwrap_or_default().to_owned();
            if let Some(conversion) = trait_of.filter(|of| of.contains("From"))
                && (is_text(conversion) || conversion.contains("<S>"))
            {
                found.insert(format!("{package} {of}::{conversion}"));
            } else if let Some(conversion) = trait_of.filter(|of| of.starts_with("From<"))
                && of == "String"
            {
                found.insert(format!("{package} {of}::{conversion}"));
            }
            continue;
        }
        let Some(rest) = line.strip_prefix("pub ") else { continue };
        let Some(rest) = ["fn ", "async fn ", "const fn "].iter().find_map(|begin| rest.strip_prefix(begin)) else {
            continue;
        };
        let name = rest.split(['(', '<']).next().unwrap_or_default();
        let whole = lines[at..lines.len().min(at + 10)].iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        let signature = whole.split_once(name).unwrap().1.split(['{', ';']).next().unwrap_or_default();
        let parameters = parameters(signature);
        if is_text(&parameters) {
            found.insert(if of.is_empty() || !lines[at].starts_with(' ') {
                format!("{package} {name}")
            } else {
                format!("{package} {of}::{name}")
            });
        }
    }
}

fn after_generics(header: &str) -> &str {
    let mut depth = 0;
    for (at, c) in header.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return header[at + 1..].trim();
        }
    }
    header
}

/// What stands up to the end of the first parentheses, with the bounds of type parameters before them.
fn parameters(signature: &str) -> String {
    let mut depth = 0;
    let signature = signature.trim_end();
    let rest = if signature.starts_with('<') { after_generics(signature) } else { signature };
    let begin = signature.len() - rest.len();
    let begin = begin + signature[begin..].find('(').unwrap_or_default();
    for (at, c) in signature[begin..].char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let only_self =
                ["(self", "(&self", "(&mut self", "(mut self", "("].contains(&&signature[begin..begin + at]);
            return signature[if only_self { begin } else { 0 }..begin + at].to_owned();
        }
    }
    signature.to_owned()
}

#[test]
fn functions_are_found_by_their_parameters() {
    let mut found = BTreeSet::new();
    let text = "impl<T: A<B>> Thing<T> {\n    pub fn new(name: &str) -> Self {}\n    pub fn name(&self) -> &str {}\n    \
                pub async fn long(\n        &self,\n        path: impl AsRef<Path>,\n    ) -> Self {}\n    fn own(s: &str) {}\n}\n\
                impl From<&str> for Thing {\n}\npub fn free(text: String) {}\npub(crate) fn ours(text: String) {}\n\
                pub fn many<S: Into<String>>(texts: impl IntoIterator<Item = S>) {}\npub fn none<S: ToString>(&self) {}\n";
    functions("x", text, &|it| it.contains("str") || it.contains("String") || it.contains("Path"), &mut found);
    let found: Vec<_> = found.iter().map(String::as_str).collect();
    assert_eq!(found, ["x Thing::From<&str>", "x Thing::long", "x Thing::new", "x free", "x many"]);
}
