//! Everything that is logged on the way, at the finest level and by whichever crate, holds no secret.

use std::fmt::{Debug, Write as _};
use std::sync::{Mutex, PoisonError};

use grantflow::{Client, ClientAuthentication, InstalledApp, Machine, Token, TokenRequest};
use grantflow_tests::canary::hidden;
use grantflow_tests::{Fault, Front, Place, Registered, Server, person};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};

static LOGGED: Mutex<String> = Mutex::new(String::new());

fn note(line: std::fmt::Arguments<'_>) {
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = writeln!(logged, "{line}");
}

/// Takes down what goes through `log`.
struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        note(format_args!("log {} {}: {}", record.level(), record.target(), record.args()));
    }
    fn flush(&self) {}
}

/// Takes down what goes through `tracing`.
struct Trace;

struct Fields;

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        note(format_args!("    {field} = {value:?}"));
    }
}

impl tracing::Subscriber for Trace {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        note(format_args!("span {} {}", span.metadata().target(), span.metadata().name()));
        span.record(&mut Fields);
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Fields);
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        note(format_args!("event {} {}", event.metadata().level(), event.metadata().target()));
        event.record(&mut Fields);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

const CLIENT_SECRET: &str = "c4n4ry-cl1ent-s3cret";
const PASSWORD: &str = "c4n4ry-passw0rd";

/// Everything that one adapter does, with what must stay secret put aside.
fn play(
    front: &Front,
    secrets: &mut Vec<String>,
    run: &mut dyn FnMut(Box<dyn Machine<Output = Token> + Send>) -> Result<Token, grantflow::Error>,
    sign_in: &mut dyn FnMut(&InstalledApp) -> Result<Token, grantflow::Error>,
) {
    let server = front.metadata();
    let client = Client::new("app").authentication(ClientAuthentication::client_secret_basic(CLIENT_SECRET));
    let app = InstalledApp::new(&server, &client).scopes("openid").open_browser(false).show(|url| {
        person::visit_in_background(url);
    });
    let token = sign_in(&app).unwrap();
    for seen in front.server().seen_at(Place::Authorize) {
        secrets.extend(["state", "nonce"].map(|name| seen.param(name).unwrap()));
    }
    for seen in front.server().seen_at(Place::Token) {
        secrets.extend(["code", "code_verifier"].into_iter().filter_map(|name| seen.param(name)));
    }
    let keep = |token: &Token, secrets: &mut Vec<String>| {
        secrets.push(token.access_token().to_owned());
        secrets.push(token.refresh_token().unwrap().expose().to_owned());
        secrets.extend(token.id_token().map(|id_token| id_token.as_secret().expose().to_owned()));
    };
    keep(&token, secrets);
    let refreshed = run(Box::new(TokenRequest::refresh(&server, &client, &token).unwrap().exchange())).unwrap();
    keep(&refreshed, secrets);
    let password = || Box::new(TokenRequest::password(&server, &client, "alice", PASSWORD).unwrap().exchange());
    keep(&run(password()).unwrap(), secrets);
    for fault in [
        Fault::DropAfter,
        Fault::Truncate,
        Fault::status(400, &format!("{{\"error\":\"x\",\"error_description\":\"{PASSWORD} {CLIENT_SECRET}\"}}")),
        Fault::status(307, "").header("location", "/token"),
        Fault::html(200),
    ] {
        front.server().fail(Place::Token, fault);
        let _ = run(password());
    }
}

#[test]
fn nothing_that_any_crate_logs_holds_a_secret() {
    log::set_boxed_logger(Box::new(Log)).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    tracing::subscriber::set_global_default(Trace).unwrap();

    let registered = Registered::basic("app", CLIENT_SECRET).redirect_uri("http://127.0.0.1/");
    let front = Front::start(Server::new("https://as.example").client(registered).user("alice", PASSWORD)).unwrap();
    let mut secrets = vec![CLIENT_SECRET.to_owned(), PASSWORD.to_owned()];

    let blocking = grantflow_ureq::Transport::new().unwrap();
    play(&front, &mut secrets, &mut |machine| blocking.run(machine), &mut |app| blocking.sign_in(app));
    let transport = grantflow_reqwest::Transport::new().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    play(&front, &mut secrets, &mut |machine| runtime.block_on(transport.run(machine)), &mut |app| {
        runtime.block_on(transport.sign_in(app))
    });

    let logged = LOGGED.lock().unwrap();
    println!("{} lines were logged", logged.lines().count());
    for who in
        ["span grantflow_ureq", "span grantflow_reqwest", "event DEBUG grantflow_ureq", "event DEBUG grantflow_reqwest"]
    {
        assert!(logged.contains(who), "{who}: {logged}");
    }
    assert!(logged.contains("log "), "ureq and reqwest log too: {logged}");
    assert!(secrets.len() > 20);
    for line in logged.lines() {
        hidden("a log line", line, &secrets.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
