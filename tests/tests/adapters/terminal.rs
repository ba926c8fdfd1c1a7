//! What a person pastes into a terminal: a real one, which the program `script` of util-linux makes.

use std::process::{Child, Command, Stdio};

use super::*;

/// What the other process is given: the issuer that it signs in at.
const GIVEN: &str = "GRANTFLOW_TEST_GIVEN";

/// In the other process, what it was given.
pub(super) fn given() -> Option<String> {
    std::env::var(GIVEN).ok()
}

/// In the other process: signs in at a terminal, and says what came of it.
fn sign_in_there<A: Adapter>() -> bool {
    let Some(issuer) = given() else { return false };
    let adapter = A::new();
    let server = adapter.run(Discovery::new(&Issuer::new(issuer).unwrap())).unwrap();
    let app = InstalledApp::new(&server, &client()).scopes("read").open_browser(false).paste(true);
    let app = app.timeout(Duration::from_secs(20)).show(|url| eprintln!("URL {url} END"));
    match adapter.sign_in(&app) {
        Ok(_) => eprintln!("SIGNED IN"),
        Err(error) => eprintln!("FAILED: {error}"),
    }
    true
}

/// Another process that has a terminal, and what it shows there.
pub(super) struct There {
    script: Child,
    shown: Arc<Mutex<String>>,
}

impl There {
    /// Runs a test of this adapter at a terminal that `stty` has set up in this way.
    pub(super) fn start<A: Adapter>(name: &str, given: &str, stty: &str) -> Self {
        let test = std::env::current_exe().unwrap();
        let command = format!("stty {stty}; exec '{}' --exact {}::{name} --nocapture", test.display(), A::NAME);
        let mut script = Command::new("script");
        script.args(["--quiet", "--command", &command, "/dev/null"]).env(GIVEN, given).env("SHELL", "/bin/sh");
        let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("util-linux's script");
        let (shown, mut output) = (Arc::new(Mutex::new(String::new())), script.stdout.take().unwrap());
        let notes = shown.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                notes.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Self { script, shown }
    }

    /// Waits until this is shown, and gives all that was shown.
    pub(super) fn wait_for(&self, words: &str) -> String {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let shown = self.shown.lock().unwrap().clone();
            if shown.contains(words) {
                return shown;
            }
            assert!(Instant::now() < end, "{words}: {shown}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(super) fn paste(&mut self, line: &str) {
        let input = self.script.stdin.as_mut().unwrap();
        input.write_all(line.as_bytes()).and_then(|()| input.write_all(b"\n")).and_then(|()| input.flush()).unwrap();
    }
}

impl Drop for There {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// The address to open.
pub(super) fn address(shown: &str) -> String {
    let (url, _) = shown.split_once("URL ").unwrap().1.split_once(" END").unwrap();
    url.to_owned()
}

pub(crate) fn a_line_that_the_terminal_cuts_is_named_and_the_next_one_is_read<A: Adapter>() {
    if sign_in_there::<A>() || !cfg!(target_os = "linux") {
        return;
    }
    let front = Front::start(Server::demo()).unwrap();
    let name = "a_line_that_the_terminal_cuts_is_named_and_the_next_one_is_read";
    let mut there = There::start::<A>(name, &front.issuer(), "-echo");
    let url = address(&there.wait_for("Paste that address here:"));
    let long = format!("{}?code={}&state={}", value(&url, "redirect_uri"), "c".repeat(5000), value(&url, "state"));
    there.paste(&long);
    let shown = there.wait_for("Of what was pasted only the first");
    for words in ["this terminal cuts longer lines", "stty -icanon"] {
        assert!(shown.contains(words), "{shown}");
    }
    assert!(front.server().seen_at(Place::Token).is_empty());
    there.paste("code=only");
    there.wait_for("it has no state. Paste the whole address:");
    there.paste(&person::answer(&url).unwrap());
    there.wait_for("SIGNED IN");
}

pub(crate) fn a_line_of_any_length_is_read_where_the_terminal_cuts_none<A: Adapter>() {
    if sign_in_there::<A>() || !cfg!(target_os = "linux") {
        return;
    }
    let front = Front::start(Server::demo()).unwrap();
    let name = "a_line_of_any_length_is_read_where_the_terminal_cuts_none";
    // What a person is told to enter.
    let mut there = There::start::<A>(name, &front.issuer(), "-icanon");
    let url = address(&there.wait_for("Paste that address here:"));
    let (code, iss) = ("c".repeat(9000), value(&person::answer(&url).unwrap(), "iss"));
    let state = value(&url, "state");
    there.paste(&format!("{}?code={code}&state={state}&iss={iss}", value(&url, "redirect_uri")));
    there.wait_for("FAILED: redeeming the authorization code: the server answered with an error: invalid_grant");
    assert_eq!(front.server().seen_at(Place::Token)[0].param("code").as_deref(), Some(&*code));
}
