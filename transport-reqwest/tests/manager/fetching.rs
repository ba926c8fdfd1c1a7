//! How tokens are had, kept, refreshed and refused.

use super::*;

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
    // Meanwhile it is read as a fresh one is, without a lock.
    assert!(manager.fresh().is_some() && manager.status().refreshing);
    until("the refresh is done", || !manager.status().refreshing).await;
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
