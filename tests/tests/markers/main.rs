//! Secrets in wrong places: every public function that takes a text gets the text of a key, a token, an address with a
//! password. None of it is in any `Debug`, error, event or page of what comes of it.

mod adapters;
mod core;
mod google;
mod jose;
mod kept;
mod resources;
mod scan;
mod verifiers;

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use grantflow::{Error, Event, Machine, Reply, Step};
use grantflow_tests::World;
use grantflow_tests::canary::{hidden, hidden_in_error};

/// Stands in every text that is given.
const MARKER: &str = "c4n4ryM4rk3r";

/// What people paste where something else belongs.
fn contents() -> Vec<String> {
    let key = format!("-----BEGIN PRIVATE KEY-----\nMIIE{MARKER}{MARKER}\n-----END PRIVATE KEY-----\n");
    vec![
        serde_json::json!({"type": "service_account", "private_key": key, "client_email": MARKER}).to_string(),
        serde_json::json!({"installed": {"client_id": "x", "client_secret": MARKER}}).to_string(),
        key.clone(),
        key.replace('\n', " "),
        format!("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.{MARKER}"),
        format!("ya29.a0{MARKER}"),
        format!("1//0{MARKER}"),
        format!("GOCSPX-{MARKER}"),
        format!("Bearer ya29.{MARKER}"),
        format!("ghp_{MARKER}"),
        format!("Rk9{MARKER}Zq7xW2{MARKER}Lp4k8Jd0sVb1"),
        format!("https://user:{MARKER}@as.example/?key={MARKER}#{MARKER}"),
        format!("http://{MARKER}:{MARKER}@127.0.0.1:3128"),
        format!("redis://:{MARKER}@redis.example:6379/0"),
    ]
}

/// One function or several, and what is done with them. The names are those of [`scan`].
struct Entry {
    names: &'static [&'static str],
    try_it: fn(&str, &mut Seen),
}

/// All that was shown.
#[derive(Default)]
struct Seen(Vec<(String, String)>);

impl Seen {
    fn debug(&mut self, what: &str, value: &dyn Debug) {
        self.0.push((what.to_owned(), format!("{value:?}\n{value:#?}")));
    }

    fn text(&mut self, what: &str, text: impl std::fmt::Display) {
        self.0.push((what.to_owned(), text.to_string()));
    }

    /// An error is looked at in all of its chain.
    fn error(&mut self, error: &Error) {
        hidden_in_error(error, &[MARKER]);
        self.text("an error", error);
    }

    fn result<T: Debug>(&mut self, what: &str, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => {
                self.debug(what, &value);
                Some(value)
            }
            Err(error) => {
                self.error(&error);
                None
            }
        }
    }

    /// Runs a machine, and looks at each effect and reply as those do who watch it.
    fn run<M: Machine>(&mut self, world: &mut World, mut machine: M) -> Option<M::Output> {
        let mut reply = Reply::Start;
        for _ in 0..1000 {
            match machine.resume(&mut world.cx(), reply) {
                Step::Done(result) => return result.map_err(|error| self.error(&error)).ok(),
                Step::Do(effect) => {
                    self.debug("an effect", &Event::Effect(&effect));
                    reply = world.carry_out(effect);
                    self.debug("a reply", &Event::Reply(&reply));
                }
            }
        }
        panic!("the machine does not end");
    }
}

fn entries() -> impl Iterator<Item = Entry> {
    let own = core::entries().into_iter().chain(google::entries()).chain(jose::entries()).chain(kept::entries());
    own.chain(verifiers::entries()).chain(resources::entries()).chain(adapters::entries())
}

#[test]
fn a_secret_in_the_wrong_place_is_shown_nowhere() {
    let mut wrong = Vec::new();
    for entry in entries() {
        for content in contents() {
            let mut seen = Seen::default();
            let tried = catch_unwind(AssertUnwindSafe(|| {
                (entry.try_it)(&content, &mut seen);
                assert!(!seen.0.is_empty(), "nothing was looked at");
                seen.0.iter().for_each(|(what, text)| hidden(what, text, &[MARKER]));
            }));
            if let Err(panic) = tried {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                let names = entry.names.first().unwrap_or(&"");
                wrong.push(format!("{names} given {content:.40?}: {text:.500}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} leaks:\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn every_public_function_that_takes_a_text_is_tried() {
    let listed: Vec<_> =
        entries().flat_map(|entry| entry.names).copied().chain(scan::ELSEWHERE.iter().map(|it| it.0)).collect();
    let (found, all) = (scan::public_functions(), scan::all_functions());
    assert!(found.len() > 150, "{}", found.len());
    let missing: Vec<_> = found.iter().filter(|name| !listed.contains(&name.as_str())).collect();
    let gone: Vec<_> = listed.iter().filter(|name| !all.contains(**name)).collect();
    assert!(missing.is_empty(), "give these a secret in `markers`: {missing:#?}");
    assert!(gone.is_empty(), "these are no public functions that take a text: {gone:#?}");
}
