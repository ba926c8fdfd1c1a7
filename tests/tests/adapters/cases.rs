//! What users of other libraries reported, each twice and on both adapters: the rows of `tests/data/odd/cases.json`.
//! `how` names what is done with an instance; a row that says `by` is held by those functions of the suite, since it needs
//! more than an input.

use std::path::PathBuf;
use std::thread::scope;

use grantflow::google::{ClientSecrets, DefaultCredentials, GoogleCredential};
use grantflow::machine::{Os, Platform, Reach};
use grantflow::{Call, Challenge, Client, ClientAuthentication, DeviceAuthorization, InstalledApp, Scopes};
use grantflow_tests::server::Alter;
use grantflow_ureq::grantflow_store::FileStore;
use serde_json::{Value, json};

use super::calls::Once;
use super::proxy::{Raw, elsewhere_with, server_at};
use super::*;

/// In the other process: the case that it runs.
const CASE: &str = "GRANTFLOW_TEST_CASE";

fn rows() -> Vec<Value> {
    let table: Value = serde_json::from_str(include_str!("../../data/odd/cases.json")).unwrap();
    table["cases"].as_array().unwrap().clone()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// Bytes of Latin-1 or of UTF-16 where `<..>` stands for them.
fn bytes(text: &str) -> Vec<u8> {
    if let Some(text) = text.strip_prefix("<UTF-16>") {
        return std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    }
    let mut parts = text.split("<E9>");
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(0xe9);
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

/// A raw answer: a head in the row or an ordinary one, and the body or one of the files of the tests.
fn answer(given: &Value) -> Vec<u8> {
    let body = match text(given, "file") {
        "token.json.gz" => include_bytes!("../../data/token.json.gz").to_vec(),
        "token.json.zlib" => include_bytes!("../../data/token.json.zlib").to_vec(),
        _ => bytes(text(given, "body")),
    };
    let status = given["status"].as_u64().unwrap_or(200);
    let head = given["head"].as_str().map_or_else(|| format!("HTTP/1.1 {status} X"), str::to_owned);
    let kind = given["type"].as_str().unwrap_or("application/json");
    let more = text(given, "headers");
    let length = if given["length"] == false { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    [&bytes(&format!("{head}\r\nContent-Type: {kind}\r\n{length}{more}\r\n"))[..], &body].concat()
}

fn fault(given: &Value) -> Fault {
    let mut fault = Fault::with_type(
        given["status"].as_u64().unwrap_or(200) as u16,
        given["type"].as_str().unwrap_or("application/json"),
        "",
    );
    if let Fault::Answer(response) = &mut fault {
        *response.body_mut() = bytes(text(given, "body"));
    }
    fault
}

fn faults(given: &Value) -> impl Iterator<Item = Fault> {
    given["answers"].as_array().into_iter().flatten().map(fault)
}

/// What came of it, in words.
fn told(result: Result<Token, Error>) -> String {
    match result {
        Ok(token) => {
            let refresh = token.refresh_token().map_or("none", |token| token.expose());
            let found: Vec<_> = token.deviations().iter().collect();
            format!("token {}, refresh token {refresh}, scopes {}, {found:?}", token.access_token(), token.scopes())
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &Error) -> String {
    format!("{:?} {:?}: {error}", error.kind(), error.advice())
}

/// A refresh that asks for nothing, at a server that gives this answer.
fn refresh<A: Adapter>(given: &Value) -> String {
    let raw = Raw::saying(answer(given), given["open"] == true);
    let server = server_at(&format!("http://{}/token", raw.address));
    let request = TokenRequest::refresh_token(&server, &client(), &"rt-1".into()).unwrap();
    told(A::new().run(request.exchange().total_time(Duration::from_secs(5))))
}

/// Three starts of a program that keeps its grant; `answers` are what its server says to token requests, one after another.
fn kept<A: Adapter>(given: &Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let front = Front::start(Server::demo()).unwrap();
    front.server().settings.scopes = Scopes::from(text(given, "asked"));
    front.server().settings.scope_at_refresh = given["names"] == true;
    faults(given).for_each(|fault| front.server().fail(Place::Token, fault));
    let asked = Arc::new(Mutex::new(0));
    let count = asked.clone();
    let app = InstalledApp::new(&front.metadata(), &client()).scopes(text(given, "asked")).open_browser(false);
    let app = app.timeout(Duration::from_secs(20)).show(move |url| {
        *count.lock().unwrap() += 1;
        drop(person::visit_in_background(url));
    });
    let app = if given["names"] == true { app.scopes_at_refresh() } else { app };
    let mut said = Vec::new();
    for _ in 0..3 {
        let program = A::with_store(Arc::new(FileStore::new(folder.path().join("grants"))));
        said.push(told(program.load_or_sign_in(&app)));
        if given["wait"] == true && said.len() == 1 {
            std::thread::sleep(Duration::from_millis(1100));
        }
    }
    let seen = front.server().seen_at(Place::Token).len();
    format!("asked {} times, {seen} token requests: {}", asked.lock().unwrap(), said.join(" / "))
}

/// Discovery where `answers` stand at the first address, or where the issuer is spelled in another way.
fn discovery<A: Adapter>(given: &Value) -> String {
    let front = Front::start(Server::demo()).unwrap();
    if let Some(other) = faults(given).next() {
        front.server().fail(Place::OpenIdMetadata, other);
    }
    if let Some(named) = given["named"].as_str() {
        let named = named.replace("ISSUER", &front.issuer());
        front.server().settings.alter_metadata = Alter::set("issuer", json!(named));
    }
    let asked = given["asked"].as_str().unwrap_or("ISSUER").replace("ISSUER", &front.issuer());
    match A::new().run(Discovery::new(&Issuer::new(asked).unwrap())) {
        Ok(server) => format!("found {}", server.token().unwrap().as_str()),
        Err(error) => failed(&error),
    }
}

/// A sign-in whose browser brings this request, with `HOST`, `STATE` and `ISSUER` filled in.
fn redirect<A: Adapter>(given: &Value) -> String {
    let front = Front::start(Server::demo()).unwrap();
    let app = app(&front).timeout(Duration::from_secs(5));
    let app = given["redirect_uri"].as_str().map_or(app.clone(), |uri| app.redirect_uri(uri));
    let (request, issuer) = (text(given, "request").to_owned(), front.issuer());
    let began = Instant::now();
    let (result, page) = sign_in(&A::new(), app, move |url| {
        let uri = value(&url, "redirect_uri");
        let (_, rest) = uri.split_once("://").unwrap();
        let host = rest.split('/').next().unwrap();
        let host = if host.contains(':') { host.to_owned() } else { format!("no port in {uri}") };
        let iss: String = url::form_urlencoded::byte_serialize(issuer.as_bytes()).collect();
        let request = request.replace("HOST", &host).replace("STATE", &value(&url, "state")).replace("ISSUER", &iss);
        let length = request.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len());
        raw(port(&url), request.replace("LENGTH", &length.to_string()).as_bytes())
    });
    let page = page.get(9..12).unwrap_or_default().to_owned();
    let code = front.server().seen_at(Place::Token).first().and_then(|seen| seen.param("code"));
    let slow = if began.elapsed() < Duration::from_secs(4) { "" } else { "too late, " };
    format!("{slow}page {page}, code {code:?}: {}", told(result))
}

/// An answer that a person pasted into a web application.
fn pasted<A: Adapter>(given: &Value) -> String {
    let front = Front::start(Server::demo()).unwrap();
    front.server().settings.iss = grantflow_tests::server::Iss::Absent;
    let adapter = A::new();
    let request = AuthorizationRequest::new(&front.metadata(), &client(), demo::REDIRECT).scopes("read");
    let authorization = adapter.run(request.start()).unwrap();
    let answer = person::answer(&authorization.url).unwrap();
    let paste =
        text(given, "paste").replace("STATE", &value(&answer, "state")).replace("CODE", &value(&answer, "code"));
    match adapter.run(authorization.pending.finish(&client(), &paste)) {
        Ok(token) => format!("signed in, scopes {}", token.scopes()),
        Err(error) => failed(&error),
    }
}

/// A file with this content, or at this path.
fn file<A: Adapter>(given: &Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = match given["path"].as_str() {
        Some(path) => PathBuf::from(path),
        None => {
            let path = folder.path().join("file.json");
            std::fs::write(&path, bytes(text(given, "content"))).unwrap();
            path
        }
    };
    let said = match text(given, "of") {
        "a client" => A::new().run(ClientSecrets::read(path)).map(|read| format!("client {:?}", read.client().id())),
        _ => A::new().run(GoogleCredential::read(path)).map(|_| "credential".to_owned()),
    };
    said.unwrap_or_else(|error| failed(&error)).replace(folder.path().to_str().unwrap(), "FOLDER")
}

/// The search for default credentials in another process, where `GOOGLE_APPLICATION_CREDENTIALS` has this value.
fn variable<A: Adapter>(given: &Value) -> String {
    let value = text(given, "value").to_owned();
    let name = "every_reported_case_and_another_of_its_kind_comes_out_as_it_should";
    let variables = [("GOOGLE_APPLICATION_CREDENTIALS", value), (CASE, A::NAME.to_owned())];
    let output = elsewhere_with(&format!("cases::{name}"), &variables);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_once("SAID: ").and_then(|(_, said)| said.split_once(" END")).expect(&text).0.to_owned()
}

fn search<A: Adapter>() -> String {
    let platform = Platform { os: Os::Unix, home: Some("/nowhere".into()) };
    match A::new().run(DefaultCredentials::new(platform)) {
        Ok(found) => format!("{found:?}"),
        Err(error) => format!("{} {error:?}", failed(&error)),
    }
}

/// A client with this id or secret, which asks a server that takes anything.
fn registered<A: Adapter>(given: &Value) -> String {
    let raw = Raw::saying(answer(&json!({"body": r#"{"access_token":"at-1","token_type":"Bearer"}"#})), false);
    let secret = given["secret"].as_str().unwrap_or("s3cret");
    let authentication = match text(given, "by") {
        "post" => ClientAuthentication::client_secret_post(secret),
        _ => ClientAuthentication::client_secret_basic(secret),
    };
    let client = Client::new(given["id"].as_str().unwrap_or("batch")).authentication(authentication);
    let request = TokenRequest::client_credentials(&server_at(&format!("http://{}/token", raw.address)), &client);
    let said = told(request.and_then(|request| A::new().run(request.exchange())));
    format!("{} requests: {said}", raw.heard().len())
}

/// What a refresh sends; `asked` are the scopes that the sign-in asked for, of which `read` is granted.
fn sent<A: Adapter>(given: &Value) -> String {
    let front = Front::start(Server::demo()).unwrap();
    front.server().settings.consent = Consent::Narrow("read".into());
    let adapter = A::new();
    let (token, _) = sign_in(&adapter, app(&front).scopes(text(given, "asked")), |url| person::visit(&url).unwrap());
    let request = TokenRequest::refresh(&front.metadata(), &client(), &token.unwrap()).unwrap();
    let request = match given["wants"].as_str() {
        Some(wants) => request.scopes(wants),
        None => request,
    };
    adapter.run(request.exchange()).map(drop).unwrap_or_default();
    let server = front.server();
    let seen = server.seen_at(Place::Token);
    let last = seen.last().unwrap();
    format!("scope {:?}, grant_type {:?}", last.param("scope"), last.param("grant_type"))
}

fn challenge<A: Adapter>(given: &Value) -> String {
    let server = Raw::saying(
        answer(&json!({"status": 401, "headers": format!("WWW-Authenticate: {}\r\n", text(given, "field"))})),
        false,
    );
    let request = http::Request::get(format!("http://{}/", server.address)).body(Vec::new()).unwrap();
    let response = A::new().run(Once::new(Call::new(request).with_reach(Reach::Local))).unwrap().unwrap();
    let names = ["error", "scope", "resource_metadata"];
    let all = Challenge::all(response.headers());
    let all = all.iter().map(|it| format!("{} {:?}", it.scheme(), names.map(|name| it.get(name))));
    all.collect::<Vec<_>>().join(", ")
}

/// A device whose questions get these answers before its person has entered the code.
fn device<A: Adapter>(given: &Value) -> String {
    let front = Front::start(Server::demo().with(|settings| settings.device_interval = Some(1))).unwrap();
    faults(given).for_each(|fault| front.server().fail(Place::Token, fault));
    let adapter = A::new();
    let request = DeviceAuthorization::new(&front.metadata(), &client()).unwrap().scopes("read");
    let code = adapter.run(request.exchange()).unwrap();
    person::enter_code(code.verification_uri(), code.user_code()).unwrap();
    let result = adapter.run(code.poll(&front.metadata(), &client()).unwrap());
    let questions = front.server().seen_at(Place::Token).len();
    format!("{questions} questions: {}", result.map_or_else(|error| failed(&error), |token| token.scopes().to_string()))
}

/// A sign-in whose ID token has this header and these claims.
fn id_token<A: Adapter>(given: &Value) -> String {
    let change = |part: &Value| {
        let part = part.clone();
        Alter::by(move |value| {
            for (name, member) in part.as_object().into_iter().flatten() {
                value[name] = member.clone();
            }
        })
    };
    let front = Front::start(Server::demo()).unwrap();
    front.server().settings.alter_id_header = change(&given["header"]);
    front.server().settings.alter_id_claims = change(&given["claims"]);
    let (token, _) = sign_in(&A::new(), app(&front).scopes("openid read"), |url| person::visit(&url).unwrap());
    match token {
        Ok(token) => format!("subject {}", token.id_token().unwrap().subject()),
        Err(error) => failed(&error),
    }
}

fn outcome<A: Adapter>(how: &str, given: &Value) -> String {
    let said = match how {
        "refresh" => refresh::<A>(given),
        "kept" => kept::<A>(given),
        "discovery" => discovery::<A>(given),
        "redirect" => redirect::<A>(given),
        "pasted" => pasted::<A>(given),
        "file" => file::<A>(given),
        "variable" => variable::<A>(given),
        "registered" => registered::<A>(given),
        "sent" => sent::<A>(given),
        "challenge" => challenge::<A>(given),
        "device" => device::<A>(given),
        "id_token" => id_token::<A>(given),
        other => panic!("nobody knows how to do {other}"),
    };
    without_ports(&said)
}

/// Ports and what the pretend server draws differ from run to run.
fn without_ports(text: &str) -> String {
    let mut shown = String::new();
    let mut parts = text.split("127.0.0.1:");
    shown += parts.next().unwrap_or_default();
    for part in parts {
        shown += "127.0.0.1:PORT";
        shown += part.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    shown
}

fn fits(said: &str, words: &str) -> bool {
    let mut rest = said;
    words.split('…').all(|part| rest.split_once(part).map(|(_, after)| rest = after).is_some())
}

/// Both adapters' words for an instance; what is wrong with them.
fn judge(row: &Value, given: &Value) -> Vec<String> {
    let (name, how, mut wrong) = (text(row, "case"), text(row, "how"), Vec::new());
    let (blocking, other) = scope(|scope| {
        let blocking = scope.spawn(|| outcome::<Blocking>(how, given));
        (blocking.join(), outcome::<Async>(how, given))
    });
    let blocking = blocking.expect("a row that panics stands above");
    println!("{name}\n    {blocking}");
    if blocking != other {
        wrong.push(format!("{name}: the adapters differ:\n    {blocking}\n    {other}"));
    }
    let (comes, hides) = (text(given, "comes"), given["hides"].as_str());
    if comes.is_empty() || !fits(&blocking, comes) || hides.is_some_and(|hides| blocking.contains(hides)) {
        wrong.push(format!("{name}: {comes:?} should come:\n    {blocking}"));
    }
    wrong
}

#[test]
fn every_reported_case_and_another_of_its_kind_comes_out_as_it_should() {
    if let Ok(adapter) = std::env::var(CASE) {
        let said = if adapter == Blocking::NAME { search::<Blocking>() } else { search::<Async>() };
        return println!("SAID: {said} END");
    }
    let rows = rows();
    let (by, run): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row["by"].is_array());
    // Rows wait for tokens to end more than they work.
    let wrong: Vec<_> = scope(|scope| {
        let instances = |row: &'_ Value| row["instances"].as_array().expect("instances").len();
        assert!(run.iter().all(|row| instances(row) >= 2), "each has another instance of its kind");
        let all = run.iter().flat_map(|row| row["instances"].as_array().unwrap().iter().map(move |given| (row, given)));
        let judging: Vec<_> = all.map(|(row, given)| scope.spawn(move || judge(row, given))).collect();
        judging.into_iter().flat_map(|judging| judging.join().expect("a row that panics stands above")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    for row in by {
        for name in row["by"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            assert!(SUITE.contains(&name), "{} is no function of the suite: {row}", name);
        }
    }
    assert!(rows.len() >= 40, "{}", rows.len());
}
