//! Imports run one way inside the crates too: no file knows, by way of others, a file that knows it.
//!
//! What counts is a `use` line or a path in the code that begins with `crate`, `super` or `self`. A name that a `mod.rs`
//! re-exports leads to the file that it comes from, and the re-export itself is no knowledge of it. Tests may know all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A module by its path, as in `["store", "refresh"]`; the root is empty.
type Module = Vec<String>;
/// Which names a module re-exports, and where they come from.
type Exports = BTreeMap<Module, BTreeMap<String, Vec<String>>>;
type Graph = BTreeMap<String, BTreeSet<String>>;

/// What is left of circles, each with its reason: this file of this crate may know that one.
const EXCEPTIONS: &[(&str, &str, &str, &str)] = &[
    ("core", "client", "client/assertion", "a way to authenticate holds the key of its assertions"),
    ("core", "exchange/request", "exchange/prepare", "a request holds the makers of its parts, which see the request"),
    ("core", "server", "server/endpoints", "metadata holds its endpoints, which are read as all of its members are"),
    (
        "core",
        "source/state",
        "source/change",
        "a state takes changes over by their lineage, and a change holds a state",
    ),
    ("core", "source/state", "source/link", "the state of a chain holds its base, which has a state of its own"),
    ("core", "store/refresh", "store/shared", "a refresh works on what the shared grant is made of, and is made by it"),
];

#[test]
fn no_file_knows_one_that_knows_it() {
    let mut unused: Vec<_> = EXCEPTIONS.iter().collect();
    let mut circles = String::new();
    for package in ["core", "store", "transport-ureq", "transport-reqwest"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(package).join("src");
        let mut graph = graph(&sources(&root));
        assert!(graph.len() > 5, "{package}: {graph:?}");
        for (_, from, to, _) in EXCEPTIONS.iter().filter(|exception| exception.0 == package) {
            if graph.get_mut(*from).is_some_and(|known| known.remove(*to)) {
                unused.retain(|it| (it.0, it.1, it.2) != (package, *from, *to));
            }
        }
        if let Some(circle) = circle(&graph) {
            circles += &format!("{package}: {}\n", circle.join(" -> "));
        }
    }
    assert!(circles.is_empty(), "imports run in a circle\n{circles}");
    assert!(unused.is_empty(), "exceptions that are not needed any more: {unused:?}");
}

/// The files of a crate without their tests and comments, by their modules.
fn sources(root: &Path) -> BTreeMap<Module, String> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let module = path.strip_prefix(root).unwrap().with_extension("");
            let mut module: Module = module.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            match module.last().map(String::as_str) {
                Some("mod" | "lib") => drop(module.pop()),
                Some("tests") => continue,
                _ => {}
            }
            found.insert(module, code(&std::fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// A file without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn graph(files: &BTreeMap<Module, String>) -> Graph {
    let mut exports = Exports::new();
    for (module, text) in files {
        let names = exports.entry(module.clone()).or_default();
        for (public, path) in uses(text) {
            if let Some(path) = absolute(&path, module, files).filter(|_| public) {
                names.insert(path.last().cloned().unwrap_or_default(), path);
            }
        }
    }
    let mut graph = Graph::new();
    for (module, text) in files.iter().filter(|(module, _)| !module.is_empty()) {
        let used = uses(text).into_iter().filter(|(public, _)| !public).map(|(_, path)| path);
        let known = graph.entry(module.join("/")).or_default();
        for path in used.chain(inline(text)) {
            let path = absolute(&path, module, files);
            let to = path.and_then(|path| home(&path, files, &exports, 0)).filter(|to| !to.is_empty() && to != module);
            known.extend(to.map(|to| to.join("/")));
        }
    }
    graph
}

/// All paths of the `use` lines, one for each name, and whether they are re-exports.
fn uses(text: &str) -> Vec<(bool, Vec<String>)> {
    let mut found = Vec::new();
    for statement in text.split(';') {
        let Some((before, path)) = statement.rsplit_once("use ") else { continue };
        let before = before.rsplit('\n').next().unwrap_or_default().trim();
        if before.is_empty() || before.starts_with("pub") {
            expand(&path.split_whitespace().collect::<Vec<_>>().join(" "), &[], &mut |path| {
                found.push((!before.is_empty(), path));
            });
        }
    }
    found
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`.
fn expand(path: &str, before: &[String], found: &mut impl FnMut(Vec<String>)) {
    let (head, group) = match path.split_once('{') {
        Some((head, group)) => (head, group.strip_suffix('}').map(str::trim)),
        None => (path.split(" as ").next().unwrap_or_default(), None),
    };
    let own = head.split("::").map(str::trim).filter(|part| !part.is_empty() && (*part != "self" || before.is_empty()));
    let path: Vec<_> = before.iter().cloned().chain(own.map(str::to_owned)).collect();
    let Some(group) = group else { return found(path) };
    let (mut depth, mut begin) = (0, 0);
    for (at, character) in group.char_indices().chain([(group.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let one = group[begin..at].trim();
                if !one.is_empty() {
                    expand(one, &path, found);
                }
                begin = (at + 1).min(group.len());
            }
            _ => {}
        }
    }
}

/// The paths that stand in the code itself.
fn inline(text: &str) -> Vec<Vec<String>> {
    let is_path = |character: char| character.is_alphanumeric() || matches!(character, '_' | ':');
    let words = text.split(|character| !is_path(character)).map(|word| word.trim_end_matches(':'));
    let paths = words.filter(|word| ["crate::", "super::", "self::"].iter().any(|begin| word.starts_with(begin)));
    paths.map(|path| path.split("::").map(str::to_owned).collect()).collect()
}

/// A path from the crate's root; `None` if it leads out of the crate.
fn absolute(path: &[String], module: &Module, files: &BTreeMap<Module, String>) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    let child = [module.as_slice(), std::slice::from_ref(first)].concat();
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([module, rest].concat()),
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            Some([&module[..module.len().checked_sub(ups)?], &path[ups..]].concat())
        }
        _ if files.contains_key(&child) => Some([module, path].concat()),
        _ => None,
    }
}

/// The file that has what this path leads to.
fn home(path: &[String], files: &BTreeMap<Module, String>, exports: &Exports, depth: usize) -> Option<Module> {
    let end = (0..=path.len()).rev().find(|end| files.contains_key(&path[..*end]))?;
    let (module, rest) = path.split_at(end);
    match rest.first().and_then(|name| exports.get(module)?.get(name)) {
        Some(from) if depth < 8 => home(&[from, &rest[1..]].concat(), files, exports, depth + 1),
        _ => Some(module.to_vec()),
    }
}

/// A shortest circle, if there is one.
fn circle(graph: &Graph) -> Option<Vec<String>> {
    let circles = graph.keys().filter_map(|start| {
        let mut ways = vec![vec![start.clone()]];
        let mut seen = BTreeSet::new();
        while !ways.is_empty() {
            let mut longer = Vec::new();
            for way in ways {
                for next in graph.get(way.last()?).into_iter().flatten() {
                    let way = [&way[..], std::slice::from_ref(next)].concat();
                    if next == start {
                        return Some(way);
                    }
                    if seen.insert(next) {
                        longer.push(way);
                    }
                }
            }
            ways = longer;
        }
        None
    });
    circles.min_by_key(Vec::len)
}

#[test]
fn a_circle_is_found_and_named() {
    let crate_of = |files: &[(&str, &str)]| {
        let module = |name: &str| name.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        graph(&files.iter().map(|(name, text)| (module(name), code(text))).collect())
    };
    let one_way = crate_of(&[
        ("", "mod a; mod b;\npub use a::A;\npub use b::{B, inner::C};"),
        ("a", "// use crate::b::B;\npub struct A;\n#[cfg(test)]\nmod tests { use crate::B; }"),
        ("b", "mod inner;\npub use inner::C;\nuse crate::A;\npub struct B(A);"),
        ("b/inner", "pub struct C(crate::a::A);"),
    ]);
    assert_eq!(circle(&one_way), None, "{one_way:?}");
    for (a, names) in [
        ("use crate::B;", "a -> b -> a"),
        ("use std::fmt;\nuse crate::{x::Y, b::{self, C}};", "a -> b -> a"),
        ("fn f(_: &super::b::B) {}", "a -> b -> a"),
        ("use crate::C;", "a -> b/inner -> a"),
    ] {
        let files = [
            ("", "mod a; mod b;\npub use a::A;\npub use b::{B, C};"),
            ("a", a),
            ("b", "mod inner;\npub use inner::C;\nuse crate::A;\npub struct B(A);"),
            ("b/inner", "pub struct C(crate::a::A);"),
        ];
        let circle = circle(&crate_of(&files)).unwrap_or_else(|| panic!("{a}"));
        assert_eq!(circle.join(" -> "), names, "{a}");
    }
}
