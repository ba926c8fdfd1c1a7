//! Refreshes left in a runtime that nobody drives any more: nobody else waits for it without end.

use std::future::Future;
use std::task::{Context, Poll, Waker};

use grantflow::machine::{Reach, Step};
use grantflow::{Call, Effect};

use super::*;

/// A runtime as a sync facade has it: driven while somebody calls, and kept for the next call.
fn facade() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// What comes of a wait in a runtime that is driven, and how long it took.
fn elsewhere<T>(wait: impl Future<Output = Result<T, Error>>) -> Duration {
    let begin = Instant::now();
    let result = threads().block_on(async { timeout(Duration::from_secs(30), wait).await });
    result.expect("it waits for a runtime that nobody drives").map(drop).unwrap();
    begin.elapsed()
}

#[test]
fn a_refresh_that_its_runtime_does_not_go_on_with_is_fetched_beside() {
    let front = front(|_| {});
    let manager = manager(&front);
    fail(&front, Fault::Delay(millis(300)));
    let facade = facade();
    facade.block_on(async { timeout(millis(50), manager.token()).await.map(drop).unwrap_err() });
    let took = elsewhere(manager.token());
    assert!(took > millis(3500), "so soon nothing is known of the other: {took:?}");
    assert_eq!(requests(&front), 2);
    drop(facade);
    assert_eq!(manager.fresh().unwrap().generation(), 1);
}

#[test]
fn a_refresh_that_its_runtime_never_began_is_claimed_soon() {
    let front = front(|settings| settings.lifetime = 4);
    let manager = manager(&front);
    let facade = facade();
    facade.block_on(manager.start()).unwrap();
    std::thread::sleep(millis(3300));
    // Due: handed out, and the next is fetched by a task that nobody polls.
    facade.block_on(manager.start()).unwrap();
    std::thread::sleep(millis(1000));
    let took = elsewhere(manager.token());
    assert!(took < millis(2500), "{took:?}");
    assert_eq!(requests(&front), 2);
    drop(facade);
}

#[test]
fn a_turn_that_nobody_takes_goes_to_the_next() {
    let front = strict();
    let (pool, live) = (TokenPool::new(&transport()), threads());
    pool.add("alice", live.block_on(alice(&front, "read write"))).unwrap();
    fail(&front, Fault::Delay(millis(400)));
    let first = live.spawn({
        let pool = pool.clone();
        async move { pool.token("alice", &Want::access_token("read")).await.map(drop) }
    });
    live.block_on(until("the first is under way", || requests(&front) == 2));
    let facade = facade();
    facade
        .block_on(async { timeout(millis(50), pool.token("alice", &Want::access_token("write"))).await.map(drop) })
        .unwrap_err();
    elsewhere(pool.token("alice", &Want::access_token("read write")));
    live.block_on(first).unwrap().unwrap();
    // Whoever was passed over gets its turn when it is driven again.
    facade.block_on(pool.token("alice", &Want::access_token("write"))).unwrap();
    assert_eq!(requests(&front), 4);
}

/// A source whose secret is replaced when it is used, by requests that may take a second.
struct Ticketed(String);

struct Punch(Option<Call>);

impl TokenSource for Ticketed {
    fn mint(&self, _: &Want, _: &GrantState) -> Mint {
        let mut request = http::Request::post(&self.0).header("content-type", "application/x-www-form-urlencoded");
        request = request.header("authorization", "Basic YmF0Y2g6YmF0Y2gtc2VjcmV0");
        let request = request.body(b"grant_type=client_credentials".to_vec()).unwrap();
        let call = Call::new(request).with_timeout(Duration::from_secs(1)).with_reach(Reach::Local);
        Box::new(Punch(Some(call)))
    }
    fn first_state(&self) -> GrantState {
        GrantState::new("ticket")
    }
    fn may_change(&self, _: &GrantState) -> bool {
        true
    }
}

impl Machine for Punch {
    type Output = Token;
    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Token> {
        match (self.0.take(), reply) {
            (Some(call), _) => Step::Do(Effect::Http(call)),
            (None, Reply::Http(_)) => Step::Done(Token::bearer("punched", cx.now().wall, None)),
            (None, reply) => panic!("{reply:?}"),
        }
    }
}

impl Minting for Punch {}

#[test]
fn a_use_that_must_not_be_repeated_is_taken_over_when_nothing_of_it_can_come_any_more() {
    let front = front(|_| {});
    let transport = Transport::builder().connect_timeout(Duration::from_secs(4)).build().unwrap();
    let source = Ticketed(front.url(Place::Token));
    let manager = TokenManager::new(&transport, source, Want::default());
    fail(&front, Fault::Delay(millis(300)));
    let facade = facade();
    facade.block_on(async { timeout(millis(50), manager.token()).await.map(drop).unwrap_err() });
    let took = elsewhere(manager.token());
    assert!(took > millis(8500) && took < millis(13_000), "8 s to begin, and one for the answer: {took:?}");
    assert_eq!(requests(&front), 2);
    drop(facade);
    manager.token().now_or_never().unwrap().unwrap();
}

trait NowOrNever: Future + Sized {
    fn now_or_never(self) -> Option<Self::Output> {
        match std::pin::pin!(self).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }
}

impl<F: Future> NowOrNever for F {}

#[test]
fn with_a_runtime_of_its_own_a_manager_needs_none_of_its_callers() {
    let front = front(|settings| settings.lifetime = 2);
    let lasting = threads();
    let builder = TokenManager::builder(&transport()).runtime(lasting.handle().clone());
    let manager = builder.build(batch(&front), read());
    fail(&front, Fault::Delay(millis(200)));
    // Polled without any runtime.
    assert!(manager.token().now_or_never().is_none());
    lasting.block_on(until("the refresh goes on", || manager.fresh().is_some()));
    // In use, it is refreshed there, too.
    lasting.block_on(until("the background", || manager.fresh().is_some_and(|token| token.generation() > 1)));
    assert!(facade().block_on(manager.token()).is_ok());
    manager.shutdown().now_or_never().unwrap();
}
