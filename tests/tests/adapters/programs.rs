//! Programs: what both adapters do with `Effect::Exec`. The programs are scripts for `/bin/sh`; without one, nothing is
//! tested here.

use std::path::Path;

use grantflow::machine::{Exited, FailureKind, Program};
use grantflow::source::{ProgramToken, TokenSource, Want};
use grantflow::{Effect, Failure, Reply, Step};

use super::*;

/// A machine that runs one program.
struct Run(Option<Program>);

impl Machine for Run {
    type Output = Result<Exited, Failure>;

    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<Self::Output> {
        match (self.0.take(), reply) {
            (Some(program), Reply::Start) => Step::Do(Effect::Exec(program)),
            (None, Reply::Exec(exited)) => Step::Done(Ok(Ok(exited))),
            (None, Reply::Failed(failure)) => Step::Done(Ok(Err(failure))),
            (_, reply) => Step::Done(Err(Error::new(ErrorKind::Unsupported, format!("{reply:?}")))),
        }
    }
}

fn sh(script: &str) -> Option<Program> {
    let there = Path::new("/bin/sh").exists();
    if !there {
        eprintln!("skipped: there is no /bin/sh");
    }
    there.then(|| Program::new("/bin/sh").args(["-c", script]).timeout(Duration::from_secs(20)))
}

fn run<A: Adapter>(program: Program) -> Result<Exited, Failure> {
    A::with_programs().run(Run(Some(program))).unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

pub(super) fn a_program_is_run_without_a_shell_and_what_it_prints_and_how_it_ends_is_told<A: Adapter>() {
    let Some(program) = sh(r#"printf '%s|%s|%s' "$1" "$ADDED" "${PATH:+inherited}"; echo oops >&2; cat; exit 7"#)
    else {
        return;
    };
    let exited = run::<A>(program.args(["sh", "$HOME * ; 'x'"]).env("ADDED", "a b")).unwrap();
    assert_eq!(exited.code(), Some(7));
    assert_eq!(text(exited.stdout()), "$HOME * ; 'x'|a b|inherited");
    assert_eq!(text(exited.stderr()), "oops\n");
}

pub(super) fn programs_are_refused_unless_they_are_allowed<A: Adapter>() {
    let Some(program) = sh("echo token") else { return };
    let source = ProgramToken::new(program);
    let mint = || source.mint(&Want::default(), &source.first_state());
    let error = A::new().run(mint()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("allow_programs()"), "{error}");
    assert_eq!(A::with_programs().run(mint()).unwrap().access_token(), "token");
}

pub(super) fn a_program_that_is_not_there_cannot_be_run<A: Adapter>() {
    let failure = run::<A>(Program::new("/no/such/grantflow-program")).unwrap_err();
    assert_eq!((failure.kind(), failure.may_have_been_sent()), (FailureKind::Program, false));
}

pub(super) fn a_program_is_killed_at_its_time_with_those_that_it_has_started<A: Adapter>() {
    let place = std::env::temp_dir().join(format!("grantflow-{}-killed-{}", A::NAME, std::process::id()));
    let _ = std::fs::remove_file(&place);
    let Some(program) = sh(r#"(sleep 2; echo alive >"$1") & sleep 60"#) else { return };
    let start = Instant::now();
    let program = program.args(["sh", place.to_str().unwrap()]).timeout(Duration::from_millis(300));
    let failure = run::<A>(program).unwrap_err();
    assert_eq!((failure.kind(), failure.may_have_been_sent()), (FailureKind::Timeout, true));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!place.exists(), "a program that it started goes on");
}

pub(super) fn too_much_output_kills_a_program_while_it_prints<A: Adapter>() {
    let Some(program) = sh("while :; do echo 0123456789; done") else { return };
    let start = Instant::now();
    let failure = run::<A>(program.max_output(10_000)).unwrap_err();
    assert_eq!(failure.kind(), FailureKind::TooLarge);
    assert!(start.elapsed() < Duration::from_secs(10));
    // Of standard error the beginning is kept, and the rest keeps nothing waiting.
    let Some(program) = sh("i=0; while [ $i -lt 20000 ]; do echo 0123456789 >&2; i=$((i+1)); done; echo done") else {
        return;
    };
    let exited = run::<A>(program).unwrap();
    assert_eq!((text(exited.stdout()), exited.stderr().len()), ("done\n", Program::MAX_STDERR));
    let Some(program) = sh("printf 12345") else { return };
    assert_eq!(text(run::<A>(program.clone().max_output(5)).unwrap().stdout()), "12345");
    assert_eq!(run::<A>(program.max_output(4)).unwrap_err().kind(), FailureKind::TooLarge);
}

pub(super) fn those_that_keep_the_pipes_of_a_program_open_are_neither_waited_for_nor_killed<A: Adapter>() {
    let place = std::env::temp_dir().join(format!("grantflow-{}-open-{}", A::NAME, std::process::id()));
    let _ = std::fs::remove_file(&place);
    let Some(program) = sh(r#"(sleep 1; echo alive >"$1"; sleep 3) & echo token"#) else { return };
    let start = Instant::now();
    let exited = run::<A>(program.args(["sh", place.to_str().unwrap()])).unwrap();
    assert_eq!(text(exited.stdout()), "token\n");
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    std::thread::sleep(Duration::from_millis(1800));
    assert!(std::fs::remove_file(&place).is_ok(), "what it left behind was killed");
}

pub(super) fn no_event_shows_what_a_program_is_given_or_prints<A: Adapter>() {
    let Some(program) = sh(r#"echo '{"access_token":"c4n4ry-token","expires_in":3600}'; echo c4n4ry-err0r-c4n4ry >&2"#)
    else {
        return;
    };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let watched = seen.clone();
    let adapter = A::watched_with_programs(move |event| watched.lock().unwrap().push(event));
    let source = ProgramToken::new(program.env("KEY", "c4n4ry-key"));
    let token = adapter.run(source.mint(&Want::default(), &source.first_state())).unwrap();
    assert_eq!(token.access_token(), "c4n4ry-token");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2, "{seen:?}");
    for event in seen.iter() {
        hidden("an event", event, &["c4n4ry-token", "c4n4ry-key", "c4n4ry-err0r-c4n4ry"]);
    }
    assert!(seen[1].contains("exit code 0"), "{seen:?}");
}
