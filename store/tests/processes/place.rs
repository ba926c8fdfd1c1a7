//! A store, a server, and the processes that use both.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use grantflow_store::grantflow::crypto::{SealingKey, SealingKeys};
use grantflow_store::grantflow::source::Want;
use grantflow_store::grantflow::store::{DpopKeyInStore, LoadGrant, RecordKey, SaveGrant, SavedGrant};
use grantflow_store::grantflow::{Client, Issuer, ServerMetadata, Token, TokenRequest};
use grantflow_store::{FileStore, PostgresStore, RedisStore, Sealed, Store};
use grantflow_ureq::Transport;

/// Longer than any process of ours takes for anything.
const PATIENCE: Duration = Duration::from_secs(240);

/// The store `file:DIRECTORY`, or one at an address of Redis or PostgreSQL; behind `sealed:FILE ` sealed by the keys in
/// that file.
pub(crate) fn open(store: &str) -> Opened {
    let sealed = store.strip_prefix("sealed:").and_then(|rest| rest.split_once(' '));
    let below = match sealed.map_or(store, |(_, below)| below) {
        store if store.starts_with("file:") => Arc::new(FileStore::new(&store[5..])) as Arc<dyn Store>,
        store if store.starts_with("redis:") => Arc::new(RedisStore::new(store).unwrap()),
        store => Arc::new(PostgresStore::new(store).unwrap()),
    };
    let Some((file, _)) = sealed else { return Opened { store: below, keys: None } };
    let sealed = Sealed::new(below, keys_in(file));
    Opened { store: Arc::new(sealed.clone()), keys: Some((file.to_owned(), sealed)) }
}

/// A store, and where its keys are read from.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    keys: Option<(String, Sealed<Arc<dyn Store>>)>,
}

impl Opened {
    /// Reads its keys again, as a service does that is told of new ones.
    pub(crate) fn read_keys(&self) {
        if let Some((file, sealed)) = &self.keys {
            sealed.set_keys(keys_in(file));
        }
    }
}

/// The keys whose ids are in a file, the newest first.
fn keys_in(file: &str) -> SealingKeys {
    let text = std::fs::read_to_string(file).unwrap();
    let mut keys = text.split_whitespace().map(|id| {
        let bytes: Vec<u8> = (0..32).map(|i| i ^ id.as_bytes()[0]).collect();
        SealingKey::new(id, &bytes).unwrap()
    });
    let newest = SealingKeys::new(keys.next().unwrap());
    keys.fold(newest, SealingKeys::and_open)
}

pub(crate) fn issuer(issuer: &str) -> Issuer {
    Issuer::new(issuer).unwrap()
}

pub(crate) fn key(issuer: &str, client: &str, label: &str) -> RecordKey {
    RecordKey::new(&self::issuer(issuer), &Client::new(client), label)
}

/// The label of the grant that is bound to the key of the store (RFC 9449).
pub(crate) const BOUND: &str = "bound";

/// The pace of a process that says which key it has, and ends.
pub(crate) const KEY: &str = "key";

/// The client, with the key of the store if its grant is bound to that.
pub(crate) fn client(id: &str, at: &str, label: &str, transport: &Transport) -> Client {
    let client = Client::new(id);
    match label {
        BOUND => {
            let key = transport.run(DpopKeyInStore::new(&issuer(at), &client)).unwrap();
            client.dpop(key)
        }
        _ => client,
    }
}

/// One person's grant.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) store: String,
    pub(crate) issuer: String,
    pub(crate) endpoint: String,
    pub(crate) client: String,
    pub(crate) label: String,
    pub(crate) transport: Transport,
    pub(crate) opened: Arc<Opened>,
}

impl Place {
    pub(crate) fn new(store: &str, issuer: &str, label: &str) -> Self {
        let opened = Arc::new(open(store));
        let transport = Transport::new().unwrap().with_store(opened.store.clone());
        let endpoint = format!("{issuer}/token");
        let (store, issuer, label) = (store.to_owned(), issuer.to_owned(), label.to_owned());
        Self { store, issuer, endpoint, client: "demo".into(), label, transport, opened }
    }

    /// Reads the keys again by which the grant is sealed.
    pub(crate) fn read_keys(&self) {
        self.opened.read_keys();
    }

    pub(crate) fn key(&self) -> RecordKey {
        key(&self.issuer, &self.client, &self.label)
    }

    /// The person signs in, and the grant is kept.
    pub(crate) fn sign_in(&self) {
        let server = ServerMetadata::new(issuer(&self.issuer)).token_endpoint(&self.endpoint).unwrap();
        let request = TokenRequest::password(&server, &self.client(), "alice", "wonderland").unwrap();
        self.keep(&self.transport.run(request.exchange()).unwrap());
    }

    pub(crate) fn client(&self) -> Client {
        client(&self.client, &self.issuer, &self.label, &self.transport)
    }

    pub(crate) fn keep(&self, token: &Token) {
        self.transport.run(SaveGrant::new(self.key(), Want::access_token(""), token)).unwrap();
    }

    /// What is kept, which must be readable.
    pub(crate) fn saved(&self) -> SavedGrant {
        self.transport.run(LoadGrant::new(self.key(), Want::access_token(""))).unwrap().expect("it was kept")
    }

    pub(crate) fn version(&self) -> u64 {
        open(&self.store).store.load(&self.key()).unwrap().expect("it was kept").version
    }

    /// A process that asks for so many tokens.
    pub(crate) fn process(&self, pace: &str, count: u64) -> Process {
        let Self { store, issuer, endpoint, client, label, .. } = self;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["child", store, issuer, endpoint, client, label, pace, &count.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let (say, heard) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = say.send(line);
            }
        });
        let process = Process { child, stdin, heard };
        assert_eq!(process.hear().as_deref(), Some("ready"));
        process
    }
}

/// A process that asks for tokens. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    heard: Receiver<String>,
}

/// How a process ended.
#[derive(Debug, PartialEq)]
pub(crate) enum End {
    /// With these tokens.
    Done(Vec<String>),
    /// The grant is gone: the person must sign in again.
    Lost(String),
}

impl Process {
    fn hear(&self) -> Option<String> {
        self.heard.recv_timeout(PATIENCE).ok()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Lets it end after what it does now.
    pub(crate) fn enough(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end. Nothing may go wrong, but that the grant is lost.
    pub(crate) fn end(self) -> End {
        self.end_with(|line| panic!("{line}"))
    }

    /// Waits for its end, and hands on what goes wrong.
    pub(crate) fn end_with(mut self, mut trouble: impl FnMut(&str)) -> End {
        let mut tokens = Vec::new();
        while let Some(line) = self.hear() {
            match line.split_once(' ') {
                Some(("token", token)) => tokens.push(token.to_owned()),
                Some(("lost", why)) => return End::Lost(why.to_owned()),
                _ => trouble(&line),
            }
        }
        assert!(self.child.wait().unwrap().success(), "it ended after {} tokens", tokens.len());
        End::Done(tokens)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
