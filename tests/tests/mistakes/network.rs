//! Mistakes that only a real network, real files and a real runtime can show. Both adapters make them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use grantflow::google::ServiceAccount;
use grantflow::source::Want;
use grantflow::store::{LoadGrant, RecordKey, SaveGrant};
use grantflow::{
    Client, ClientAuthentication, Error, ErrorKind, InstalledApp, Issuer, Machine, ServerMetadata, Timestamp, Token,
    TokenRequest,
};
use grantflow_ureq::grantflow_store::FileStore;
use grantflow_ureq::{Cancel, Limit};

use super::{Mistake, mistake};

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn server(origin: &str) -> ServerMetadata {
    let server = ServerMetadata::new(Issuer::new(origin).unwrap());
    let server = server.token_endpoint(&format!("{origin}/token")).unwrap();
    server.authorization_endpoint(&format!("{origin}/authorize")).unwrap()
}

fn request(origin: &str) -> impl Machine<Output = Token> + Send + 'static {
    let client = Client::new("app").authentication(ClientAuthentication::client_secret_post("secret"));
    let exchange = TokenRequest::client_credentials(&server(origin), &client).unwrap().exchange();
    exchange.total_time(Duration::from_millis(400))
}

fn app(port: u16) -> InstalledApp {
    let app = InstalledApp::new(&server("http://127.0.0.1:1"), &Client::new("app")).port(port);
    app.open_browser(false).show(|_| {}).timeout(Duration::from_millis(20))
}

fn key() -> RecordKey {
    RecordKey::new(&Issuer::new("https://as.example").unwrap(), &Client::new("app"), "alice")
}

fn load() -> LoadGrant {
    LoadGrant::new(key(), Want::default())
}

/// What the two adapters say; they say the same.
fn both(name: &'static str, ureq: Option<Error>, reqwest: Option<Error>) -> Mistake {
    let (ureq, reqwest) = (ureq.expect(name), reqwest.expect(name));
    println!("{name}\n    ureq:    {ureq}\n    reqwest: {reqwest}");
    assert_eq!((ureq.kind(), ureq.advice()), (reqwest.kind(), reqwest.advice()), "{name}: {ureq} | {reqwest}");
    mistake(name, ureq)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A machine on both adapters, bound to a store in this folder.
fn stored<M: Machine + Send>(name: &'static str, folder: &Path, machine: impl Fn() -> M) -> Mistake
where
    M::Output: Send,
{
    let store = || Arc::new(FileStore::new(folder));
    let ureq = grantflow_ureq::Transport::new().unwrap().with_store(store());
    let reqwest = grantflow_reqwest::Transport::new().unwrap().with_store(store());
    both(name, ureq.run(machine()).err(), runtime().block_on(reqwest.run(machine())).err())
}

fn run(name: &'static str, origin: &str, proxy: Option<&str>) -> Mistake {
    let (mut ureq, mut reqwest) = (grantflow_ureq::Transport::builder(), grantflow_reqwest::Transport::builder());
    if let Some(proxy) = proxy {
        (ureq, reqwest) = (ureq.proxy(proxy), reqwest.proxy(proxy));
    }
    let (ureq, reqwest) = (ureq.build().unwrap(), reqwest.build().unwrap());
    both(name, ureq.run(request(origin)).err(), runtime().block_on(reqwest.run(request(origin))).err())
}

/// An address with https, where a server answers each connection in cleartext, to the end of the program.
fn no_tls() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let _ = socket.read(&mut [0; 1024]).and_then(|_| socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    format!("https://127.0.0.1:{port}")
}

fn stores() -> Vec<Mistake> {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, mode: u32| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let token = || Token::bearer("x", Timestamp::from_unix(1_795_176_000), None).unwrap();
    let save = || SaveGrant::new(key(), Want::default(), &token());
    let (loose, damaged) = (make("loose", 0o755), make("damaged", 0o700));
    let record = damaged.join(format!("{}.grant", key().name()));
    fs::write(&record, "nonsense").unwrap();
    fs::set_permissions(&record, fs::Permissions::from_mode(0o600)).unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let open = make("open", 0o700);
    let record = open.join(format!("{}.grant", key().name()));
    fs::write(&record, "nonsense").unwrap();
    fs::set_permissions(&record, fs::Permissions::from_mode(0o644)).unwrap();
    vec![
        stored("a directory of grants that others may use", &loose, load),
        stored("a record that others may read", &open, load),
        stored("a damaged record", &damaged, load),
        stored("a file in the place of the directory of grants", &file, load),
        // Not even root may write there.
        stored("a directory where nothing can be written", Path::new("/proc/grants"), save),
        stored("the text of a token in the place of a directory", Path::new("ya29.a0AfH6SMBexample"), load),
        stored("a key file in the place of a directory", Path::new("/dev/null"), load),
    ]
}

pub(crate) fn all() -> Vec<Mistake> {
    let free = free_port();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ureq = grantflow_ureq::Transport::new().unwrap();
    let reqwest = grantflow_reqwest::Transport::new().unwrap();
    // It accepts nobody, to the end of the program.
    let silent: &'static TcpListener = Box::leak(Box::new(TcpListener::bind("127.0.0.1:0").unwrap()));
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let directory = || ServiceAccount::read("/");
    let cancel = Cancel::new();
    cancel.cancel();
    let cancelled = ureq.run_until(request(&silent), &Limit::new().cancel(&cancel)).err().unwrap();
    let ureq_builder = grantflow_ureq::Transport::builder;
    let reqwest_builder = grantflow_reqwest::Transport::builder;
    let wrong_key = "-----BEGIN PRIVATE KEY-----\nAAEC\n-----END PRIVATE KEY-----\n";
    let nowhere = match pin!(reqwest.run(request(&silent))).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result.err().unwrap(),
        Poll::Pending => panic!("it waits"),
    };
    let pools = {
        let (one, other) = (grantflow_ureq::TokenPool::new(&ureq), runtime());
        let guard = other.enter();
        let two = grantflow_reqwest::TokenPool::new(&reqwest);
        drop(guard);
        both(
            "a name that a pool does not know",
            one.manager("bob", Want::default()).err(),
            two.manager("bob", Want::default()).err(),
        )
    };
    let no_store = both(
        "a sign-in to be kept without a store",
        ureq.load_or_sign_in(&app(0), "").err(),
        runtime().block_on(reqwest.load_or_sign_in(&app(0), "")).err(),
    );
    let mut all = vec![
        run("nobody listens", &format!("http://127.0.0.1:{free}"), None),
        run("a proxy that nobody listens at", "https://as.example", Some(&format!("http://127.0.0.1:{free}"))),
        run("a server that says nothing", &silent, None),
        run("TLS where there is none", &no_tls(), None),
        both(
            "a port that is taken",
            ureq.sign_in(&app(port)).err(),
            runtime().block_on(reqwest.sign_in(&app(port))).err(),
        ),
        both("nobody signs in", ureq.sign_in(&app(0)).err(), runtime().block_on(reqwest.sign_in(&app(0))).err()),
        both(
            "a directory in the place of a file",
            ureq.run(directory()).err(),
            runtime().block_on(reqwest.run(directory())).err(),
        ),
        mistake("a run that was cancelled", cancelled),
        mistake("a run outside of a runtime", nowhere),
        both(
            "an address of a proxy that is none",
            ureq_builder().proxy("ftp://x").build().err(),
            reqwest_builder().proxy("ftp://x").build().err(),
        ),
        both(
            "a user agent with a line break",
            ureq_builder().user_agent("a\nb").build().err(),
            reqwest_builder().user_agent("a\nb").build().err(),
        ),
        both(
            "a key in the place of a root certificate",
            ureq_builder().root_certificate_pem(wrong_key.as_bytes()).build().err(),
            reqwest_builder().root_certificate_pem(wrong_key.as_bytes()).build().err(),
        ),
        pools,
        no_store,
    ];
    assert!(all.iter().all(|mistake| mistake.error.kind() != ErrorKind::Entropy));
    all.extend(stores());
    all
}
