//! Which proxy requests go through, and what is said when that fails. The environment of a process cannot be changed
//! safely, so these tests run themselves in other ones.

use std::process::{Command, Output};

use grantflow_tests::canary::hidden;

use super::*;

/// The variables that count, in all their spellings.
const VARIABLES: [&str; 8] =
    ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"];
/// The endpoint that a test asks for a token in the other process.
const TARGET: &str = "GRANTFLOW_TEST_TARGET";

/// A server, or a proxy, that notes what it is sent and always answers with the same bytes.
pub(crate) struct Raw {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Raw {
    /// Leaves the connection open for a while after the answer, if told.
    pub(crate) fn saying(answer: impl Into<Vec<u8>>, stays_open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, answer) = (Arc::new(Mutex::new(Vec::new())), answer.into());
        let notes = heard.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (notes, answer) = (notes.clone(), answer.clone());
                std::thread::spawn(move || {
                    notes.lock().unwrap().push(request(&mut stream));
                    let _ = stream.write_all(&answer);
                    if stays_open {
                        std::thread::sleep(Duration::from_secs(20));
                    }
                });
            }
        });
        Self { address, heard }
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

/// A request with all of its body.
fn request(stream: &mut TcpStream) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase();
            let length = length.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return text,
            Ok(count) => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
        }
    }
}

/// A server whose token endpoint this is.
pub(crate) fn server_at(endpoint: &str) -> ServerMetadata {
    let (origin, _) = endpoint.rsplit_once('/').unwrap();
    ServerMetadata::new(Issuer::new(origin).unwrap()).token_endpoint(endpoint).unwrap()
}

/// Runs a test of this adapter in another process, where these variables are set.
fn elsewhere<A: Adapter>(name: &str, target: &str, variables: &[(&str, String)]) -> Output {
    let all: Vec<_> = variables.iter().cloned().chain([(TARGET, target.to_owned())]).collect();
    elsewhere_with(&format!("{}::{name}", A::NAME), &all)
}

/// Runs a test in another process, where these variables are set.
pub(crate) fn elsewhere_with(test: &str, variables: &[(&str, String)]) -> Output {
    let mut child = Command::new(std::env::current_exe().unwrap());
    for name in VARIABLES {
        child.env_remove(name);
    }
    child.envs(variables.iter().map(|(name, value)| (*name, value)));
    child.args(["--exact", test, "--nocapture", "--test-threads", "1"]).output().unwrap()
}

fn says(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// In the other process: asks for a token, and says what came of it.
fn ask<A: Adapter>() -> bool {
    let Ok(target) = std::env::var(TARGET) else { return false };
    match A::try_new() {
        Ok(adapter) => {
            let request = TokenRequest::client_credentials(&server_at(&target), &batch()).unwrap();
            let asked = adapter.run(request.exchange().total_time(Duration::from_millis(700)));
            println!("ASKED: {:?}", asked.map(drop));
        }
        Err(error) => println!("NOT MADE: {:?}: {error} {error:?}", error.kind()),
    }
    true
}

pub(crate) fn proxies_are_named_by_the_environment_as_curl_reads_it<A: Adapter>() {
    if ask::<A>() {
        return;
    }
    let name = "proxies_are_named_by_the_environment_as_curl_reads_it";
    let proxy = Raw::saying("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", false);
    let at = proxy.address;
    let (plain, url) = (at.to_string(), format!("http://user:canary@{at}/"));
    let host = "https://api.corp.invalid/token";
    for (variables, target, named) in [
        (vec![("HTTPS_PROXY", &*url)], host, Some("HTTPS_PROXY")),
        (vec![("https_proxy", &*plain), ("HTTPS_PROXY", "ftp://x")], host, Some("https_proxy")),
        (vec![("all_proxy", &*plain)], host, Some("all_proxy")),
        (vec![("ALL_PROXY", &*url), ("HTTPS_PROXY", "")], host, Some("ALL_PROXY")),
        (vec![("HTTP_PROXY", &*url), ("http_proxy", &*url)], host, None),
        (vec![("ALL_PROXY", &*url), ("NO_PROXY", "corp.invalid")], host, None),
        (vec![("ALL_PROXY", &*url), ("NO_PROXY", "localhost, .corp.invalid")], host, None),
        (vec![("ALL_PROXY", &*url), ("no_proxy", "*.corp.invalid")], host, None),
        (vec![("ALL_PROXY", &*url), ("NO_PROXY", "*")], host, None),
        (vec![("ALL_PROXY", &*url), ("NO_PROXY", "orp.invalid,api")], host, Some("ALL_PROXY")),
        (vec![("ALL_PROXY", &*url), ("NO_PROXY", "192.0.2.0/24")], "https://203.0.113.1/token", Some("ALL_PROXY")),
        (vec![("ALL_PROXY", &*url), ("NO_PROXY", "[2001:db8::]/32")], "https://[2001:db9::1]/token", Some("ALL_PROXY")),
        (vec![("ALL_PROXY", &*url)], "https://127.0.0.1:1/token", None),
    ] {
        let before = proxy.heard().len();
        let case = format!("{variables:?} for {target}").replace("canary", "PASSWORD");
        let variables: Vec<_> = variables.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        let text = says(&elsewhere::<A>(name, target, &variables));
        hidden(&case, &text, &["canary"]);
        let asked = &proxy.heard()[before..];
        let through = format!("through the proxy http://{at}, as {}", named.unwrap_or("x"));
        // One call, which is tried again.
        assert_eq!(!asked.is_empty(), named.is_some(), "{case}: {text}");
        assert_eq!(text.contains(&through), named.is_some(), "{case}: {text}");
        assert!(text.contains("ASKED: Err"), "{case}: {text}");
        let host = target.trim_start_matches("https://").trim_end_matches("/token");
        assert!(asked.iter().all(|asked| asked.starts_with(&format!("CONNECT {host}:443 "))), "{case}: {asked:?}");
    }
}

pub(crate) fn a_proxy_variable_that_cannot_be_used_is_an_error_and_nothing_goes_direct<A: Adapter>() {
    if ask::<A>() {
        return;
    }
    let name = "a_proxy_variable_that_cannot_be_used_is_an_error_and_nothing_goes_direct";
    let server = Raw::saying("HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n", false);
    let target = format!("http://{}/token", server.address);
    for (variable, value) in [
        ("HTTPS_PROXY", "ftp://user:canary@proxy.example:1"),
        ("ALL_PROXY", "http://user:canary@proxy.example:port"),
        ("https_proxy", "\"http://user:canary@proxy.example:3128\""),
        ("all_proxy", "canary proxy"),
    ] {
        let text = says(&elsewhere::<A>(name, &target, &[(variable, value.to_owned())]));
        assert!(text.contains("NOT MADE: Config") && text.contains(variable), "{text}");
        assert!(text.contains("such as http://proxy.example:3128"), "{text}");
        hidden(variable, &text, &["canary"]);
    }
    assert!(server.heard().is_empty());
}

pub(crate) fn a_failure_on_the_way_through_a_proxy_names_it_without_its_password<A: Adapter>() {
    let server = server_at("https://api.corp.invalid/token");
    let refusing = Raw::saying("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", false);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for at in [refusing.address, silent.local_addr().unwrap(), closed] {
        for scheme in ["http", "socks5h"] {
            let adapter = A::with_proxy(&format!("{scheme}://user:canary@{at}"));
            let request = TokenRequest::client_credentials(&server, &batch()).unwrap();
            let error = adapter.run(request.exchange().total_time(Duration::from_millis(300))).unwrap_err();
            assert!(error.to_string().contains(&format!("through the proxy {scheme}://{at}: ")), "{error}");
            assert!(!error.is_uncertain(), "the request itself was never written: {error}");
            hidden_in_error(&error, &["canary"]);
        }
    }
}
