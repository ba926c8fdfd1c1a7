//! Managers and pools, over real sockets and by the real clocks.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use grantflow::source::{Credential, GrantState, Mint, Minted, TokenSource, Want};
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
    Credential::signed_in(front.metadata(), &demo::client(), &token).unwrap()
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

impl Machine for OwnMint {
    type Output = Minted;
    fn resume(&mut self, cx: &mut Cx, _: Reply) -> Step<Minted> {
        let now = cx.now().wall;
        let token = Token::bearer(&format!("own-{}", self.0), now, Some(now + Duration::from_secs(60)));
        Step::Done(token.map(Minted::from))
    }
}

#[test]
fn what_is_shared_can_be_sent_to_other_threads() {
    fn shared<T: Clone + Send + Sync>(_: &T) {}
    fn sent<T: Send>(_: &T) {}
    let front = front(|_| {});
    let (manager, pool) = (manager(&front), TokenPool::new(&transport()));
    shared(&manager);
    shared(&pool);
    let mut request = http::Request::new(());
    sent(&manager.token());
    sent(&manager.authorize(&mut request));
    sent(&manager.shutdown());
    sent(&pool.token("name", &read()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_without_a_token_make_one_request() {
    let front = front(|settings| settings.lifetime = 2);
    let manager = manager(&front);
    for round in 1..=2 {
        fail(&front, Fault::Delay(millis(200)));
        let (tokens, longest) = ask(&manager, 1000).await;
        let tokens: HashSet<_> = tokens.into_iter().map(Result::unwrap).collect();
        assert_eq!((tokens.len(), requests(&front)), (1, round));
        assert!(longest < millis(1000), "{longest:?}");
        // In the second round the token has just expired. Asked for no more, it was not refreshed before.
        manager.invalidate(&manager.token().await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_token_is_due_and_valid_one_request_is_made_and_nobody_waits() {
    let front = front(|settings| settings.lifetime = 4);
    let builder = TokenManager::builder(&transport()).margin(Duration::from_secs(3)).background_refresh(false);
    let manager = builder.build(batch(&front), read());
    let old = text(&manager).await;
    assert!(manager.fresh().is_some());
    sleep(millis(2100)).await;
    assert!(manager.fresh().is_none(), "it is due");
    fail(&front, Fault::Delay(millis(500)));
    let (tokens, longest) = ask(&manager, 1000).await;
    assert!(tokens.iter().all(|token| token.as_ref().unwrap() == &old));
    assert!(longest < millis(400), "{longest:?}");
    until("the refresh is done", || manager.fresh().is_some()).await;
    assert_eq!(requests(&front), 2);
    assert_ne!(text(&manager).await, old);
}

#[tokio::test]
async fn a_failed_refresh_never_replaces_a_valid_token() {
    let front = front(|settings| settings.lifetime = 3);
    let manager = TokenManager::builder(&transport()).background_refresh(false).build(batch(&front), read());
    let old = text(&manager).await;
    for _ in 0..4 {
        fail(&front, Fault::status(400, r#"{"error":"invalid_client"}"#));
    }
    let error = manager.force_refresh().await.unwrap_err();
    assert_eq!(error.server().map(|server| server.error()), Some("invalid_client"));
    assert_eq!(text(&manager).await, old);
    sleep(millis(2400)).await;
    assert_eq!(text(&manager).await, old, "it is due, and the refresh that fails does not matter");
    until("the second failure", || requests(&front) == 3).await;
    assert!(manager.status().last_error.is_some());
    sleep(millis(700)).await;
    let (results, _) = ask(&manager, 100).await;
    assert!(results.iter().all(|result| matches!(result, Err(error) if error.kind() == ErrorKind::Server)));
    assert!(requests(&front) <= 4, "there is a pause between failures");
    // The faults that are left are used up, and all is well again.
    front.server().settings.lifetime = 60;
    while manager.force_refresh().await.is_err() {}
    assert_ne!(text(&manager).await, old);
    assert!(manager.status().last_error.is_none());
}

#[tokio::test]
async fn a_permanent_failure_is_told_at_once_and_ends_as_the_credential_is_replaced() {
    let front = strict();
    let good = alice(&front, "read").await;
    let bad = Credential::refresh_token(front.metadata(), &demo::client(), "never given");
    let manager = TokenManager::new(&transport(), bad, read());
    assert_eq!(manager.start().await.unwrap_err().advice(), Some(Advice::SignInAgain));
    for _ in 0..3 {
        let (results, longest) = ask(&manager, 100).await;
        assert!(results.iter().all(|result| result.as_ref().unwrap_err().kind() == ErrorKind::Server));
        assert!(longest < millis(500), "{longest:?}");
    }
    assert_eq!(requests(&front), 2, "one for the sign-in, one that failed");
    assert_eq!(manager.status().next_refresh, None);
    manager.replace(good);
    assert!(manager.status().last_error.is_none());
    text(&manager).await;
}

#[tokio::test]
async fn what_a_replaced_credential_mints_late_is_neither_handed_out_nor_told() {
    let front = front(|_| {});
    let manager = manager(&front);
    let mut changes = manager.subscribe();
    fail(&front, Fault::Delay(millis(300)));
    let waiting = tokio::spawn({
        let manager = manager.clone();
        async move { text(&manager).await }
    });
    until("the old exchange is under way", || requests(&front) == 1).await;
    manager.replace(Own::default());
    assert_eq!(waiting.await.unwrap(), "own-0");
    sleep(millis(500)).await;
    assert_eq!(text(&manager).await, "own-0");
    assert_eq!(changes.next().await.unwrap().outcome.unwrap().token.access_token(), "own-0");
    timeout(millis(10), changes.next()).await.unwrap_err();
}

#[tokio::test]
async fn a_401_rejects_one_generation_only() {
    let front = front(|_| {});
    let manager = manager(&front);
    let old = manager.token().await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let (manager, old) = (manager.clone(), old.clone());
        tasks.spawn(async move {
            assert!(manager.invalidate(&old));
            text(&manager).await
        });
    }
    let new: HashSet<_> = tasks.join_all().await.into_iter().collect();
    assert_eq!((new.len(), requests(&front)), (1, 2));
    assert!(!new.contains(old.access_token()));
    assert!(manager.invalidate(&old), "there is a later one already");
    assert!(new.contains(&text(&manager).await));
    let later = manager.token().await.unwrap();
    assert!(!manager.invalidate(&later), "tokens do not seem to be the matter");
    assert!(new.contains(&text(&manager).await));
    assert_eq!(requests(&front), 2);
}

#[tokio::test]
async fn dropping_the_caller_tears_nothing() {
    let front = strict();
    let manager = TokenManager::new(&transport(), alice(&front, "read").await, read());
    let before = manager.grant_state().refresh_token().unwrap().clone();
    fail(&front, Fault::Delay(millis(300)));
    timeout(millis(100), manager.token()).await.unwrap_err();
    assert!(manager.status().refreshing);
    until("the refresh goes on", || manager.fresh().is_some()).await;
    assert_eq!(requests(&front), 2);
    let state = manager.grant_state();
    assert!(!state.refresh_token().unwrap().matches(before.expose()), "the new refresh token was kept");
    manager.force_refresh().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_wants_of_a_rotating_grant_send_the_same_refresh_token() {
    let front = strict();
    let pool = TokenPool::new(&transport());
    pool.add("alice", alice(&front, "read write").await).unwrap();
    let managers: Vec<_> = ["", "read", "write", "read write"]
        .map(|scopes| pool.manager("alice", Want::access_token(scopes)).unwrap())
        .into();
    for _ in 0..5 {
        let mut tasks = JoinSet::new();
        for manager in &managers {
            let manager = manager.clone();
            tasks.spawn(async move { manager.force_refresh().await.map(drop) });
        }
        tasks.join_all().await.into_iter().collect::<Result<(), _>>().unwrap();
    }
    let server = front.server();
    let sent: Vec<_> = server.seen_at(Place::Token).iter().filter_map(|seen| seen.param("refresh_token")).collect();
    assert_eq!((sent.len(), sent.iter().collect::<HashSet<_>>().len()), (20, 20));
}

#[tokio::test]
async fn a_valid_token_is_served_at_once_while_another_want_is_being_fetched() {
    let front = front(|_| {});
    let pool = TokenPool::new(&transport());
    pool.add("batch", batch(&front)).unwrap();
    pool.token("batch", &read()).await.unwrap();
    fail(&front, Fault::Delay(millis(500)));
    let other = pool.clone();
    let slow = tokio::spawn(async move { other.token("batch", &Want::access_token("write")).await.map(drop) });
    until("the other request is under way", || requests(&front) == 2).await;
    let begin = Instant::now();
    pool.token("batch", &read()).await.unwrap();
    assert!(begin.elapsed() < millis(100), "{:?}", begin.elapsed());
    assert!(!slow.is_finished());
    slow.await.unwrap().unwrap();
}

#[tokio::test]
async fn no_two_wants_share_a_token() {
    let front = front(|settings| settings.extra_params = vec!["audience", "resource"]);
    let pool = TokenPool::new(&transport());
    pool.add("one", batch(&front)).unwrap();
    pool.add("two", batch(&front)).unwrap();
    let wants = [
        Want::access_token(""),
        read(),
        Want::access_token(["write", "write"]),
        Want::access_token(["read", "read", "email", "email"]),
        read().audience("https://a.example"),
        read().resource("https://a.example"),
    ];
    let mut tokens = HashSet::new();
    for name in ["one", "two"] {
        for want in &wants {
            tokens.insert(pool.token(name, want).await.unwrap().access_token().to_owned());
        }
    }
    assert_eq!((tokens.len(), pool.len()), (12, 12));
    let again = pool.token("one", &Want::access_token("email read")).await.unwrap();
    assert!(tokens.contains(again.access_token()), "the same want in other words");
    let alice = pool.token("one", &read().subject("alice")).await.unwrap_err();
    assert_eq!(alice.kind(), ErrorKind::Config, "this credential can act for nobody else");
}

#[tokio::test]
async fn what_is_in_use_is_refreshed_in_the_background_and_what_is_not_ends() {
    let front = front(|settings| settings.lifetime = 2);
    let manager = manager(&front);
    let before = tasks();
    let old = text(&manager).await;
    assert!(manager.status().next_refresh.is_some());
    until("it is refreshed before its end", || requests(&front) == 2).await;
    until("the new one is there", || manager.status().next_refresh.is_some()).await;
    sleep(millis(2200)).await;
    assert_eq!(requests(&front), 2, "nobody asked for the second one");
    assert_eq!(tasks(), before, "there is nothing to do");
    let new = text(&manager).await;
    assert_ne!(new, old);
    assert_eq!(requests(&front), 3);
}

#[tokio::test]
async fn what_is_due_sooner_than_the_rest_is_refreshed_sooner() {
    let front = front(|settings| settings.lifetime = 2);
    let pool = TokenPool::new(&transport());
    pool.add("in a minute", Own::default()).unwrap();
    pool.add("in a second", batch(&front)).unwrap();
    for name in ["in a minute", "in a second"] {
        pool.token(name, &read()).await.unwrap();
    }
    until("it is refreshed", || requests(&front) == 2).await;
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_background_task() {
    let front = front(|_| {});
    let before = tasks();
    let manager = manager(&front);
    manager.start().await.unwrap();
    until("only the background task is left", || tasks() == before + 1).await;
    let mut changes = manager.subscribe();
    let other = manager.clone();
    drop(manager);
    sleep(millis(50)).await;
    assert_eq!(tasks(), before + 1, "there is another handle");
    other.token().await.unwrap();
    drop(other);
    until("the task ends", || tasks() == before).await;
    assert!(changes.next().await.is_none());
}

#[test]
fn dropping_the_last_handle_waits_for_a_rotating_exchange_under_way_and_for_nothing_else() {
    for (rotating, local) in [(true, false), (true, true), (false, false)] {
        let front = strict();
        let kept = Arc::new(Mutex::new(None));
        let runtime = threads();
        let credential = if rotating { runtime.block_on(alice(&front, "read")) } else { batch(&front) };
        let keep = kept.clone();
        let builder = TokenManager::builder(&transport()).on_change(move |change: &Change| {
            *keep.lock().unwrap() = change.outcome.as_ref().ok().map(|issued| issued.token.clone());
        });
        let manager = builder.build(credential, read());
        let before = requests(&front);
        fail(&front, Fault::Delay(millis(400)));
        runtime.block_on(async {
            timeout(millis(50), manager.token()).await.unwrap_err();
            until("the exchange is under way", || requests(&front) > before).await;
        });
        let begin = Instant::now();
        runtime.block_on(async move {
            // Within a `LocalSet` a thread is blocked in another way.
            if local { LocalSet::new().run_until(async { drop(manager) }).await } else { drop(manager) }
        });
        if rotating {
            assert!(begin.elapsed() > millis(200), "{:?}", begin.elapsed());
            let kept = kept.lock().unwrap();
            let token = kept.as_ref().expect("whoever keeps refresh tokens was told the new one");
            let request = TokenRequest::refresh(&front.metadata(), &demo::client(), token).unwrap();
            runtime.block_on(transport().run(request.exchange())).unwrap();
        } else {
            assert!(begin.elapsed() < millis(200), "{:?}", begin.elapsed());
        }
    }
}

#[tokio::test]
async fn a_callback_that_panics_changes_nothing() {
    let front = front(|_| {});
    let builder = TokenManager::builder(&transport()).on_change(|_| panic!("this panic is part of a test"));
    let manager = builder.build(batch(&front), read());
    let mut changes = manager.subscribe();
    for _ in 0..3 {
        let token = manager.force_refresh().await.unwrap();
        let change = changes.next().await.unwrap();
        assert_eq!(change.outcome.unwrap().token.access_token(), token.access_token());
    }
    fail(&front, Fault::status(400, r#"{"error":"invalid_client"}"#));
    manager.force_refresh().await.unwrap_err();
    let change = changes.next().await.unwrap();
    assert_eq!((change.want, change.outcome.unwrap_err().kind()), (read(), ErrorKind::Server));
    manager.token().await.unwrap();
}

#[tokio::test]
async fn a_source_that_panics_is_an_error_and_is_not_asked_again_and_again() {
    let source = Own { panics: true, ..Own::default() };
    let manager = TokenManager::new(&transport(), source, read());
    let (results, _) = ask(&manager, 10).await;
    assert!(results.iter().all(|result| result.as_ref().unwrap_err().kind() == ErrorKind::Misuse));
    manager.replace(Own::default());
    assert_eq!(text(&manager).await, "own-0");
}

#[test]
fn a_manager_is_built_outside_of_any_runtime_and_outlives_several() {
    let front = front(|settings| settings.lifetime = 2);
    let manager = manager(&front);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let polled = std::pin::pin!(manager.token()).poll(&mut cx);
    let std::task::Poll::Ready(Err(error)) = polled else { panic!("{polled:?}") };
    assert_eq!(error.kind(), ErrorKind::Misuse);
    let token = threads().block_on(text(&manager));
    assert_eq!(manager.fresh().unwrap().access_token(), token);
    // The first runtime is gone, and with it the background task. So is this refresh.
    fail(&front, Fault::Delay(millis(300)));
    threads().block_on(async { timeout(millis(100), manager.force_refresh()).await }).unwrap_err();
    let runtime = threads();
    runtime.block_on(manager.force_refresh()).unwrap();
    runtime.block_on(async {
        manager.token().await.unwrap();
        let before = requests(&front);
        until("the new runtime's background task refreshes", || requests(&front) > before).await;
    });
}

#[test]
fn an_exchange_torn_off_with_its_runtime_is_tried_once_more_and_whoever_was_queued_gets_a_turn() {
    let front = front(|settings| settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::from_secs(30) });
    let pool = TokenPool::new(&transport());
    let first = threads();
    pool.add("alice", first.block_on(alice(&front, "read write"))).unwrap();
    let wants = ["read", "write", "read write"].map(Want::access_token);
    fail(&front, Fault::Delay(millis(300)));
    first.block_on(async {
        for want in wants.clone() {
            let pool = pool.clone();
            tokio::spawn(async move { pool.token("alice", &want).await.map(drop) });
        }
        until("the first exchange is under way", || requests(&front) == 2).await;
    });
    let second = threads();
    let (other, want) = (pool.clone(), wants[0].clone());
    let waiting = second.spawn(async move { other.token("alice", &want).await.map(drop) });
    second.block_on(async { sleep(millis(50)).await });
    drop(first);
    second.block_on(async { timeout(Duration::from_secs(5), waiting).await }).unwrap().unwrap().unwrap();
    for want in &wants {
        second.block_on(async { timeout(Duration::from_secs(5), pool.token("alice", want)).await }).unwrap().unwrap();
    }
    let server = front.server();
    let sent: Vec<_> = server.seen_at(Place::Token).iter().filter_map(|seen| seen.param("refresh_token")).collect();
    assert!(sent.len() == 4 && sent[0] == sent[1] && sent[1] != sent[2] && sent[2] != sent[3]);
}

#[test]
fn a_refresh_token_whose_fate_is_not_known_is_sent_twice_and_no_more() {
    let front = strict();
    let manager = TokenManager::new(&transport(), threads().block_on(alice(&front, "read")), read());
    for attempt in 2..=3 {
        fail(&front, Fault::Delay(millis(300)));
        threads().block_on(async {
            timeout(millis(50), manager.token()).await.unwrap_err();
            until("the exchange is under way", || requests(&front) == attempt).await;
        });
    }
    let error = threads().block_on(async { manager.token().await.map(drop) }).unwrap_err();
    assert_eq!((error.kind(), error.advice()), (ErrorKind::GrantLost, Some(Advice::SignInAgain)));
    assert_eq!(requests(&front), 3);
}

#[tokio::test]
async fn what_is_queued_does_not_begin_after_the_end() {
    let front = strict();
    let pool = TokenPool::new(&transport());
    pool.add("alice", alice(&front, "read write").await).unwrap();
    fail(&front, Fault::Delay(millis(300)));
    let mut tasks = JoinSet::new();
    for scopes in ["read", "write"] {
        let pool = pool.clone();
        tasks.spawn(async move { pool.token("alice", &Want::access_token(scopes)).await.map(drop) });
    }
    until("one exchange is under way", || requests(&front) == 2).await;
    pool.shutdown().await;
    assert!(tasks.join_all().await.iter().all(|result| result.as_ref().unwrap_err().kind() == ErrorKind::Cancelled));
    sleep(millis(200)).await;
    assert_eq!(requests(&front), 2);
}

#[tokio::test]
async fn a_token_that_never_expires_is_fresh_until_it_is_rejected() {
    let front = front(|settings| settings.alter_token = Alter::set("expires_in", Value::Null));
    let manager = manager(&front);
    let token = manager.token().await.unwrap();
    let status = manager.status();
    assert_eq!((status.expires_at, status.next_refresh, status.refreshing), (None, None, false));
    assert_eq!(text(&manager).await, token.access_token());
    assert!(manager.invalidate(&token));
    assert!(manager.fresh().is_none());
    assert_ne!(text(&manager).await, token.access_token());
    assert_eq!(requests(&front), 2);
}

#[tokio::test]
async fn a_bounded_pool_forgets_the_oldest_that_nobody_uses() {
    let front = front(|settings| settings.extra_params = vec!["audience"]);
    let pool = TokenManager::builder(&transport()).max_wants(4).build_pool();
    pool.add("batch", batch(&front)).unwrap();
    let want = |audience: &str| read().audience(audience);
    let held = pool.manager("batch", want("held")).unwrap();
    let kept = text(&held).await;
    // Each with the requests that it makes. For d, a is forgotten, the oldest; for e it is c, since b was used.
    for (audience, more) in [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("b", 0), ("e", 1), ("b", 0), ("c", 1)] {
        let before = requests(&front);
        pool.token("batch", &want(audience)).await.unwrap();
        assert_eq!(requests(&front) - before, more, "{audience}");
        assert!(pool.len() <= 4);
    }
    assert_eq!(text(&held).await, kept);
}

#[tokio::test]
async fn removed_credentials_are_forgotten() {
    let pool = TokenPool::new(&transport());
    let source = Own::default();
    pool.add("name", source.clone()).unwrap();
    assert_eq!(pool.add("name", source.clone()).unwrap_err().kind(), ErrorKind::Config, "there is one");
    let manager = pool.manager("name", read()).unwrap();
    let mut one = pool.token("name", &read()).await.unwrap();
    assert!(pool.remove("name") && !pool.remove("name"));
    assert_eq!((pool.len(), pool.is_empty()), (0, true));
    assert_eq!(pool.token("name", &read()).await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(manager.token().await.unwrap_err().kind(), ErrorKind::Config);
    pool.add("name", source.clone()).unwrap();
    one = std::mem::replace(&mut one, pool.token("name", &read()).await.unwrap());
    assert_eq!(one.access_token(), "own-0");
    pool.replace("name", source.clone()).unwrap();
    assert_eq!(pool.token("name", &read()).await.unwrap().access_token(), "own-2");
    assert_eq!(pool.replace("other", source.clone()).unwrap_err().kind(), ErrorKind::Config);
    drop(manager);
    pool.remove("name");
    until("nobody knows the source any more", || Arc::strong_count(&source.minted) == 1).await;
    pool.add("name", source.clone()).unwrap();
    pool.token("name", &read()).await.unwrap();
    drop(pool);
    until("it is forgotten with the pool too", || Arc::strong_count(&source.minted) == 1).await;
}

#[tokio::test]
async fn after_shutdown_there_are_no_tokens_and_no_refresh_token_is_lost() {
    let front = strict();
    let manager = TokenManager::new(&transport(), alice(&front, "read").await, read());
    fail(&front, Fault::Delay(millis(300)));
    let waiting = tokio::spawn({
        let manager = manager.clone();
        async move { manager.token().await.map(drop) }
    });
    until("the exchange is under way", || requests(&front) == 2).await;
    let mut changes = manager.subscribe();
    let begin = Instant::now();
    manager.shutdown().await;
    assert!(begin.elapsed() > millis(100), "{:?}", begin.elapsed());
    assert!(changes.next().await.is_none());
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(manager.token().await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(manager.force_refresh().await.unwrap_err().kind(), ErrorKind::Cancelled);
    let state = manager.grant_state();
    let newest = state.refresh_token().unwrap().clone();
    let again =
        TokenManager::new(&transport(), Credential::refresh_token(front.metadata(), &demo::client(), newest), read());
    again.start().await.unwrap();
}

#[tokio::test]
async fn a_pool_goes_on_as_one_of_its_managers_is_shut_down_until_it_is_shut_down_itself() {
    let pool = TokenPool::new(&transport());
    pool.add("own", Own::default()).unwrap();
    let (one, other) = (pool.manager("own", read()).unwrap(), pool.manager("own", Want::default()).unwrap());
    one.start().await.unwrap();
    other.start().await.unwrap();
    one.shutdown().await;
    one.token().await.unwrap_err();
    other.token().await.unwrap();
    assert_eq!(pool.token("own", &read()).await.unwrap().access_token(), "own-2");
    pool.shutdown().await;
    assert_eq!(other.token().await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(pool.token("own", &read()).await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(pool.manager("own", read()).unwrap_err().kind(), ErrorKind::Cancelled);
}

#[tokio::test]
async fn headers_are_for_bearer_tokens_and_a_request_that_gets_none_stays_as_it_was() {
    let front = front(|_| {});
    let manager = manager(&front);
    let token = format!("Bearer {}", text(&manager).await);
    let mut request = http::Request::get(front.url(Place::Resource)).header("authorization", "Basic old").body(());
    let request = request.as_mut().unwrap();
    manager.authorize(request).await.unwrap();
    let values: Vec<_> = request.headers().get_all("authorization").iter().collect();
    assert!(values == [token.as_str()] && values[0].is_sensitive());
    assert_eq!(manager.authorization().await.unwrap(), token);
    assert_eq!(manager.headers().await.unwrap()["authorization"], token);
    assert!(manager.access_token().await.unwrap().matches(&token["Bearer ".len()..]));
    assert!(!format!("{manager:?} {:?}", manager.token().await).contains(&token["Bearer ".len()..]));
    manager.shutdown().await;
    request.headers_mut().insert("authorization", "Basic old".parse().unwrap());
    manager.authorize(request).await.unwrap_err();
    assert_eq!(request.headers()["authorization"], "Basic old");
}
