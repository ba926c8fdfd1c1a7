//! Eight processes of the agent beside each other at a server that replaces refresh tokens and ends a grant when one comes twice:
//! one sign-in, no refresh token twice, one refresh for each token that ends.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use grantflow_reqwest::grantflow::Timestamp;
use grantflow_tests::front::Site;
use grantflow_tests::resource::Protected;
use grantflow_tests::server::{Answer, RefreshTokens, Wire};
use grantflow_tests::{Front, Place, Server, person};
use http::{Request, Response};
use serde_json::{Value, json};

const PROCESSES: usize = 8;
/// How long a token is valid, and how long the agents run, in seconds.
const LIFE: u64 = 4;
const RUN: u64 = 14;

fn main() {
    let server = Server::demo().with(|it| {
        it.lifetime = LIFE;
        it.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO };
        it.registration = true;
    });
    let front = Front::start(Mcp(Protected::new(server))).expect("a port");
    let address = front.server().0.resource.address().to_owned();
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

    let site = front.server();
    let server = &site.0.server;
    let asked = server.seen_at(Place::Authorize).len();
    let used: Vec<_> = server.seen_at(Place::Token).iter().filter_map(|seen| seen.param("refresh_token")).collect();
    let times: Vec<_> = server.seen_at(Place::Token).iter().map(|seen| seen.at).collect();
    let shortest = times.windows(2).map(|pair| pair[1].since(pair[0])).min().unwrap_or_default();
    let once = used.iter().collect::<BTreeSet<_>>().len();
    println!(
        "{PROCESSES} processes for {RUN} s, tokens of {LIFE} s: {asked} sign-in, {} registration, {} refreshes, \
        {} of them with a token used before, {shortest:?} between two at the least",
        server.seen_at(Place::Registration).len(),
        used.len(),
        used.len() - once
    );
    assert!(ends.iter().all(|succeeded| *succeeded), "{told:?}");
    assert_eq!((asked, used.len() - once), (1, 0));
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

/// A server of the Model Context Protocol with no tools, behind a pretend resource.
struct Mcp(Protected);

impl Site for Mcp {
    fn move_to(&mut self, origin: &str) {
        self.0.move_to(origin);
    }

    fn answer(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Answer {
        let message: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let mut answer = self.0.answer(now, request);
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
