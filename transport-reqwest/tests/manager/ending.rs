//! Ends: of callers, of runtimes, of handles, by shutdown.

use super::*;

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
            // Within a `LocalSet`, no thread may be handed on.
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
fn a_refresh_token_whose_fate_is_not_known_is_sent_once_more_and_then_rests() {
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
    // Nothing says that the grant has ended: it is tried again, after a pause.
    assert!(error.is_transient() && error.advice() != Some(Advice::SignInAgain), "{error:?}");
    assert!(error.retry_after().is_some_and(|rest| rest > Duration::from_secs(20)), "{error:?}");
    let status = manager.status().grant;
    assert!(matches!(status, GrantStatus::Unclear { tries: 2, used: false, .. }), "{status:?}");
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
