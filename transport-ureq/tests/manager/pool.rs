//! Many wants, and many credentials.

use super::*;

#[test]
fn two_wants_of_a_rotating_grant_never_send_the_same_refresh_token() {
    let front = front(Server::demo());
    let pool = TokenPool::new(&transport());
    pool.add("alice", rotating(&front)).unwrap();
    let wants = [Want::access_token("read"), Want::access_token("write"), Want::access_token("read write")];
    thread::scope(|scope| {
        for want in wants.iter().cycle().take(9) {
            let manager = pool.manager("alice", want.clone()).unwrap();
            scope.spawn(move || (0..5).for_each(|_| drop(manager.force_refresh().unwrap())));
        }
    });
    let server = front.server();
    let mut sent: Vec<_> = server.seen_at(Place::Token).iter().filter_map(|seen| seen.param("refresh_token")).collect();
    let all = sent.len();
    assert!(all >= 15, "{all}");
    sent.sort();
    sent.dedup();
    assert_eq!(sent.len(), all);
    drop(server);
    let kept = pool.grant_state("alice").unwrap().refresh_token().unwrap().clone();
    assert!(!sent.contains(&kept.expose().to_owned()));
}

#[test]
fn a_valid_token_is_served_at_once_while_another_want_is_fetched() {
    let front = front(Server::demo());
    let pool = TokenPool::new(&transport());
    pool.add("batch", credential(&front)).unwrap();
    pool.token("batch", &read()).unwrap();
    delay(&front, 600);
    thread::scope(|scope| {
        let slow = scope.spawn(|| pool.token("batch", &Want::access_token("write")).unwrap());
        eventually("the other request", || requests(&front) == 2);
        let longest = longest(4, 50, || drop(pool.token("batch", &read()).unwrap()));
        assert!(longest < AT_ONCE, "{longest:?}");
        assert!(!slow.is_finished());
    });
    assert_eq!(requests(&front), 2);
}

#[test]
fn no_two_wants_share_a_token() {
    let front = front(Server::demo().with(|settings| settings.extra_params = vec!["audience", "resource"]));
    let pool = TokenPool::new(&transport());
    pool.add("one", credential(&front)).unwrap();
    pool.add("two", credential(&front)).unwrap();
    let wants = [
        Want::access_token(""),
        Want::access_token("read"),
        Want::access_token("read").audience("a"),
        Want::access_token("read").resource("https://a.example"),
        Want::access_token("read write"),
    ];
    let mut tokens: Vec<_> = ["one", "two"]
        .iter()
        .flat_map(|name| wants.iter().map(|want| pool.token(name, want).unwrap().access_token().to_owned()))
        .collect();
    assert_eq!(pool.len(), 10);
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 10);
    assert_eq!(
        pool.token("one", &Want::access_token("write read")).unwrap().access_token(),
        pool.manager("one", wants[4].clone()).unwrap().token().unwrap().access_token()
    );
    assert_eq!(requests(&front), 10);
}

#[test]
fn a_bounded_pool_forgets_what_nobody_asked_for_the_longest() {
    let front = front(Server::demo());
    let pool = builder().max_wants(3).build_pool();
    pool.add("batch", credential(&front)).unwrap();
    let want = |scope: &str| Want::access_token(scope);
    let ask = |scope: &str| drop(pool.token("batch", &want(scope)).unwrap());
    let held = pool.manager("batch", want("read")).unwrap();
    ["write", "email", "write", "profile"].into_iter().for_each(ask);
    assert_eq!((pool.len(), requests(&front)), (3, 3));
    // `email` is the one that was forgotten: neither the last asked, nor the one that a manager stands for.
    ["write", "profile"].into_iter().for_each(ask);
    assert_eq!(requests(&front), 3);
    ask("email");
    assert_eq!((pool.len(), requests(&front)), (3, 4));
    held.token().unwrap();
    assert_eq!(requests(&front), 5);
}

#[test]
fn a_credential_that_is_removed_is_forgotten() {
    let front = front(Server::demo());
    let alive = Arc::new(());
    let inside = alive.clone();
    let pool = TokenPool::new(&transport());
    pool.add(
        "vault",
        by(move || {
            let _ = &inside;
            Box::new(Once(|cx: &mut Cx| done("t", cx)))
        }),
    )
    .unwrap();
    assert!(!pool.add("vault", credential(&front)).unwrap(), "the one that is there stays");
    let manager = pool.manager("vault", read()).unwrap();
    manager.token().unwrap();
    pool.token("vault", &Want::access_token("write")).unwrap();
    assert!(pool.remove("vault"));
    assert!(!pool.remove("vault"));
    assert!(pool.is_empty());
    for error in [manager.token().unwrap_err(), manager.force_refresh().unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Config);
    }
    assert_eq!(pool.token("vault", &read()).unwrap_err().kind(), ErrorKind::Config);
    drop(manager);
    assert_eq!(Arc::strong_count(&alive), 1);
    // The name is free, for another credential with tokens of its own.
    pool.add("vault", credential(&front)).unwrap();
    assert_ne!(pool.token("vault", &read()).unwrap().access_token(), "t");
}

#[test]
fn errors_say_which_credential_it_is() {
    let front = front(Server::demo());
    let pool = TokenPool::new(&transport());
    pool.add("alice", credential(&front)).unwrap();
    let refused = pool.token("alice", &Want::access_token("no-such-scope")).map(drop).unwrap_err();
    assert!(refused.to_string().contains("credential \"alice\""), "{refused}");
    assert!(refused.server().is_some(), "the server's word is still there");
    for error in [pool.token("bob", &read()).map(drop).unwrap_err(), pool.grant_state("bob").map(drop).unwrap_err()] {
        assert!(error.to_string().contains("no credential named \"bob\""), "{error}");
    }
}

#[test]
fn a_credential_that_is_replaced_takes_its_tokens_along() {
    let front = front(Server::demo());
    let pool = TokenPool::new(&transport());
    assert!(!pool.replace("alice", rotating(&front)).unwrap(), "there was none");
    let manager = pool.manager("alice", read()).unwrap();
    let old = manager.token().unwrap();
    // A refresh of the old one is under way, and does not count.
    delay(&front, 300);
    thread::scope(|scope| {
        let before = requests(&front);
        let refresh = scope.spawn(|| manager.force_refresh());
        eventually("the refresh", || requests(&front) > before);
        pool.replace("alice", by(|| Box::new(Once(|cx: &mut Cx| done("new", cx))))).unwrap();
        assert_eq!(manager.token().unwrap().access_token(), "new");
        // Whoever wanted a new one has the other credential's, not the old one's.
        assert_eq!(refresh.join().unwrap().unwrap().access_token(), "new");
    });
    assert_eq!(manager.token().unwrap().access_token(), "new");
    assert!(pool.grant_state("alice").unwrap().refresh_token().is_none());
    assert_ne!(old.access_token(), "new");
}

#[test]
fn slow_servers_hold_up_none_but_their_own() {
    let slow: Vec<_> = (0..6).map(|_| short_lived()).collect();
    let quick = short_lived();
    let managers: Vec<_> = slow.iter().chain([&quick]).map(|front| early().build(credential(front), read())).collect();
    managers.iter().for_each(|manager| drop(in_use(manager)));
    slow.iter().for_each(|front| delay(front, 6_000));
    eventually("a refresh at the quick server", || requests(&quick) == 2);
    eventually("its token", || managers[6].token().unwrap().generation() == 2);
    assert!(slow.iter().zip(&managers).all(|(_, manager)| manager.status().refreshing));
}

#[test]
fn an_issuer_is_discovered_once_for_all_wants() {
    let server = Server::new("https://as.example/realms/demo");
    let front = front(server.client(Registered::basic("batch", "batch-secret")));
    let issuer = Issuer::new(front.issuer()).unwrap();
    let pool = TokenPool::new(&transport());
    pool.add("batch", Credential::client_credentials(issuer, &batch())).unwrap();
    thread::scope(|scope| {
        for scopes in ["read", "write", "email", "profile"] {
            let pool = &pool;
            scope.spawn(move || pool.token("batch", &Want::access_token(scopes)).unwrap());
        }
    });
    assert_eq!(front.server().seen_at(Place::OpenIdMetadata).len(), 1);
    assert_eq!(requests(&front), 4);
}
