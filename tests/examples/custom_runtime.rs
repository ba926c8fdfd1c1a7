//! The core alone, driven by a runtime of one's own: here, the standard library's `TcpStream` over
//! cleartext to loopback, and nothing else.
//!
//! ```text
//! cargo run -p grantflow-tests --example custom_runtime
//! ```

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use grantflow::machine::{FailureKind, Reach, Rules};
use grantflow::{
    AuthorizationRequest, Call, Client, Cx, Discovery, Effect, Error, Failure, Issuer, Machine, Now, Reply, Revocation,
    Step, Timestamp, TokenRequest,
};
use grantflow_tests::{Front, Server, person};

/// All that this runtime has: two clocks, entropy, and connections.
struct Runtime {
    begin: Instant,
}

impl Runtime {
    fn cx(&self) -> Result<Cx, Error> {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let wall = Timestamp::from_unix_millis(wall.try_into().unwrap_or(i64::MAX));
        let now = Now { wall, mono: self.begin.elapsed() };
        let mut seed = [0; 32];
        Ok(match getrandom::fill(&mut seed) {
            Ok(()) => Cx::new(now, seed),
            Err(_) => Cx::without_entropy(now),
        })
    }

    /// The whole driver.
    fn drive<M: Machine>(&self, mut machine: M) -> Result<M::Output, Error> {
        let mut reply = Reply::Start;
        loop {
            reply = match machine.resume(&mut self.cx()?, reply) {
                Step::Done(result) => return result,
                Step::Do(Effect::Http(call)) => {
                    println!("  {call:?}");
                    fetch(call).map_or_else(Reply::Failed, Reply::Http)
                }
                Step::Do(Effect::Sleep(time)) => {
                    std::thread::sleep(time);
                    Reply::Slept
                }
                Step::Do(_) => Reply::Refused,
            };
        }
    }
}

/// One request over one connection (RFC 9112), to loopback only.
fn fetch(call: Call) -> Result<http::Response<Vec<u8>>, Failure> {
    let call = call.open(Rules::V1)?;
    let request = &call.request;
    if call.reach != Reach::Local || request.uri().scheme_str() != Some("http") {
        return Err(Failure::not_sent(FailureKind::Forbidden, "this runtime speaks cleartext to loopback only"));
    }
    let authority = request.uri().authority().map_or("", |authority| authority.as_str());
    let mut stream = TcpStream::connect(authority).map_err(|error| Failure::not_sent(FailureKind::Connect, error))?;
    let broken = |error: std::io::Error| Failure::maybe_sent(FailureKind::Broken, error);
    stream.set_read_timeout(Some(call.timeout.max(Duration::from_millis(1)))).map_err(broken)?;

    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let mut head = format!("{} {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n", request.method());
    for (name, value) in request.headers() {
        head += &format!("{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    head += &format!("Content-Length: {}\r\n\r\n", request.body().len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(request.body())).map_err(broken)?;

    let mut answer = Vec::new();
    let most = u64::try_from(call.max_body.saturating_add(16 * 1024)).unwrap_or(u64::MAX);
    stream.take(most).read_to_end(&mut answer).map_err(broken)?;
    parse(&answer).ok_or_else(|| Failure::maybe_sent(FailureKind::Broken, "the answer is cut off"))
}

fn parse(answer: &[u8]) -> Option<http::Response<Vec<u8>>> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let body = answer.get(end + 4..)?;
    let mut lines = head.split("\r\n");
    let mut response = http::Response::builder().status(lines.next()?.split(' ').nth(1)?);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") && value.trim().parse() != Ok(body.len()) {
            return None;
        }
        response = response.header(name, value.trim());
    }
    response.body(body.to_vec()).ok()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A pretend server on loopback, with a person who consents.
    let front = Front::start(Server::demo())?;
    let runtime = Runtime { begin: Instant::now() };
    let issuer = Issuer::new(front.issuer())?;
    let client = Client::new("demo");

    println!("discovery");
    let server = runtime.drive(Discovery::new(&issuer))?;

    println!("sign-in");
    let redirect_uri = "http://127.0.0.1/callback";
    let request = AuthorizationRequest::new(&server, &client, redirect_uri).scopes(["openid", "read"]);
    let authorization = runtime.drive(request.start())?;
    let redirect = person::answer(&authorization.url)?;
    let token = runtime.drive(authorization.pending.finish(&client, &redirect))?;
    let user = token.id_token().map(|id_token| id_token.subject()).unwrap_or_default();
    println!("  {user} granted {:?} until {:?}", token.scopes().as_str(), token.expires_at());

    println!("refresh");
    let token = runtime.drive(TokenRequest::refresh(&server, &client, &token)?.exchange())?;
    println!("  a new token until {:?}", token.expires_at());

    println!("revocation");
    let refresh_token = token.refresh_token().ok_or("no refresh token")?;
    runtime.drive(Revocation::new(&server, &client, refresh_token)?.exchange())?;
    let refused = runtime.drive(TokenRequest::refresh(&server, &client, &token)?.exchange());
    println!("  {}", refused.err().ok_or("the revoked token was taken")?);
    Ok(())
}
