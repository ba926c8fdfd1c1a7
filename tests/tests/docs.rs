//! The pages that people read first: what they tell to put into `Cargo.toml` is there, recipes stay short, and a noun
//! stands where a riddle would.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(&path)).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// The blocks of this language in a page.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("```{language}\n");
    page.split(&*begin).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// What stands between quotes behind `name = `.
fn version<'a>(toml: &'a str, name: &str) -> &'a str {
    let (_, rest) = toml.split_once(&format!("\n{name} = ")).unwrap_or_else(|| panic!("no {name}"));
    rest.split('"').nth(1).unwrap()
}

/// The names of the features of a package.
fn features(package: &str) -> Vec<String> {
    let folder = package.replace("grantflow-ureq", "transport-ureq").replace("grantflow-reqwest", "transport-reqwest");
    let toml =
        read(Path::new(&folder.replace("grantflow-store", "store").replace("grantflow", "core")).join("Cargo.toml"));
    let (_, features) = toml.split_once("[features]\n").unwrap();
    let lines = features.split("\n[").next().unwrap().lines();
    lines.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn an_example_does_what_the_page_of_extensions_shows() {
    let page = read("docs/extensions.md");
    let mut tried = 0;
    for section in page.split("\n## ") {
        let Some((_, rest)) = section.split_once("The example [`") else { continue };
        let example = read(format!("transport-ureq/examples/{}.rs", rest.split('`').next().unwrap()));
        let shown = blocks(section, "rust,no_run")[0].lines().filter(|line| !line.starts_with("# "));
        for call in shown.flat_map(|line| line.split('(')) {
            let name = call.rsplit(|it: char| !it.is_alphanumeric() && !matches!(it, '_' | ':')).next().unwrap();
            // The examples keep nothing on the disk, and have their keys from nowhere.
            let name = name.trim_start_matches("http::");
            if name.contains("::") && !matches!(name, "FileStore::new" | "std::fs::read_to_string") {
                assert!(example.contains(name), "{name} is shown, and not done in the example");
                tried += 1;
            }
        }
    }
    assert!(tried >= 8, "{tried}");
}

#[test]
fn what_recipes_tell_to_put_into_cargo_toml_is_there() {
    let workspace = read("Cargo.toml");
    let page = read("docs/getting-started.md");
    let blocks = blocks(&page, "toml");
    assert_eq!(blocks.len(), 5);
    for block in blocks {
        let (first, rest) = block.split_once('\n').unwrap();
        assert_eq!(first, "[dependencies]");
        for line in rest.lines() {
            let (name, told) = line.split_once(" = ").unwrap();
            if name.starts_with("grantflow") {
                let release = version(&workspace, "version").rsplit_once('.').unwrap().0;
                assert_eq!(told.split('"').nth(1), Some(release), "{line}");
                let list = told.split_once('[').map_or("", |(_, list)| list);
                for feature in list.split('"').skip(1).step_by(2) {
                    assert!(features(name).iter().any(|known| known == feature), "{line}");
                }
            } else {
                // The major version that the lock file has.
                let lock = read("Cargo.lock");
                let of_name = lock.split("[[package]]").filter(|it| it.contains(&format!("\nname = \"{name}\"\n")));
                let told = told.split('"').nth(1).unwrap();
                let mut versions = of_name.map(|package| version(package, "version"));
                assert!(versions.any(|it| it.starts_with(&format!("{told}."))), "{line}");
            }
        }
    }
}

#[test]
fn recipes_are_short_and_need_no_crate_of_the_tests() {
    let page = read("docs/getting-started.md");
    let recipes = blocks(&page, "rust,no_run");
    assert_eq!(recipes.len(), 5);
    for recipe in recipes {
        assert!(recipe.lines().count() < 60 && !recipe.contains("grantflow_tests"), "{recipe}");
    }
}

/// Words in whose place a noun, or a plainer verb, belongs.
const RIDDLES: [&str; 16] = [
    "whoever",
    "somebody",
    "someone",
    "anybody",
    "what came",
    "what comes of",
    "is had",
    "be had",
    "are had",
    "was had",
    "for ever",
    "far away",
    "unless told",
    "how it stands",
    "how things are",
    "letter by letter",
];

/// Whether one of them stands in a text; `for everything` is none.
fn is_riddle(text: &str) -> bool {
    let text = text.to_lowercase();
    let ends = |at: usize| !text[at..].starts_with(|c: char| c.is_ascii_alphabetic());
    RIDDLES.iter().any(|riddle| text.match_indices(riddle).any(|(at, _)| ends(at + riddle.len())))
}

#[test]
fn pages_name_who_and_what_is_meant() {
    let mut pages = vec![
        "README.md".into(),
        "ARCHITECTURE.md".into(),
        "SECURITY.md".into(),
        "CONTRIBUTING.md".into(),
        "RELEASING.md".into(),
    ];
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(docs.filter(|path| path.extension().is_some_and(|end| end == "md")));
    for path in pages {
        // What errors say is quoted as it is.
        let page = read(&path);
        let lines: Vec<_> = page.lines().filter(|line| !line.starts_with("| `")).collect();
        // Two words of one may stand in two lines.
        for pair in lines.windows(2) {
            assert!(!is_riddle(&pair.join(" ")), "{}: {pair:?}", path.display());
        }
    }
}

#[test]
fn the_documentation_of_items_names_who_and_what_is_meant() {
    let mut found = Vec::new();
    for package in ["core", "store", "transport-ureq", "transport-reqwest"] {
        let mut folders = vec![root().join(package).join("src")];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = read(&path);
                let docs =
                    text.lines().map(str::trim_start).filter(|line| line.starts_with("//!") || line.starts_with("///"));
                found.extend(docs.filter(|line| is_riddle(line)).map(|line| format!("{}: {line}", path.display())));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// The targets of the links in a page, but for those within it.
fn links(page: &str) -> impl Iterator<Item = &str> {
    let inline = page.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    let below = page.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ").map(|(_, target)| target));
    inline.chain(below).filter(|target| !target.starts_with('#') && !target.starts_with("https://"))
}

/// How a page's heading is linked to.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages: Vec<_> = fs::read_dir(root()).unwrap().chain(fs::read_dir(root().join("docs")).unwrap()).collect();
    pages.retain(|page| page.as_ref().is_ok_and(|page| page.path().extension().is_some_and(|end| end == "md")));
    let mut count = 0;
    for path in pages.into_iter().map(|page| page.unwrap().path()) {
        let page = read(&path);
        for link in links(&page) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = path.parent().unwrap().join(file);
            assert!(target.exists(), "{}: {link}", path.display());
            if !heading.is_empty() {
                let there = read(target);
                let mut headings = there.lines().filter(|line| line.starts_with('#'));
                assert!(
                    headings.any(|line| anchor(line.trim_start_matches('#')) == heading),
                    "{}: {link}",
                    path.display()
                );
            }
            count += 1;
        }
    }
    assert!(count > 15, "{count}");
}

/// What stands between fences of code, and what does not.
fn fenced(lines: impl Iterator<Item = String>) -> String {
    let (mut code, mut on) = (String::new(), false);
    for line in lines {
        if line.trim_start().starts_with("```") {
            on = !on;
        } else if on {
            code += &line;
            code.push('\n');
        }
    }
    code
}

/// All files below a folder that end so.
fn files(folder: PathBuf, end: &str) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![folder], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|known| known == end) => found.push(path),
                false => {}
            }
        }
    }
    found
}

/// All that is public in the crates, but for tests: a text for each file.
fn public_texts() -> Vec<String> {
    let mut texts = Vec::new();
    for package in ["core", "store", "transport-ureq", "transport-reqwest"] {
        let sources =
            files(root().join(package).join("src"), "rs").into_iter().filter(|path| !path.ends_with("tests.rs"));
        texts.extend(sources.map(|path| read(path).split("#[cfg(test)]\nmod tests").next().unwrap().to_owned()));
    }
    texts
}

/// The code of all examples: of items, of pages, and whole programs.
fn examples() -> String {
    let mut examples = String::new();
    for package in ["core", "store", "transport-ureq", "transport-reqwest"] {
        for path in files(root().join(package).join("src"), "rs") {
            let text = read(path);
            let docs = text.lines().map(str::trim_start);
            let docs = docs.filter_map(|line| line.strip_prefix("///").or_else(|| line.strip_prefix("//!")));
            examples += &fenced(docs.map(str::to_owned));
        }
        let folder = root().join(package).join("examples");
        let programs = if folder.exists() { files(folder, "rs") } else { Vec::new() };
        programs.into_iter().for_each(|path| examples += &read(path));
    }
    for page in files(root().join("docs"), "md").into_iter().chain([root().join("README.md")]) {
        examples += &fenced(read(page).lines().map(str::to_owned));
    }
    examples
}

/// What a section of CONTRIBUTING.md lists as without an example is there and has none, and all else has one.
fn are_listed(section: &str, mut items: Vec<String>, has_example: impl Fn(&str) -> bool) {
    let page = read("CONTRIBUTING.md");
    let (_, list) = page.split_once(&format!("## {section}\n")).unwrap();
    let rows = list.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| "));
    let listed: Vec<_> = rows.flat_map(|row| row.rsplit(" | ").next().unwrap().split('`').skip(1).step_by(2)).collect();
    for name in &listed {
        assert!(items.iter().any(|known| known == name), "{section}: there is no {name}");
        assert!(!has_example(name), "{section}: {name} is in an example by now, and need not be listed");
    }
    assert!(items.len() > 100, "{section}: {}", items.len());
    items.retain(|name| !has_example(name) && !listed.contains(&name.as_str()));
    assert!(items.is_empty(), "{section}: give them an example, or a reason in CONTRIBUTING.md: {items:#?}");
}

#[test]
fn public_types_without_an_example_are_listed_with_a_reason() {
    let mut types = Vec::new();
    for text in public_texts() {
        let named = text.lines().filter_map(|line| {
            let line = line.strip_prefix("pub ")?;
            let kinds = ["struct ", "enum ", "trait "];
            kinds.iter().find_map(|kind| line.strip_prefix(kind))
        });
        types.extend(named.map(|rest| word(rest).to_owned()));
    }
    let examples = examples();
    let shown: Vec<_> = examples.split(|c: char| !c.is_alphanumeric()).collect();
    are_listed("Types without an example", types, |name| shown.contains(&name));
}

/// The name at the beginning of a text.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// A text without the generics that it begins with.
fn without_generics(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if !text[..at].ends_with('-') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return text[at..].trim_start_matches('>').trim_start();
        }
    }
    text
}

/// What begins a flow or makes a value: functions of no type, and those of a type that yield one of it.
fn constructors(text: &str) -> Vec<String> {
    let (mut found, mut of, mut at) = (Vec::new(), "", 0);
    for line in text.split_inclusive('\n') {
        if let Some(rest) = line.strip_prefix("impl") {
            of = word(without_generics(rest.trim_start()));
        }
        let trimmed = line.trim_start();
        let free = trimmed.len() == line.len();
        let public =
            trimmed.strip_prefix("pub ").map(|rest| rest.trim_start_matches("const ").trim_start_matches("async "));
        if let Some(name) = public.and_then(|rest| rest.strip_prefix("fn ")).map(word) {
            let signature = text[at..].split(" {\n").next().unwrap();
            let (_, rest) = signature.split_once(&format!("fn {name}")).unwrap();
            let (_, parameters) = without_generics(rest).split_once('(').unwrap();
            let method = parameters.split([',', ')']).next().unwrap().trim().ends_with("self");
            let yields = signature.rsplit(" -> ").next().unwrap();
            match free {
                true => found.push(name.to_owned()),
                // The impl of a macro names no type.
                false if !method && !of.is_empty() && yields.contains("Self") => found.push(format!("{of}::{name}")),
                false => {}
            }
        }
        at += line.len();
    }
    found
}

#[test]
fn constructors_and_free_functions_are_found_by_their_signatures() {
    let text = "impl<T: Into<U>> Thing<T> {\n    pub fn new<F: Fn(&T) -> U>(\n        make: F,\n    ) -> Self {\n    }\n    \
                pub fn get(&'a self) -> &Self {\n    }\n    pub async fn of(at: u8) -> Result<Self, Error> {\n    }\n    \
                pub fn count(at: u8) -> u8 {\n    }\n}\npub fn alone(at: u8) -> u8 {\n}\n";
    assert_eq!(constructors(text), ["Thing::new", "Thing::of", "alone"]);
}

#[test]
fn functions_that_begin_something_and_have_no_example_are_listed_with_a_reason() {
    let mut functions: Vec<_> = public_texts().iter().flat_map(|text| constructors(text)).collect();
    functions.sort();
    functions.dedup();
    let examples = examples();
    let has_example = |name: &str| {
        let called = format!("{name}(");
        // As a path too, as in `map(Thing::new)`.
        let calls = examples.match_indices(name).filter(|(at, _)| {
            let ends = |text: &str| text.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.'));
            let goes_on = examples[at + name.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
            !ends(&examples[..*at]) && !goes_on
        });
        calls.into_iter().any(|(at, _)| name.contains("::") || examples[at..].starts_with(&called))
    };
    are_listed("Functions without an example", functions, has_example);
}
