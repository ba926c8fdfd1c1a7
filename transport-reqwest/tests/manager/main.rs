//! Managers and pools, over real sockets and by the real clocks.

mod ending;
mod fetching;
mod pool;
mod undriven;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use grantflow::source::{Credential, GrantState, GrantStatus, Mint, Minting, TokenSource, Want};
use grantflow::{Advice, Cx, Error, ErrorKind, Machine, Reply, Step, Token, TokenRequest};
use grantflow_reqwest::{Change, TokenManager, TokenPool, Transport, grantflow};
use grantflow_tests::server::{Alter, RefreshTokens, Settings};
use grantflow_tests::{Fault, Front, Place, Server, demo};
use serde_json::Value;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn front(change: impl FnOnce(&mut Settings)) -> Front {
    Front::start(Server::demo().with(change)).unwrap()
}

/// A server that rotates refresh tokens and forgives nothing.
fn strict() -> Front {
    front(|settings| settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO })
}

fn batch(front: &Front) -> Credential {
    Credential::client_credentials(front.metadata(), &demo::batch())
}

/// What is left when alice has signed in: the request for it is the server's first.
async fn alice(front: &Front, scopes: &str) -> Credential {
    let request = TokenRequest::password(&front.metadata(), &demo::client(), "alice", "wonderland").unwrap();
    let token = transport().run(request.scopes(scopes).exchange()).await.unwrap();
    Credential::refresh_token(front.metadata(), &demo::client(), token.refresh_token().unwrap().clone())
}

fn transport() -> Transport {
    Transport::new().unwrap()
}

fn manager(front: &Front) -> TokenManager {
    TokenManager::new(&transport(), batch(front), read())
}

fn read() -> Want {
    Want::access_token("read")
}

fn requests(front: &Front) -> usize {
    front.server().seen_at(Place::Token).len()
}

fn fail(front: &Front, fault: Fault) {
    front.server().fail(Place::Token, fault);
}

fn threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The tokens of so many callers at once, and the longest time that one of them waited.
async fn ask(manager: &TokenManager, callers: usize) -> (Vec<Result<String, Error>>, Duration) {
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let manager = manager.clone();
        tasks.spawn(async move {
            let begin = Instant::now();
            let token = manager.token().await.map(|token| token.access_token().to_owned());
            (token, begin.elapsed())
        });
    }
    let (tokens, times): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().unzip();
    (tokens, times.into_iter().max().unwrap())
}

async fn text(manager: &TokenManager) -> String {
    manager.token().await.unwrap().access_token().to_owned()
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Waits until it is so.
async fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is() {
        assert!(Instant::now() < end, "{what}");
        sleep(millis(5)).await;
    }
}

/// A source of a test's own making: how long its tokens live, and who still knows it.
#[derive(Clone, Default)]
struct Own {
    minted: Arc<AtomicUsize>,
    panics: bool,
}

impl TokenSource for Own {
    fn mint(&self, _: &Want, _: &GrantState) -> Mint {
        assert!(!self.panics, "this panic is part of a test");
        Box::new(OwnMint(self.minted.fetch_add(1, Ordering::SeqCst)))
    }
}

struct OwnMint(usize);

impl Minting for OwnMint {}

impl Machine for OwnMint {
    type Output = Token;
    fn resume(&mut self, cx: &mut Cx, _: Reply) -> Step<Token> {
        let now = cx.now().wall;
        let token = Token::bearer(&format!("own-{}", self.0), now, Some(now + Duration::from_secs(60)));
        Step::Done(token)
    }
}
