//! Public documents that may be old: read once for all who ask, bounded, and never in anyone's way.

use std::time::Duration;

use grantflow::documents::{Documents, Look, Ticket};
use grantflow::machine::{Call, Failure, FailureKind, Identity, Now, Reach};
use grantflow::source::{Credential, TokenSource as _, Want};
use grantflow::{Discovery, ErrorKind, Issuer, Timestamp};
use grantflow_tests::demo::batch;
use grantflow_tests::{Fault, Place, Server, World};
use http::{Request, Response};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn issuer() -> Issuer {
    Issuer::new("https://as.example").unwrap()
}

/// How often a place was asked.
fn asked(world: &mut World, place: Place) -> usize {
    world.server().seen_at(place).len()
}

#[test]
fn a_thousand_credentials_at_one_issuer_read_its_metadata_once_a_day() {
    let mut world = World::with(Server::demo());
    let credentials: Vec<_> = (0..1000).map(|_| Credential::client_credentials(issuer(), &batch())).collect();
    for day in 1..=3 {
        for credential in &credentials {
            world.run(credential.mint(&Want::access_token("read"), &credential.first_state())).unwrap();
        }
        assert_eq!(asked(&mut world, Place::OpenIdMetadata), day);
        world.pass(DAY);
    }
    assert_eq!(asked(&mut world, Place::Token), 3000);
}

#[test]
fn where_only_the_other_address_has_metadata_that_is_remembered_too() {
    let mut world = World::with(Server::demo());
    world.server().settings.openid_metadata = false;
    for _ in 0..1000 {
        world.run(Discovery::new(&issuer())).unwrap();
    }
    let both = [Place::OpenIdMetadata, Place::OAuthMetadata].map(|place| asked(&mut world, place));
    assert_eq!(both, [1, 1]);
    // Should the server move it, that is found out.
    (world.server().settings.openid_metadata, world.server().settings.oauth_metadata) = (true, false);
    world.pass(HOUR);
    world.run(Discovery::new(&issuer())).unwrap();
    world.pass(31 * DAY);
    world.run(Discovery::new(&issuer())).unwrap();
}

#[test]
fn metadata_of_one_issuer_is_no_other_issuers_at_the_same_host() {
    let mut world = World::with(Server::new("https://as.example/one"));
    let at = |issuer: &str| Discovery::new(&Issuer::new(issuer).unwrap());
    world.run(at("https://as.example/one")).unwrap();
    for other in ["https://as.example/two", "https://as.example/One", "https://as.example", "https://as.example/one/x"]
    {
        let before = world.sent().len();
        assert!(world.run(at(other)).is_err(), "{other}");
        assert!(world.sent().len() > before, "{other} is asked itself");
    }
    // By its address it could be either's, by its name it is the one's.
    assert_eq!(world.run(at("https://as.example/one/")).unwrap_err().kind(), ErrorKind::Issuer);
    let before = world.sent().len();
    world.run(at("https://as.example/one")).unwrap();
    assert_eq!(world.sent().len(), before);
}

#[test]
fn what_was_remembered_of_an_address_is_no_reason_to_fail() {
    let mut world = World::with(Server::demo());
    (world.server().settings.openid_metadata, world.server().settings.oauth_metadata) = (false, false);
    assert!(world.run(Discovery::new(&issuer())).is_err());
    // The server has come up in the meantime.
    world.server().settings.openid_metadata = true;
    world.pass(2 * SECOND);
    world.run(Discovery::new(&issuer())).unwrap();
}

#[test]
fn old_metadata_does_while_its_host_hangs_and_delays_nobody() {
    let mut world = World::with(Server::demo());
    world.run(Discovery::new(&issuer())).unwrap();
    world.pass(DAY + SECOND);
    for _ in 0..20 {
        world.server().fail(Place::OpenIdMetadata, Fault::Delay(HOUR));
    }
    for _ in 0..20 {
        let before = world.now;
        world.run(Discovery::new(&issuer())).unwrap();
        assert_eq!(world.now, before);
        world.pass(SECOND);
    }
    assert!(asked(&mut world, Place::OpenIdMetadata) < 8, "and the host is asked ever more seldom");
    // After a month it is too old.
    world.pass(31 * DAY);
    world.server().fail(Place::OpenIdMetadata, Fault::Delay(HOUR));
    assert_eq!(world.run(Discovery::new(&issuer())).unwrap_err().kind(), ErrorKind::Timeout);
}

#[test]
fn metadata_of_the_second_address_does_while_the_first_fails_that_never_had_any() {
    let mut world = World::with(Server::demo());
    // A busy gateway, when the program begins.
    for _ in 0..3 {
        world.server().fail(Place::OpenIdMetadata, Fault::status(500, "{}"));
    }
    world.run(Discovery::new(&issuer())).unwrap();
    assert_eq!(asked(&mut world, Place::OAuthMetadata), 1);
    // Then the host is ill, for longer than the metadata is new.
    for fault in [Fault::status(503, "{}"), Fault::DropBefore, Fault::Delay(HOUR), Fault::status(401, "{}")] {
        for pause in [SECOND, DAY] {
            world.pass(pause);
            let before = world.now;
            for place in [Place::OpenIdMetadata, Place::OAuthMetadata] {
                world.server().fail(place, fault.clone());
            }
            world.run(Discovery::new(&issuer())).unwrap();
            assert_eq!(world.now, before, "{fault:?}");
        }
    }
    // The first address was asked beside all the while, and counts as soon as it has some.
    for _ in 0..12 {
        world.pass(301 * SECOND);
        world.run(Discovery::new(&issuer())).unwrap();
    }
    world.pass(DAY);
    let before = asked(&mut world, Place::OAuthMetadata);
    world.run(Discovery::new(&issuer())).unwrap();
    assert_eq!(asked(&mut world, Place::OAuthMetadata), before);
}

#[test]
fn a_document_that_is_not_there_for_a_while_is_not_forgotten() {
    let (mut documents, call) = (Documents::new(), call("https://as.example/keys"));
    let ticket = to_fetch(documents.look(&call, now(0)));
    documents.settle(ticket, now(0), answer(200, "keys")).unwrap();
    let Look::Old(_, ticket) = documents.look(&call, now(3601)) else { panic!() };
    documents.settle(ticket, now(3601), answer(404, "deploying")).unwrap();
    assert_eq!(have(documents.look(&call, now(3601)), now(3601)).0, "keys");
    // And asked for again, until it is too old.
    assert!(matches!(documents.look(&call, now(3603)), Look::Old(..)));
    drop(to_fetch(documents.look(&self::call("https://as.example/keys"), now(7261 + 60))));
}

#[test]
fn an_answer_that_is_not_json_does_not_go_over_metadata_that_was_read() {
    let mut world = World::with(Server::demo());
    world.run(Discovery::new(&issuer())).unwrap();
    world.pass(DAY + SECOND);
    // A captive network answers in place of the host, and then nobody does.
    world
        .server()
        .fail(Place::OpenIdMetadata, Fault::with_type(200, "text/html", "<html>Sign in to this network</html>"));
    world.run(Discovery::new(&issuer())).unwrap();
    for _ in 0..8 {
        world.server().fail(Place::OpenIdMetadata, Fault::Delay(HOUR));
    }
    for _ in 0..5 {
        let before = world.now;
        world.run(Discovery::new(&issuer())).unwrap();
        assert_eq!(world.now, before);
        world.pass(61 * SECOND);
    }
}

#[test]
fn what_can_be_read_goes_over_what_could_not_and_what_is_no_json_stays_with_its_kind() {
    let (mut documents, call) = (Documents::new(), call("https://as.example/keys"));
    let mut kept = |at: u64, body: &str| {
        let (Look::Fetch(ticket) | Look::Old(_, ticket)) = documents.look(&call, now(at)) else { panic!() };
        documents.settle(ticket, now(at), answer(200, body)).unwrap();
        have(documents.look(&call, now(at)), now(at)).0
    };
    assert_eq!(kept(0, "text"), "text");
    assert_eq!(kept(3601, "another text"), "another text");
    assert_eq!(kept(7202, r#"{"keys":[]}"#), r#"{"keys":[]}"#);
    assert_eq!(kept(10_803, r#"{"keys":[],"#), r#"{"keys":[]}"#);
    assert_eq!(kept(10_805, r#"{"keys":[1]}"#), r#"{"keys":[1]}"#);
}

#[test]
fn a_driver_without_documents_reads_each_time() {
    let mut world = World::with(Server::demo());
    world.documents = None;
    for _ in 0..3 {
        world.run(Discovery::new(&issuer())).unwrap();
    }
    assert_eq!(asked(&mut world, Place::OpenIdMetadata), 3);
}

// --- the documents by themselves

fn now(seconds: u64) -> Now {
    Now { wall: Timestamp::from_unix(1_795_176_000) + Duration::from_secs(seconds), mono: Duration::from_secs(seconds) }
}

fn call(address: &str) -> Call {
    Call::new(Request::get(address).body(Vec::new()).unwrap()).may_be_old(HOUR, 2 * HOUR)
}

fn answer(status: u16, body: &str) -> Result<Response<Vec<u8>>, Failure> {
    Ok(Response::builder().status(status).header("set-cookie", "a=b").body(body.into()).unwrap())
}

fn to_fetch(look: Look) -> Ticket {
    match look {
        Look::Fetch(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

fn have(look: Look, now: Now) -> (String, u64) {
    let Look::Have(document) = look else { panic!("{look:?}") };
    let response = document.response(now);
    assert!(!response.headers().contains_key("set-cookie"));
    let age = response.headers()["age"].to_str().unwrap().parse().unwrap();
    (String::from_utf8(response.into_body()).unwrap(), age)
}

#[test]
fn one_fetches_and_the_others_wait_and_then_all_have_it_until_it_is_old() {
    let (mut documents, call) = (Documents::new(), call("https://as.example/keys"));
    let ticket = to_fetch(documents.look(&call, now(0)));
    for _ in 0..1000 {
        assert!(matches!(documents.look(&call, now(1)), Look::Busy));
    }
    documents.settle(ticket, now(2), answer(200, "keys")).unwrap();
    assert_eq!(have(documents.look(&call, now(2)), now(2)), ("keys".into(), 0));
    assert_eq!(have(documents.look(&call, now(3602)), now(3602)), ("keys".into(), 3600));
    // Then one reads it anew, and nobody waits.
    let Look::Old(old, ticket) = documents.look(&call, now(3603)) else { panic!() };
    assert_eq!(old.age(now(3603)), 3601 * SECOND);
    assert_eq!(have(documents.look(&call, now(3603)), now(3603)).0, "keys");
    documents.settle(ticket, now(3604), answer(200, "new keys")).unwrap();
    assert_eq!(have(documents.look(&call, now(3604)), now(3604)), ("new keys".into(), 0));
    // A clock that is set back makes nothing younger.
    let back = Now { wall: now(0).wall, mono: 3700 * SECOND };
    assert_eq!(have(documents.look(&call, back), back).1, 96);
}

#[test]
fn whoever_gives_up_or_never_ends_keeps_nobody_waiting() {
    let (mut documents, call) = (Documents::new(), call("https://as.example/keys"));
    let ticket = to_fetch(documents.look(&call, now(0)));
    documents.abandon(ticket);
    let lost = to_fetch(documents.look(&call, now(0)));
    assert!(matches!(documents.look(&call, now(59)), Look::Busy));
    let ticket = to_fetch(documents.look(&call, now(60)));
    // The one that was given up comes to an end after all: a document is a document.
    documents.settle(lost, now(61), answer(200, "late")).unwrap();
    assert_eq!(have(documents.look(&call, now(61)), now(61)).0, "late");
    documents.abandon(ticket);
    // A caller who has waited long enough fetches beside.
    let other = self::call("https://other.example/keys");
    let first = to_fetch(documents.look(&other, now(70)));
    let second = documents.insist(&other, now(75)).unwrap();
    documents.settle(second, now(76), answer(200, "b")).unwrap();
    documents.abandon(first);
    assert_eq!(have(documents.look(&other, now(77)), now(77)).0, "b");
}

#[test]
fn a_failure_is_shared_for_a_second_unless_it_was_for_want_of_time() {
    let (mut documents, call) = (Documents::new(), call("https://as.example/keys"));
    for (failure, shared) in [
        (Failure::not_sent(FailureKind::Connect, "nobody listens"), true),
        (Failure::maybe_sent(FailureKind::Broken, "it broke"), true),
        (Failure::maybe_sent(FailureKind::Timeout, "in a hurry"), false),
    ] {
        let mut documents = Documents::new();
        let ticket = to_fetch(documents.look(&call, now(0)));
        assert!(documents.settle(ticket, now(0), Err(failure)).is_err());
        assert_eq!(matches!(documents.look(&call, now(0)), Look::Failed(_)), shared);
        if shared {
            drop(to_fetch(documents.look(&call, now(1))));
        }
    }
    // An answer that is no document goes to all who wait, and no further.
    let ticket = to_fetch(documents.look(&call, now(0)));
    documents.settle(ticket, now(0), answer(503, "later")).unwrap();
    assert_eq!(have(documents.look(&call, now(0)), now(0)).0, "later");
    drop(to_fetch(documents.look(&call, now(1))));
}

#[test]
fn only_public_documents_are_shared_each_by_its_address_reach_and_certificate() {
    let mut documents = Documents::new();
    let get = || Request::get("https://as.example/keys");
    for request in [
        Request::post("https://as.example/keys").body(Vec::new()),
        get().body(b"x".to_vec()),
        get().header("authorization", "Bearer x").body(Vec::new()),
        get().header("cookie", "a=b").body(Vec::new()),
    ] {
        let call = Call::new(request.unwrap()).may_be_old(HOUR, HOUR);
        assert!(matches!(documents.look(&call, now(0)), Look::Send));
        assert!(documents.insist(&call, now(0)).is_none());
    }
    let plain = Call::new(get().body(Vec::new()).unwrap());
    assert!(matches!(documents.look(&plain, now(0)), Look::Send));
    let address = "https://as.example/keys";
    for call in [
        call(address),
        call("https://as.example/keys?x"),
        call(address).with_reach(Reach::Global),
        call(address).with_identity(Identity::named("a")),
        call(address).with_identity(Identity::named("b")),
        call(address).with_identity(Identity::pem("certificate", "key")),
    ] {
        let ticket = to_fetch(documents.look(&call, now(0)));
        documents.settle(ticket, now(0), answer(200, "x")).unwrap();
        assert_eq!(have(documents.look(&call, now(0)), now(0)).0, "x");
    }
}

#[test]
fn a_hundred_thousand_issuers_take_no_more_room_than_is_allowed() {
    let mut documents = Documents::new();
    let mine = call("https://mine.example/metadata");
    let ticket = to_fetch(documents.look(&mine, now(0)));
    documents.settle(ticket, now(0), answer(200, "mine")).unwrap();
    let large = "x".repeat(100 * 1024);
    for issuer in 0..100_000 {
        let ticket = to_fetch(documents.look(&call(&format!("https://{issuer}.example/metadata")), now(1)));
        documents.settle(ticket, now(1), answer(200, &large)).unwrap();
        // What is used stays.
        assert_eq!(have(documents.look(&mine, now(1)), now(1)).0, "mine");
    }
    let shown = format!("{documents:?}");
    let numbers: Vec<usize> = shown
        .split(|c: char| !c.is_ascii_digit())
        .filter(|text| !text.is_empty())
        .map(|n| n.parse().unwrap())
        .collect();
    assert!(numbers[0] <= 256 && numbers[1] <= 8 * 1024 * 1024, "{shown}");
    // One that is too large by itself is answered, and not kept.
    let huge = call("https://huge.example/metadata");
    let ticket = to_fetch(documents.look(&huge, now(2)));
    documents.settle(ticket, now(2), answer(200, &"x".repeat(2 << 20))).unwrap();
    drop(to_fetch(documents.look(&huge, now(4))));
}
