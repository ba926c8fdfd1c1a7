//! Many wants and many credentials.

use super::*;

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
async fn errors_say_which_credential_it_is() {
    let front = front(|_| {});
    let pool = TokenPool::new(&transport());
    pool.add("alice", batch(&front)).unwrap();
    let refused = pool.token("alice", &Want::access_token("no-such-scope")).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("credential \"alice\""), "{refused}");
    assert!(refused.server().is_some(), "the server's word is still there");
    let unknown = pool.token("bob", &read()).await.map(drop).unwrap_err();
    for error in [unknown, pool.grant_state("bob").map(drop).unwrap_err()] {
        assert!(error.to_string().contains("no credential named \"bob\""), "{error}");
    }
}

#[tokio::test]
async fn removed_credentials_are_forgotten() {
    let pool = TokenPool::new(&transport());
    let source = Own::default();
    pool.add("name", source.clone()).unwrap();
    assert!(!pool.add("name", source.clone()).unwrap(), "the one that is there stays");
    let manager = pool.manager("name", read()).unwrap();
    let mut one = pool.token("name", &read()).await.unwrap();
    assert!(pool.remove("name") && !pool.remove("name"));
    assert_eq!((pool.len(), pool.is_empty()), (0, true));
    assert_eq!(pool.token("name", &read()).await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(manager.token().await.unwrap_err().kind(), ErrorKind::Config);
    pool.add("name", source.clone()).unwrap();
    one = std::mem::replace(&mut one, pool.token("name", &read()).await.unwrap());
    assert_eq!(one.access_token(), "own-0");
    assert!(pool.replace("name", source.clone()).unwrap(), "there was one");
    assert_eq!(pool.token("name", &read()).await.unwrap().access_token(), "own-2");
    assert!(!pool.replace("other", source.clone()).unwrap() && pool.remove("other"));
    drop(manager);
    pool.remove("name");
    until("nobody knows the source any more", || Arc::strong_count(&source.minted) == 1).await;
    pool.add("name", source.clone()).unwrap();
    pool.token("name", &read()).await.unwrap();
    drop(pool);
    until("it is forgotten with the pool too", || Arc::strong_count(&source.minted) == 1).await;
}
