//! A virtual world: time is a number, servers are functions, and every run is the same from its seed.
//!
//! It drives any machine. Sleeping advances the clocks, an HTTP request takes the latency, and whatever
//! the machine asked for is on record afterwards.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use grantflow::documents::{Documents, Look, Ticket};
use grantflow::machine::{Exited, FailureKind, Identity, Open, Program, Reach, Repeat, Rules};
use grantflow::{
    AuthorizationRequest, Call, Client, Cx, Effect, Error, Failure, Machine, Now, Reply, Step, Timestamp, Token,
};
use http::{Request, Response};
use sha2::{Digest, Sha256};

use crate::Google;
use crate::front::Site;
use crate::kms::Kms;
use crate::person::with_code;
use crate::resource::Resource;
use crate::server::{Answer, ClientCertificate, Server, Wire};

/// A machine that goes on for longer than this does not end.
const STEPS: usize = 10_000;

/// What comes of a machine that asks for no effect.
///
/// # Panics
///
/// If it asks for one.
pub fn at_once<M: Machine>(mut machine: M, cx: &mut Cx) -> Result<M::Output, Error> {
    match machine.resume(cx, Reply::Start) {
        Step::Done(result) => result,
        Step::Do(effect) => panic!("it asks for {effect:?}"),
    }
}

/// The world. It begins at 2026-11-20T12:00:00Z, with 50 ms for each round trip.
#[derive(Debug)]
pub struct World {
    /// Both clocks.
    pub now: Now,
    /// How long a round trip takes, apart from what the server adds.
    pub latency: Duration,
    /// The names of the effects to refuse, such as `Sleep`.
    pub refuse: Vec<&'static str>,
    /// Files by their path.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Environment variables by their name.
    pub env: BTreeMap<&'static str, OsString>,
    /// The rules of calls that it obeys.
    pub rules: Rules,
    /// What a name leads to; a name that is not here leads to a global address.
    pub addresses: BTreeMap<String, Vec<IpAddr>>,
    /// The public documents that were read; without it, as with a driver that knows none, each is read each time.
    pub documents: Option<Documents>,
    /// Programs by their path.
    pub programs: BTreeMap<PathBuf, Prints>,
    /// The client certificates that a driver's builder was given, by their names.
    pub identities: BTreeMap<&'static str, Identity>,
    /// Google, with the metadata server or whatever stands in its place.
    pub google: Option<Google>,
    /// A key store at `https://kms.example`.
    pub kms: Kms,
    /// Protected resources, which take the tokens of the servers here.
    pub resources: Vec<Resource>,
    servers: Vec<Server>,
    failures: VecDeque<(Duration, Failure)>,
    seed: u64,
    did: Vec<Did>,
}

/// An effect that a machine asked for.
#[derive(Clone, Debug)]
pub enum Did {
    /// A request.
    Http(Box<Sent>),
    /// A pause.
    Sleep(Duration),
    /// A look at an environment variable.
    Env(&'static str),
    /// A look at a file.
    ReadFile(PathBuf),
    /// A run of a program.
    Exec(PathBuf),
    /// Any other effect, by its name.
    Other(&'static str),
}

/// A program: how it ends and what it prints.
#[derive(Clone, Debug)]
pub struct Prints {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// How long it takes.
    pub time: Duration,
}

impl Prints {
    /// This, at once and with success.
    pub fn new(stdout: impl Into<Vec<u8>>) -> Self {
        Self { code: Some(0), stdout: stdout.into(), stderr: Vec::new(), time: Duration::ZERO }
    }

    /// Ends with this exit code, and says this to standard error.
    pub fn failing(code: i32, stderr: impl Into<Vec<u8>>) -> Self {
        Self { code: Some(code), stdout: Vec::new(), stderr: stderr.into(), time: Duration::ZERO }
    }
}

/// A request with the rules that came along.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When it was asked for.
    pub at: Now,
    /// All of it.
    pub request: Request<Vec<u8>>,
    /// The time it might take.
    pub timeout: Duration,
    /// The most bytes of its answer.
    pub max_body: usize,
    /// Whether it might arrive twice.
    pub repeat: Repeat,
    /// Where it might go.
    pub reach: Reach,
    /// When it must have begun.
    pub start_before: Option<Now>,
    /// The certificate to present.
    pub identity: Option<Identity>,
}

impl Default for World {
    fn default() -> Self {
        Self::new(1)
    }
}

impl World {
    /// A world without servers. Its randomness comes from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            now: Now { wall: Timestamp::from_unix(1_795_176_000), mono: Duration::from_secs(1000) },
            latency: Duration::from_millis(50),
            refuse: Vec::new(),
            files: BTreeMap::new(),
            env: BTreeMap::new(),
            rules: Rules::V1 | Rules::START_BEFORE | Rules::GLOBAL | Rules::IDENTITY,
            addresses: BTreeMap::new(),
            programs: BTreeMap::new(),
            identities: BTreeMap::new(),
            documents: Some(Documents::new()),
            google: None,
            kms: Kms::default(),
            resources: Vec::new(),
            servers: Vec::new(),
            failures: VecDeque::new(),
            seed,
            did: Vec::new(),
        }
    }

    /// A world with this server.
    pub fn with(server: Server) -> Self {
        Self::default().and(server)
    }

    /// Adds a server.
    pub fn and(mut self, server: Server) -> Self {
        self.servers.push(server);
        self
    }

    /// Adds a protected resource.
    pub fn protecting(mut self, resource: Resource) -> Self {
        self.resources.push(resource);
        self
    }

    /// What a caller gets from the protected resources, without a machine.
    ///
    /// # Panics
    ///
    /// If there is none at that address.
    pub fn ask(&mut self, url: &str, token: Option<&Token>) -> Response<Vec<u8>> {
        let request = Request::get(url);
        let request = token.into_iter().fold(request, |request, token| {
            request.header("authorization", format!("Bearer {}", token.access_token()))
        });
        let request = request.body(Vec::new()).expect("the address can be asked");
        self.resource_answer(&request).expect("a resource is there")
    }

    fn resource_answer(&mut self, request: &Request<Vec<u8>>) -> Option<Response<Vec<u8>>> {
        let (servers, now) = (&self.servers, self.now.wall);
        let resource = self.resources.iter_mut().find(|resource| resource.serves(request))?;
        Some(resource.answer(request, |token| {
            servers.iter().find_map(|server| Some((server.issuer().to_owned(), server.scopes_of(token, now)?)))
        }))
    }

    /// The first server, to look at or to change.
    pub fn server(&mut self) -> &mut Server {
        &mut self.servers[0]
    }

    /// Forgets what was asked for and what servers have seen, for runs that are long.
    pub fn forget(&mut self) {
        self.did.clear();
        self.servers.iter_mut().for_each(Server::forget_seen);
        self.google.iter_mut().for_each(Google::forget);
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        self.now.wall = self.now.wall + time;
        self.now.mono += time;
    }

    /// The next request fails at once and never reaches a server.
    pub fn fail(&mut self, failure: Failure) {
        self.fail_after(Duration::ZERO, failure);
    }

    /// The next request fails after this time and never reaches a server.
    pub fn fail_after(&mut self, time: Duration, failure: Failure) {
        self.failures.push_back((time, failure));
    }

    /// Whatever was asked for so far.
    pub fn did(&self) -> &[Did] {
        &self.did
    }

    /// The requests that were asked for so far.
    pub fn sent(&self) -> Vec<&Sent> {
        self.did.iter().filter_map(|did| if let Did::Http(sent) = did { Some(&**sent) } else { None }).collect()
    }

    /// The pauses that were asked for so far.
    pub fn slept(&self) -> Vec<Duration> {
        self.did.iter().filter_map(|did| if let Did::Sleep(time) = did { Some(*time) } else { None }).collect()
    }

    /// Everything that was asked for, to the byte.
    pub fn trace(&self) -> String {
        let mut text = String::new();
        for did in &self.did {
            let _ = match did {
                Did::Http(sent) => {
                    let headers: Vec<_> = sent.request.headers().iter().map(|(n, v)| (n, v.as_bytes())).collect();
                    let (request, body) = (&sent.request, sent.request.body());
                    let rules = (sent.at, sent.timeout, sent.max_body, sent.repeat, sent.reach, sent.start_before);
                    writeln!(text, "{} {} {headers:?} {body:?} {rules:?}", request.method(), request.uri())
                }
                other => writeln!(text, "{other:?}"),
            };
        }
        text
    }

    /// A context for the next call.
    pub fn cx(&mut self) -> Cx {
        self.seed = self.seed.wrapping_add(1);
        Cx::new(self.now, Sha256::digest(self.seed.to_be_bytes()).into())
    }

    /// Drives a machine to its end.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn run<M: Machine>(&mut self, machine: M) -> Result<M::Output, Error> {
        self.run_while(machine, |_| {})
    }

    /// Drives a machine to its end, while others do this after each effect.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn run_while<M: Machine>(
        &mut self,
        mut machine: M,
        mut others: impl FnMut(&mut Self),
    ) -> Result<M::Output, Error> {
        let mut reply = Reply::Start;
        for _ in 0..STEPS {
            let mut cx = self.cx();
            reply = match machine.resume(&mut cx, reply) {
                Step::Done(result) => return result,
                Step::Do(effect) => self.carry_out(effect),
            };
            others(self);
        }
        panic!("the machine does not end");
    }

    /// Signs in: the person consents, and the code that comes back is redeemed.
    pub fn sign_in(&mut self, request: AuthorizationRequest, client: &Client) -> Result<Token, Error> {
        let authorization = self.run(request.start())?;
        let redirect = self.person(&authorization.url);
        self.run(authorization.pending.finish(client, &redirect))
    }

    /// Where a person who opens this address is sent.
    ///
    /// # Panics
    ///
    /// If they are not sent anywhere.
    pub fn person(&mut self, url: &str) -> String {
        let response = self.open(url);
        match response.headers().get("location") {
            Some(location) => location.to_str().expect("an address").to_owned(),
            None => panic!("no redirect: {}", String::from_utf8_lossy(response.body())),
        }
    }

    /// A person enters the code that a device shows. Whether the page takes it.
    ///
    /// # Panics
    ///
    /// If there is no such page.
    pub fn enter_code(&mut self, verification_uri: &str, user_code: &str) -> bool {
        self.open(&with_code(verification_uri, user_code)).status().is_success()
    }

    /// What a browser gets at this address.
    ///
    /// # Panics
    ///
    /// If it cannot be opened.
    pub fn open(&mut self, url: &str) -> Response<Vec<u8>> {
        let request = Request::get(url).body(Vec::new()).expect("the address can be opened");
        let now = self.now.wall;
        let server = self.server_at(&request).expect("a server lives there");
        let Wire::Whole(response) = server.answer(now, &request).wire else { panic!("the browser got no answer") };
        response
    }

    fn server_at(&mut self, request: &Request<Vec<u8>>) -> Option<&mut Server> {
        let uri = request.uri();
        let origin = format!("{}://{}", uri.scheme_str()?, uri.authority()?);
        self.servers
            .iter_mut()
            .find(|server| server.origin() == origin || server.settings.mtls_origin.as_ref() == Some(&origin))
    }

    /// Does what a machine asks for, and says how it went.
    pub fn carry_out(&mut self, effect: Effect) -> Reply {
        let refused = self.refuse.contains(&effect.name());
        match effect {
            Effect::Http(call) => match self.documents.as_mut().map(|it| it.look(&call, self.now)) {
                Some(Look::Have(document)) => Reply::Http(document.response(self.now)),
                Some(Look::Failed(failure)) => Reply::Failed(failure),
                Some(Look::Fetch(ticket)) => self.read(call, ticket),
                Some(Look::Old(document, ticket)) => {
                    // Beside the run, which does not wait.
                    let now = self.now;
                    drop(self.read(call, ticket));
                    self.now = now;
                    Reply::Http(document.response(now))
                }
                Some(Look::Busy | Look::Send) | None => self.send(call, refused),
            },
            Effect::Sleep(time) => {
                self.did.push(Did::Sleep(time));
                if refused {
                    return Reply::Refused;
                }
                self.pass(time);
                Reply::Slept
            }
            Effect::ReadFile { path, max } => {
                self.did.push(Did::ReadFile(path.clone()));
                match self.files.get(&path) {
                    _ if refused => Reply::Refused,
                    None => Reply::Missing,
                    Some(content) if content.len() > max => {
                        Reply::Failed(Failure::not_sent(FailureKind::TooLarge, "the file is too large"))
                    }
                    Some(content) => Reply::File(content.clone()),
                }
            }
            Effect::Env(name) => {
                self.did.push(Did::Env(name));
                if refused { Reply::Refused } else { Reply::Env(self.env.get(name).cloned()) }
            }
            Effect::Exec(program) => {
                self.did.push(Did::Exec(program.path().to_owned()));
                if refused { Reply::Refused } else { self.exec(&program).map_or_else(Reply::Failed, Reply::Exec) }
            }
            other => {
                self.did.push(Did::Other(other.name()));
                Reply::Refused
            }
        }
    }

    /// Reads a public document for all who ask for it.
    fn read(&mut self, call: Call, ticket: Ticket) -> Reply {
        let refused = self.refuse.contains(&"Http");
        let outcome = match self.send(call, refused) {
            Reply::Http(response) => Ok(response),
            Reply::Failed(failure) => Err(failure),
            other => {
                if let Some(documents) = &mut self.documents {
                    documents.abandon(ticket);
                }
                return other;
            }
        };
        match self.documents.as_mut() {
            Some(documents) => documents.settle(ticket, self.now, outcome).map_or_else(Reply::Failed, Reply::Http),
            None => outcome.map_or_else(Reply::Failed, Reply::Http),
        }
    }

    fn send(&mut self, call: Call, refused: bool) -> Reply {
        let mut call = match call.open(self.rules) {
            Ok(call) => call,
            Err(failure) => return Reply::Failed(failure),
        };
        let sent = Sent {
            at: self.now,
            request: call.take_request(),
            timeout: call.timeout,
            max_body: call.max_body,
            repeat: call.repeat,
            reach: call.reach,
            start_before: call.start_before,
            identity: call.identity.clone(),
        };
        self.did.push(Did::Http(Box::new(sent.clone())));
        if refused { Reply::Refused } else { self.http(&call, &sent.request).map_or_else(Reply::Failed, Reply::Http) }
    }

    /// What an adapter does, without a process.
    fn exec(&mut self, program: &Program) -> Result<Exited, Failure> {
        let Some(prints) = self.programs.get(program.path()).cloned() else {
            return Err(Failure::not_sent(FailureKind::Program, "there is no such program"));
        };
        self.pass(prints.time.min(program.time()));
        if prints.time > program.time() {
            return Err(Failure::maybe_sent(FailureKind::Timeout, "the program was killed"));
        }
        if prints.stdout.len() > program.most_output() {
            return Err(Failure::maybe_sent(FailureKind::TooLarge, "too much output"));
        }
        Ok(Exited::new(prints.code, prints.stdout, prints.stderr))
    }

    /// What an adapter does, without a network.
    fn http(&mut self, call: &Open, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Failure> {
        if call.start_before.is_some_and(|moment| self.now.has_reached(moment)) {
            return Err(Failure::not_sent(FailureKind::Timeout, "the moment to begin has passed"));
        }
        if call.reach != Reach::Local && request.uri().scheme_str() != Some("https") {
            return Err(Failure::not_sent(FailureKind::Forbidden, "cleartext to a public address"));
        }
        if call.identity.is_some() && request.uri().scheme_str() != Some("https") {
            return Err(Failure::not_sent(FailureKind::Forbidden, "a certificate is presented over https alone"));
        }
        let host = request.uri().host().unwrap_or_default();
        let leads_to = self.addresses.get(host);
        let nowhere = leads_to.is_some_and(|all| !all.iter().any(|address| call.reach.permits_address(*address)));
        if nowhere || !call.reach.permits_host(host) {
            return Err(Failure::not_sent(FailureKind::Forbidden, "the host leads to no global address"));
        }
        let request = &match call.identity.as_ref().map(|identity| self.certificate(identity)).transpose()? {
            Some(certificate) => with_certificate(request, certificate),
            None => request.clone(),
        };
        if let Some((time, failure)) = self.failures.pop_front() {
            self.pass(time.min(call.timeout));
            return Err(failure);
        }
        let (arrival, latency) = (self.now.wall + self.latency / 2, self.latency);
        let answer = match &mut self.google {
            Some(google) if google.serves(request.uri()) => google.answer(arrival, request),
            _ if self.kms.serves(request.uri()) => self.kms.answer(arrival, request),
            _ => match (self.resource_answer(request), self.server_at(request)) {
                (Some(response), _) => Answer { delay: Duration::ZERO, wire: Wire::Whole(response) },
                (None, Some(server)) => server.answer(arrival, request),
                (None, None) => return Err(Failure::not_sent(FailureKind::Connect, "nobody listens there")),
            },
        };
        let broken = || Failure::maybe_sent(FailureKind::Broken, "the connection closed early");
        let large = || Failure::maybe_sent(FailureKind::TooLarge, "the body is larger than allowed");
        let mut time = latency + answer.delay;
        if let Wire::Dripping(response, pause) = &answer.wire {
            time += *pause * u32::try_from(response.body().len()).unwrap_or(u32::MAX);
        }
        if time > call.timeout {
            self.pass(call.timeout);
            return Err(Failure::maybe_sent(FailureKind::Timeout, "no answer in time"));
        }
        self.pass(time);
        match answer.wire {
            Wire::Whole(response) | Wire::Dripping(response, _) if response.body().len() <= call.max_body => {
                Ok(response)
            }
            Wire::Whole(_) | Wire::Dripping(..) | Wire::Endless => Err(large()),
            Wire::Truncated(_) | Wire::Dropped => Err(broken()),
        }
    }

    /// What an adapter presents in a handshake.
    fn certificate(&self, identity: &Identity) -> Result<ClientCertificate, Failure> {
        let named = identity.name().and_then(|name| self.identities.get(name));
        let pem = named.unwrap_or(identity).as_pem().and_then(|(chain, _)| ClientCertificate::from_pem(chain));
        pem.ok_or_else(|| Failure::not_sent(FailureKind::Tls, "the certificate cannot be used"))
    }
}

fn with_certificate(request: &Request<Vec<u8>>, certificate: ClientCertificate) -> Request<Vec<u8>> {
    let mut request = request.clone();
    request.extensions_mut().insert(certificate);
    request
}
