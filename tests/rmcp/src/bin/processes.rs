//! Eight processes of the agent beside each other at a server that replaces refresh tokens and ends a grant when one comes twice:
//! one sign-in, no refresh token twice, one refresh for each token that ends, and one for a token that the resource refuses meanwhile.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use grantflow_reqwest::grantflow::Timestamp;
use grantflow_tests::front::Site;
use grantflow_tests::resource::Protected;
use grantflow_tests::server::{Answer, RefreshTokens, Wire};
use grantflow_tests::{Front, Place, Server, person};
use http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use http::{Request, Response};
use serde_json::{Value, json};

const PROCESSES: usize = 8;
/// How long a token is valid, and how long the agents run, in seconds.
const LIFE: u64 = 4;
const RUN: u64 = 14;
/// How long after the first message a token is refused.
const REFUSED_AFTER: Duration = Duration::from_millis(7500);

fn main() {
    let server = Server::demo().with(|it| {
        it.lifetime = LIFE;
        it.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO };
        it.registration = true;
    });
    let front = Front::start(Mcp { site: Protected::new(server), first: None, refused: None }).expect("a port");
    let address = front.server().site.resource.address().to_owned();
    let folder = std::env::temp_dir().join(format!("grantflow-rmcp-{}", std::process::id()));
    let agent = std::env::current_exe().expect("a path").with_file_name("agent");

    let start = || {
        let mut agent = Command::new(&agent);
        agent.arg(&address).arg(&folder).arg(RUN.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
        agent.spawn().expect("the agent, built beside this")
    };
    let agents: Vec<_> = (0..PROCESSES).map(|_| start()).collect();
    let ends: Vec<_> = agents.into_iter().map(|agent| std::thread::spawn(move || watch(agent))).collect();
    let (ends, told): (Vec<_>, Vec<_>) = ends.into_iter().map(|end| end.join().expect("it ends")).unzip();
    let _ = std::fs::remove_dir_all(&folder);

    let mcp = front.server();
    let (server, (refused, _)) = (&mcp.site.server, mcp.refused.as_ref().expect("a token was refused"));
    let asked = server.seen_at(Place::Authorize).len();
    let used: Vec<_> = server.seen_at(Place::Token).iter().filter_map(|seen| seen.param("refresh_token")).collect();
    let times: Vec<_> = server.seen_at(Place::Token).iter().map(|seen| seen.at).collect();
    // The first one after the refusal does not wait for the end of a token.
    let after = times.iter().position(|at| at > refused).unwrap_or(times.len());
    let pairs = times.windows(2).enumerate().filter(|(nth, _)| nth + 1 != after);
    let shortest = pairs.map(|(_, pair)| pair[1].since(pair[0])).min().unwrap_or_default();
    let soon = times.iter().filter(|at| *at > refused && at.since(*refused) < Duration::from_secs(1)).count();
    let once = used.iter().collect::<BTreeSet<_>>().len();
    println!(
        "{PROCESSES} processes for {RUN} s, tokens of {LIFE} s: {asked} sign-in, {} registration, {} refreshes, \
        {} of them with a token used before, {soon} for a token that was refused, {shortest:?} between the others at the least",
        server.seen_at(Place::Registration).len(),
        used.len(),
        used.len() - once
    );
    assert!(ends.iter().all(|succeeded| *succeeded), "{told:?}");
    assert_eq!((asked, used.len() - once, soon), (1, 0, 1), "{times:?}");
    assert!(used.len() >= 3 && shortest > Duration::from_secs(LIFE) / 2, "{times:?}");
}

/// Plays the person, who opens what a process prints, and waits for its end: whether it succeeded, and what it said.
fn watch(mut agent: std::process::Child) -> (bool, Vec<String>) {
    let mut told = Vec::new();
    for line in BufReader::new(agent.stderr.take().expect("a pipe")).lines().map_while(Result::ok) {
        if line.starts_with("http://") {
            drop(person::visit_in_background(&line));
        }
        told.push(line);
    }
    (agent.wait().is_ok_and(|status| status.success()), told)
}

/// A server of the Model Context Protocol with no tools, behind a pretend resource. From a moment on it refuses the token that it was
/// shown then.
struct Mcp {
    site: Protected,
    /// When the first message came.
    first: Option<Timestamp>,
    refused: Option<(Timestamp, HeaderValue)>,
}

impl Mcp {
    fn refuses(&mut self, now: Timestamp, token: &HeaderValue) -> bool {
        let first = *self.first.get_or_insert(now);
        if now.since(first) < REFUSED_AFTER {
            return false;
        }
        let (_, refused) = self.refused.get_or_insert_with(|| (now, token.clone()));
        refused == token
    }
}

impl Site for Mcp {
    fn move_to(&mut self, origin: &str) {
        self.site.move_to(origin);
    }

    fn answer(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Answer {
        let message: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let mut answer = self.site.answer(now, request);
        let token = request.headers().get(AUTHORIZATION).filter(|_| message["method"].is_string());
        if token.is_some_and(|token| self.refuses(now, token)) {
            let refusal = Response::builder().status(401).header(WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#);
            answer.wire = Wire::Whole(refusal.body(Vec::new()).expect("an answer"));
        }
        if let (Wire::Whole(response), Some(method)) = (&mut answer.wire, message["method"].as_str())
            && response.status().is_success()
        {
            *response = said(&message, method);
        }
        answer
    }
}

/// The answer to a message.
fn said(message: &Value, method: &str) -> Response<Vec<u8>> {
    let result = match method {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}},
            "serverInfo": {"name": "pretend", "version": "0"},
        }),
        "tools/list" => json!({"tools": []}),
        _ => return Response::builder().status(202).body(Vec::new()).expect("an answer"),
    };
    let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string().into_bytes();
    Response::builder().header("content-type", "application/json").body(body).expect("an answer")
}
