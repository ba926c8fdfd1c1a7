//! The one leaf that makes requests: what it repeats, how long it waits, how it ends.

use std::time::Duration;

use grantflow::machine::{FailureKind, Identity, Reach, Repeat, Rules};
use grantflow::{
    Advice, Call, Cx, Discovery, Effect, Error, ErrorKind, Failure, Issuer, Machine, Now, Reply, Revocation, Rotation,
    Step, Timestamp, TokenExchange, TokenRequest,
};
use grantflow_tests::demo::{self, batch, client};
use grantflow_tests::{Fault, Place, Server, World, at_once};

const SECOND: Duration = Duration::from_secs(1);

fn world() -> World {
    World::with(Server::demo())
}

/// A run that is ready to begin: whatever it needs was had before anything fails.
type Run = Box<dyn FnOnce(&mut World) -> Result<(), Error>>;
/// Makes one ready.
type Kind = fn(&mut World) -> Run;
/// Lets something go wrong.
type Spoil = fn(&mut World);
/// Something that goes wrong at the server, or before.
type Trouble = fn(Place) -> Result<Fault, Failure>;

fn ready<M: Machine + 'static>(machine: M) -> Run {
    Box::new(move |world| world.run(machine).map(drop))
}

fn code(world: &mut World) -> Run {
    let authorization = at_once(demo::request(world.server(), "read").start(), &mut world.cx()).unwrap();
    let redirect = world.person(&authorization.url);
    ready(authorization.pending.finish(&client(), &redirect))
}

fn refresh(world: &mut World, rotation: Rotation) -> Run {
    let (server, token) = (world.server().metadata(), demo::signed_in(world, "read"));
    ready(TokenRequest::refresh(&server, &client(), &token).unwrap().rotation(rotation).exchange())
}

fn client_credentials(world: &mut World) -> TokenExchange {
    TokenRequest::client_credentials(&world.server().metadata(), &batch()).unwrap().exchange()
}

/// Each kind of run, where its requests go, and whether they may reach the server twice.
const KINDS: [(&str, Kind, Place, Repeat); 8] = [
    ("code", code, Place::Token, Repeat::OnlyIfUnsent),
    ("refresh, unknown", |world| refresh(world, Rotation::Unknown), Place::Token, Repeat::OnlyIfUnsent),
    ("refresh, rotates", |world| refresh(world, Rotation::Rotates), Place::Token, Repeat::OnlyIfUnsent),
    ("refresh, never", |world| refresh(world, Rotation::Never), Place::Token, Repeat::Freely),
    ("client credentials", |world| ready(client_credentials(world)), Place::Token, Repeat::Freely),
    (
        "password",
        |world| {
            let server = world.server().metadata();
            ready(TokenRequest::password(&server, &client(), "alice", "wonderland").unwrap().exchange())
        },
        Place::Token,
        Repeat::Freely,
    ),
    (
        "revocation",
        |world| {
            let server = world.server().metadata();
            ready(Revocation::new(&server, &client(), &"some-token".into()).unwrap().exchange())
        },
        Place::Revoke,
        Repeat::Freely,
    ),
    (
        "discovery",
        |_| ready(Discovery::openid(&Issuer::new("https://as.example").unwrap())),
        Place::OpenIdMetadata,
        Repeat::Freely,
    ),
];

/// Runs one kind with something that goes wrong first: how it went, and how many requests it took.
fn run(kind: Kind, spoil: impl FnOnce(&mut World)) -> (World, Result<(), Error>, usize) {
    let mut world = world();
    let run = kind(&mut world);
    let before = world.sent().len();
    spoil(&mut world);
    let result = run(&mut world);
    let requests = world.sent().len() - before;
    (world, result, requests)
}

#[test]
fn what_surely_was_not_sent_is_sent_again() {
    for (name, kind, _, repeat) in KINDS {
        let (world, result, requests) =
            run(kind, |world| world.fail(Failure::not_sent(FailureKind::Connect, "refused")));
        assert!(result.is_ok() && requests == 2, "{name}: {result:?} {requests}");
        assert_eq!(world.sent().last().unwrap().repeat, repeat, "{name}");
    }
}

#[test]
fn what_may_have_arrived_is_sent_again_only_where_that_does_no_harm() {
    let spoils: [(&str, bool, Trouble); 8] = [
        ("connection reset", true, |_| Err(Failure::maybe_sent(FailureKind::Broken, "reset"))),
        ("dropped after", true, |_| Ok(Fault::DropAfter)),
        ("truncated", true, |_| Ok(Fault::Truncate)),
        ("failed inside", true, |_| Ok(Fault::status(500, ""))),
        ("lost by a gateway", true, |_| Ok(Fault::status(504, ""))),
        ("busy", false, |_| Ok(Fault::status(503, ""))),
        ("too many", false, |_| Ok(Fault::status(429, ""))),
        ("unavailable", false, |_| Ok(Fault::status(400, r#"{"error":"temporarily_unavailable"}"#))),
    ];
    for (name, kind, place, repeat) in KINDS {
        for (what, uncertain, spoil) in spoils {
            let (_, result, requests) = run(kind, |world| match spoil(place) {
                Ok(fault) => world.server().fail(place, fault),
                Err(failure) => world.fail(failure),
            });
            let again = repeat == Repeat::Freely;
            assert_eq!((result.is_ok(), requests), (again, if again { 2 } else { 1 }), "{name}, {what}: {result:?}");
            if let Err(error) = result {
                // A code is used up, and what was pending with it.
                let advice = if name == "code" { Advice::SignInAgain } else { Advice::TryLater };
                assert_eq!((error.is_transient(), error.advice()), (name != "code", Some(advice)), "{what}: {error:?}");
                assert_eq!(error.is_uncertain(), uncertain, "{name}, {what}: {error:?}");
            }
        }
    }
}

#[test]
fn what_will_not_get_better_is_not_tried_again() {
    let failures = [FailureKind::Tls, FailureKind::TooLarge, FailureKind::Forbidden, FailureKind::Other];
    for (name, kind, place, _) in KINDS {
        for failure in failures {
            let (_, result, requests) = run(kind, |world| world.fail(Failure::not_sent(failure, "no")));
            assert!(requests == 1 && !result.unwrap_err().is_transient(), "{name}, {failure:?}");
        }
        for status in [400, 401, 403, 418, 501, 505, 301, 307, 100] {
            let (_, result, requests) =
                run(kind, |world| world.server().fail(place, Fault::status(status, r#"{"error":"no"}"#)));
            let error = result.unwrap_err();
            assert_eq!((requests, error.status(), error.is_transient()), (1, Some(status), false), "{name}, {status}");
        }
    }
}

#[test]
fn an_error_that_names_its_cause_is_worth_more_than_a_status_that_says_later() {
    for (status, body, requests) in [
        (500, r#"{"error":"invalid_grant"}"#, 1),
        (503, r#"{"error":"invalid_client"}"#, 1),
        (500, r#"{"error":"server_error"}"#, 4),
        (400, r#"{"error":"internal_failure"}"#, 4),
        (502, "<html>", 4),
        (429, "", 4),
        (408, "", 4),
        (504, "", 4),
    ] {
        let mut world = world();
        for _ in 0..4 {
            world.server().fail(Place::Token, Fault::status(status, body));
        }
        let machine = client_credentials(&mut world);
        let error = world.run(machine).unwrap_err();
        assert_eq!(
            (error.status(), error.is_uncertain()),
            (Some(status), false),
            "what may be repeated leaves no doubt"
        );
        assert_eq!(world.sent().len(), requests, "{status} {body}");
    }
    // Behind a gateway nobody knows what the server has done, whatever the gateway calls it.
    let gateway = Fault::status(502, r#"{"error":"invalid_request"}"#);
    let (_, result, _) =
        run(|world| refresh(world, Rotation::Rotates), |world| world.server().fail(Place::Token, gateway));
    assert!(result.unwrap_err().is_uncertain());
}

#[test]
fn pauses_grow_are_spread_and_end_after_four_tries() {
    let pauses = |seed| {
        let mut world = World::new(seed).and(Server::demo());
        for _ in 0..4 {
            world.server().fail(Place::Token, Fault::status(503, ""));
        }
        let machine = client_credentials(&mut world);
        world.run(machine).unwrap_err();
        assert_eq!(world.sent().len(), 4);
        world.slept()
    };
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let slept = pauses(seed * 100);
        assert_eq!(slept.len(), 3);
        for (pause, longest) in slept.iter().zip([500, 1000, 2000].map(Duration::from_millis)) {
            assert!((longest / 2..=longest).contains(pause), "{pause:?} of {longest:?}");
        }
        seen.insert(slept[0]);
    }
    assert!(seen.len() > 20, "clients that fail together do not return together: {seen:?}");
    assert_eq!(pauses(7), pauses(7));
}

#[test]
fn the_server_may_say_how_long_to_wait() {
    let date = |seconds: i64| {
        let now = std::time::UNIX_EPOCH + Duration::from_secs(1_795_176_000_u64.checked_add_signed(seconds).unwrap());
        http_date(now)
    };
    for (retry_after, server_clock, expected) in [
        ("7".to_owned(), None, Some(7 * SECOND)),
        ("0".to_owned(), None, Some(Duration::ZERO)),
        (" 9 ".to_owned(), None, Some(9 * SECOND)),
        // The wall clock here is 50 ms on when the answer comes.
        (date(8), None, Some(Duration::from_millis(7950))),
        // The server's clock is an hour ahead, and says so.
        (date(3600 + 8), Some(date(3600)), Some(8 * SECOND)),
        (date(-50), None, Some(Duration::ZERO)),
        ("soon".to_owned(), None, None),
        ("-5".to_owned(), None, None),
        ("1.5".to_owned(), None, None),
        (String::new(), None, None),
    ] {
        let mut world = world();
        let mut fault = Fault::status(503, "").header("retry-after", &retry_after);
        if let Some(clock) = &server_clock {
            fault = fault.header("date", clock);
        }
        world.server().fail(Place::Token, fault);
        let machine = client_credentials(&mut world);
        world.run(machine).unwrap();
        let slept = world.slept();
        assert_eq!(slept.len(), 1);
        match expected {
            Some(time) if time > SECOND / 2 => assert_eq!(slept[0], time, "{retry_after:?}"),
            _ => assert!(slept[0] <= SECOND / 2, "{retry_after:?}: {slept:?}"),
        }
    }
}

/// IMF-fixdate of 2026-11-20, a Friday, the only day that is needed here.
fn http_date(time: std::time::SystemTime) -> String {
    let seconds = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() % 86_400;
    format!("Fri, 20 Nov 2026 {:02}:{:02}:{:02} GMT", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[test]
fn a_wait_longer_than_the_total_time_is_the_callers_to_wait() {
    for (retry_after, expected) in [
        ("31", 31 * SECOND),
        ("3600", 3600 * SECOND),
        ("99999999999999999999999", Duration::from_secs(u64::MAX)),
        ("Fri, 20 Nov 2026 13:00:00 GMT", 3600 * SECOND),
    ] {
        let mut world = world();
        world.server().fail(Place::Token, Fault::status(429, "").header("retry-after", retry_after));
        let (machine, began) = (client_credentials(&mut world), world.now.mono);
        let error = world.run(machine).unwrap_err();
        let told = error.retry_after().unwrap();
        assert!(expected.saturating_sub(told) < SECOND && told <= expected, "{retry_after}: {told:?}");
        assert!(error.is_transient() && error.status() == Some(429) && error.to_string().contains("try again in"));
        assert!(world.slept().is_empty() && world.sent().len() == 1 && world.now.mono - began < SECOND);
    }
}

#[test]
fn the_total_time_is_bounded_whatever_fails() {
    let spoils: [(&str, Spoil); 5] = [
        ("silence", |world| world.server().fail(Place::Token, Fault::Delay(60 * SECOND))),
        ("slow connects", |world| world.fail_after(12 * SECOND, Failure::not_sent(FailureKind::Timeout, "connect"))),
        ("a slow body", |world| world.server().fail(Place::Token, Fault::Drip(SECOND))),
        ("busy and slow", |world| {
            let busy = Fault::status(503, "").header("retry-after", "13");
            world.server().fail(Place::Token, busy);
        }),
        ("drops", |world| world.server().fail(Place::Token, Fault::DropBefore)),
    ];
    for (what, spoil) in spoils {
        for total in [30 * SECOND, 3 * SECOND] {
            let mut world = world();
            (0..10).for_each(|_| spoil(&mut world));
            let (machine, began) = (client_credentials(&mut world).total_time(total), world.now.mono);
            let error = world.run(machine).unwrap_err();
            assert!(error.is_transient(), "{what}: {error:?}");
            assert!(world.now.mono - began <= total, "{what}: {:?}", world.now.mono - began);
            for sent in world.sent() {
                assert_eq!(sent.timeout, total - (sent.at.mono - began), "{what}: what is left of the total");
            }
        }
    }
}

#[test]
fn a_wall_clock_that_jumps_changes_no_wait() {
    for jump in [-1_000_000, 1_000_000] {
        let mut world = world();
        world.server().fail(Place::Token, Fault::status(503, ""));
        let mut machine = client_credentials(&mut world);
        let mut reply = Reply::Start;
        let (mut steps, began) = (0, world.now.mono);
        let token = loop {
            world.now.wall = Timestamp::from_unix(world.now.wall.as_unix() + jump);
            let step = machine.resume(&mut world.cx(), std::mem::take(&mut reply));
            match step {
                Step::Done(result) => break result.unwrap(),
                Step::Do(effect) => reply = world.carry_out(effect),
            }
            steps += 1;
        };
        assert_eq!((steps, world.slept().len()), (3, 1));
        assert!(world.now.mono - began < SECOND && token.expires_at().is_some());
    }
}

#[test]
fn a_pause_that_took_all_the_time_there_was_is_the_end() {
    let mut world = world();
    world.server().fail(Place::Token, Fault::status(503, ""));
    let mut machine = client_credentials(&mut world);
    let mut reply = Reply::Start;
    let error = loop {
        match machine.resume(&mut world.cx(), reply) {
            Step::Done(result) => break result.unwrap_err(),
            Step::Do(effect) => reply = world.carry_out(effect),
        }
        if let Reply::Slept = reply {
            world.pass(30 * SECOND);
        }
    };
    assert_eq!((error.status(), world.sent().len()), (Some(503), 1));
}

#[test]
fn an_answer_that_a_driver_should_have_cut_is_refused() {
    let mut world = world();
    let mut machine = client_credentials(&mut world);
    let Step::Do(Effect::Http(call)) = machine.resume(&mut world.cx(), Reply::Start) else { panic!("a request") };
    let answer = http::Response::new(vec![b' '; call.max_body() + 1]);
    let Step::Done(Err(error)) = machine.resume(&mut world.cx(), Reply::Http(answer)) else { panic!("an error") };
    assert!(error.kind() == ErrorKind::InvalidResponse && error.to_string().contains("larger"), "{error}");
}

#[test]
fn a_driver_that_cannot_sleep_gets_the_error_that_led_to_it() {
    for (name, kind, place, repeat) in KINDS {
        if repeat == Repeat::OnlyIfUnsent {
            continue;
        }
        let (world, result, requests) = run(kind, |world| {
            world.refuse = vec!["Sleep"];
            world.server().fail(place, Fault::status(503, "").header("retry-after", "5"));
        });
        let error = result.unwrap_err();
        assert_eq!((error.status(), error.retry_after(), requests), (Some(503), Some(5 * SECOND), 1), "{name}");
        assert_eq!(world.slept(), [5 * SECOND]);
    }
}

#[test]
fn a_driver_that_cannot_make_requests_is_told_what_it_lacks() {
    for (name, kind, _, _) in KINDS {
        let (_, result, _) = run(kind, |world| world.refuse = vec!["Http"]);
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}");
        assert!(error.to_string().contains("Http"), "{error}");
    }
}

#[test]
fn a_wrong_reply_or_a_call_after_the_end_is_misuse_and_nothing_worse() {
    let now = Now { wall: Timestamp::from_unix(1_795_176_000), mono: SECOND };
    let replies: [fn() -> Reply; 8] = [
        || Reply::Start,
        || Reply::Http(http::Response::new(Vec::new())),
        || Reply::Slept,
        || Reply::Env(None),
        || Reply::File(Vec::new()),
        || Reply::Missing,
        || Reply::Failed(Failure::maybe_sent(FailureKind::Other, "x")),
        || Reply::Refused,
    ];
    let resume = |machine: &mut TokenExchange, reply| machine.resume(&mut Cx::new(now, [3; 32]), reply);
    let misused = |step| matches!(step, Step::Done(Err(error)) if Error::kind(&error) == ErrorKind::Misuse);
    for (nth, reply) in replies.iter().enumerate() {
        let mut machine = client_credentials(&mut world());
        let name = reply().name();
        if nth != 0 {
            assert!(misused(resume(&mut machine, reply())), "first: {name}");
            assert!(misused(resume(&mut machine, Reply::Start)), "after its end: {name}");
        }
        let mut machine = client_credentials(&mut world());
        assert!(matches!(resume(&mut machine, Reply::Start), Step::Do(Effect::Http(_))));
        let fits = matches!(name, "Http" | "Failed" | "Refused");
        assert_eq!(misused(resume(&mut machine, reply())), !fits, "after a request: {name}");
        assert!(misused(resume(&mut machine, Reply::Http(http::Response::new(Vec::new())))), "after its end: {name}");
        let mut machine = client_credentials(&mut world());
        let _ = resume(&mut machine, Reply::Start);
        let busy = Reply::Failed(Failure::not_sent(FailureKind::Connect, "x"));
        assert!(matches!(resume(&mut machine, busy), Step::Do(Effect::Sleep(_))));
        let fits = matches!(name, "Slept" | "Failed" | "Refused");
        assert_eq!(misused(resume(&mut machine, reply())), !fits, "after a pause: {name}");
    }
}

#[test]
fn nothing_begins_at_or_after_the_moment_it_must_begin_before() {
    let mut world = world();
    let now = world.now;
    let at = |wall, mono| Now { wall, mono };
    for (moment, requests) in [
        (now + SECOND, 1),
        (now, 0),
        (at(now.wall - SECOND, now.mono - SECOND), 0),
        // It has come when either clock says so: the other may have been set back, or have slept.
        (at(now.wall, now.mono + SECOND), 0),
        (at(now.wall + SECOND, now.mono), 0),
    ] {
        let machine = client_credentials(&mut world).start_before(moment);
        let before = world.sent().len();
        let result = world.run(machine);
        assert_eq!(world.sent().len() - before, requests);
        match result {
            Ok(_) => assert_eq!(world.sent().last().unwrap().start_before, Some(moment)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout),
        }
        world.now = now;
    }
    // A second try would begin too late: the first one's failure is the answer.
    world.server().fail(Place::Token, Fault::status(503, "").header("retry-after", "5"));
    let (machine, before) = (client_credentials(&mut world).start_before(now + 4 * SECOND), world.sent().len());
    let error = world.run(machine).unwrap_err();
    assert_eq!((error.kind(), world.sent().len() - before), (ErrorKind::Http, 1));
}

#[test]
fn a_request_says_where_it_may_go() {
    for (issuer, reach) in [
        ("https://as.example", Reach::Public),
        ("http://127.0.0.1:8080", Reach::Local),
        ("https://localhost", Reach::Local),
        ("http://[::1]:1", Reach::Local),
        ("https://192.168.0.1", Reach::Public),
    ] {
        let mut world = World::with(Server::new(issuer));
        world.run(Discovery::new(&Issuer::new(issuer).unwrap())).unwrap();
        assert_eq!(world.sent()[0].reach, reach, "{issuer}");
    }
}

#[test]
fn the_same_inputs_give_the_same_effects_to_the_byte() {
    let play = |seed| {
        let mut world = World::new(seed).and(Server::demo());
        world.server().fail(Place::OpenIdMetadata, Fault::status(503, ""));
        let server = world.run(Discovery::new(&Issuer::new("https://as.example").unwrap())).unwrap();
        let token = demo::signed_in(&mut world, "openid email");
        world.fail(Failure::not_sent(FailureKind::Connect, "refused"));
        let token = world.run(TokenRequest::refresh(&server, &client(), &token).unwrap().exchange()).unwrap();
        world.run(Revocation::new(&server, &client(), token.refresh_token().unwrap()).unwrap().exchange()).unwrap();
        (world.trace(), world.server().seen().iter().map(|seen| seen.request.uri().to_string()).collect::<Vec<_>>())
    };
    assert_eq!(play(5), play(5));
    assert_ne!(play(5), play(6), "another seed gives another state, nonce and verifier");
}

#[test]
fn a_call_with_a_rule_that_the_driver_does_not_know_is_not_sent() {
    let mut world = world();
    world.rules = Rules::V1;
    let global = Call::new(http::Request::get("https://as.example/").body(Vec::new()).unwrap())
        .with_reach(Reach::Global)
        .with_identity(Identity::named("card"));
    let Reply::Failed(failure) = world.carry_out(Effect::Http(global)) else { panic!("it is refused") };
    assert_eq!((failure.kind(), failure.may_have_been_sent()), (FailureKind::Unsupported, false));
    assert!(world.sent().is_empty());
    // Whoever asked for it ends with an error that says so, and does not try again.
    let mut machine = client_credentials(&mut world);
    assert!(matches!(machine.resume(&mut world.cx(), Reply::Start), Step::Do(Effect::Http(_))));
    let Step::Done(Err(error)) = machine.resume(&mut world.cx(), Reply::Failed(failure)) else { panic!("it ends") };
    assert_eq!((error.kind(), error.is_transient(), error.is_uncertain()), (ErrorKind::Unsupported, false, false));
    assert!(error.to_string().contains("GLOBAL | IDENTITY"), "{error}");
}
