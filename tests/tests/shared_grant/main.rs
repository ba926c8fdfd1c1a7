//! A grant in a store, shared by processes: each stage of a refresh, in virtual time.

mod former;
mod lineage;
mod trouble;
mod unclear;
mod unsaved;

use std::time::Duration;

use grantflow::machine::FailureKind;
use grantflow::source::{Server as Known, Want};
use grantflow::store::{RecordKey, SharedGrant};
use grantflow::{Advice, ErrorKind, Failure, Issuer, Now, Rotation, Timestamp, TokenType};
use grantflow_tests::Fault;
use grantflow_tests::demo::{client, signed_in};
use grantflow_tests::processes::{Process, Trip, desk, desk_with, intent, kept, late, sent};
use grantflow_tests::server::{Place, RefreshTokens};

const SECOND: Duration = Duration::from_secs(1);
const REFRESHED: [&str; 7] = ["load", "lease", "load", "save", "http", "save", "release"];

fn millis(at: Timestamp) -> i64 {
    at.as_unix_millis()
}

#[test]
fn a_token_that_is_fresh_in_the_store_needs_no_request_and_no_lease() {
    let (mut desk, source) = desk();
    let (mut one, mut other) = (Process::of(&source), Process::of(&source));
    let token = one.mint(&mut desk).unwrap();
    assert_eq!(desk.did, ["load"]);
    assert_eq!(other.mint(&mut desk).unwrap().access_token(), token.access_token());
    assert_eq!(token.scopes().as_str(), "read write");
    assert!(sent(&mut desk).is_empty());
    // 5 minutes before its end it is due, and not fresh any more.
    desk.world.pass(3299 * SECOND);
    Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!(desk.did, ["load"]);
    desk.world.pass(SECOND);
    Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!(desk.did, REFRESHED);
}

#[test]
fn a_token_that_lives_shortly_is_due_when_a_quarter_of_its_life_is_left() {
    let (mut desk, source) = desk_with(|settings| settings.lifetime = 60);
    for (later, did) in [(44, ["load"].as_slice()), (1, REFRESHED.as_slice())] {
        desk.world.pass(later * SECOND);
        Process::of(&source).mint(&mut desk).unwrap();
        assert_eq!(desk.did, did, "{later}");
    }
}

#[test]
fn the_intent_is_saved_before_the_exchange_and_the_result_before_it_is_handed_out() {
    let (mut desk, source) = late();
    let (old, version) = (kept(&desk, &source), desk.version(source.key()));
    let now = desk.world.now;
    let shared = source.clone();
    desk.before("http", move |desk| {
        assert_eq!(intent(desk, &shared), Some((1, millis(now.wall + 30 * SECOND))));
        assert_eq!(desk.version(shared.key()), version + 1);
    });
    let mut process = Process::of(&source);
    let token = process.mint(&mut desk).unwrap();
    assert_eq!(desk.did, REFRESHED);
    let new = kept(&desk, &source);
    assert_eq!((sent(&mut desk), token.refresh_token().unwrap().expose()), (vec![old.clone()], &*new));
    assert!(new != old && intent(&desk, &source).is_none() && desk.version(source.key()) == version + 2);
    assert!(desk.record(source.key()).to_string().contains(token.access_token()));
    assert_eq!(desk.record(source.key())["rotation"], "Rotates", "it is learned");

    let call = desk.world.sent().last().copied().cloned().unwrap();
    assert_eq!((call.start_before, call.timeout), (Some(now + 30 * SECOND), 30 * SECOND));
    // The others use what this one got.
    assert_eq!(Process::of(&source).mint(&mut desk).unwrap().access_token(), token.access_token());
    assert_eq!(desk.did, ["load"]);
    assert!(process.state.save_error().is_none());
}

#[test]
fn what_somebody_else_got_meanwhile_is_used() {
    // Between the first look and the lease.
    let (mut desk, source) = late();
    let mut other = Process::of(&source);
    desk.before("lease", move |desk| drop(other.mint(desk).unwrap()));
    let token = Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!(desk.did, ["load", "lease", "load", "release"]);
    assert_eq!(token.refresh_token().unwrap().expose(), kept(&desk, &source));
    // While they have the lease.
    let (mut desk, source) = late();
    desk.lease(source.key(), 999);
    (0..4).for_each(|_| desk.trip("sleep", Trip::Pass));
    let mut other = Process::of(&source);
    desk.before("sleep", move |desk| {
        desk.shelf.give_back(999);
        drop(other.mint(desk).unwrap());
    });
    let token = Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!(
        desk.did[..],
        [["load", "lease", "sleep"]; 5].concat()[..].iter().copied().chain(["load"]).collect::<Vec<_>>()
    );
    assert_eq!((sent(&mut desk).len(), token.refresh_token().unwrap().expose()), (1, &*kept(&desk, &source)));
}

#[test]
fn nobody_waits_for_a_lease_for_ever_nor_in_step_with_others() {
    let (mut desk, source) = late();
    desk.lease(source.key(), 999);
    let began = desk.world.now.mono;
    let error = Process::of(&source).mint(&mut desk).unwrap_err();
    assert!(error.kind() == ErrorKind::Timeout && error.is_transient(), "{error:?}");
    let took = desk.world.now.mono - began;
    assert!((90 * SECOND..91 * SECOND).contains(&took), "{took:?}");
    let slept = desk.world.slept();
    for (nth, pause) in slept.iter().enumerate() {
        let longest = Duration::from_millis(50 << (nth + 1).min(4));
        assert!((longest / 2..longest).contains(pause), "{nth}: {pause:?}");
    }
    assert!(slept.windows(2).skip(4).any(|pair| pair[0] != pair[1]));
    // It is nobody's fault: with the lease free it works.
    desk.shelf.give_back(999);
    Process::of(&source).mint(&mut desk).unwrap();
}

#[test]
fn a_new_sign_in_in_the_middle_stays() {
    // At the first save it is used, at the second it is left there.
    for saves in [1, 2] {
        let (mut desk, source) = late();
        (1..saves).for_each(|_| desk.trip("save", Trip::Pass));
        let key = source.key().clone();
        desk.before("save", move |desk| {
            let token = signed_in(&mut desk.world, "read");
            // Another program, which has no lease.
            let old = desk.version(&key);
            desk.edit(&key, |record| {
                record["refresh_token"] = token.refresh_token().unwrap().expose().into();
                record["grant"] = "another".into();
            });
            assert_eq!(desk.version(&key), old + 1);
        });
        let mut process = Process::of(&source);
        let first = kept(&desk, &source);
        let token = process.mint(&mut desk).unwrap();
        assert!(process.state.save_error().is_none());
        let used = sent(&mut desk);
        if saves == 1 {
            assert_eq!(desk.did, ["load", "lease", "load", "save", "load", "save", "http", "save", "release"]);
            assert!(used.len() == 1 && used[0] != first);
        } else {
            assert_eq!(desk.did, ["load", "lease", "load", "save", "http", "save", "load", "release"]);
            assert_eq!(used, [first]);
            assert_ne!(token.refresh_token().unwrap().expose(), kept(&desk, &source));
            // Asked again, it goes on with what is there.
            desk.world.pass(30 * SECOND);
            let again = process.mint(&mut desk).unwrap();
            assert_eq!(again.refresh_token().unwrap().expose(), kept(&desk, &source));
        }
    }
}

#[test]
fn a_record_that_never_stands_still_is_an_error_that_passes() {
    let (mut desk, source) = late();
    for _ in 0..100 {
        let key = source.key().clone();
        desk.before("save", move |desk| desk.edit(&key, |_| {}));
    }
    let error = Process::of(&source).mint(&mut desk).unwrap_err();
    assert!(error.kind() == ErrorKind::Store && error.is_transient(), "{error:?}");
    assert!(desk.did.len() < 100 && desk.did.last() == Some(&"release") && sent(&mut desk).is_empty());
}

#[test]
fn after_a_long_wait_for_the_lease_a_conflict_is_still_no_reason_to_give_up() {
    let (mut desk, source) = late();
    desk.lease(source.key(), 999);
    (0..40).for_each(|_| desk.trip("sleep", Trip::Pass));
    desk.before("sleep", |desk| desk.shelf.give_back(999));
    let key = source.key().clone();
    desk.before("save", move |desk| desk.edit(&key, |_| {}));
    Process::of(&source).mint(&mut desk).unwrap();
}

#[test]
fn where_refresh_tokens_stay_there_is_no_intent_and_a_lost_answer_does_no_harm() {
    let (mut desk, source) = desk_with(|settings| settings.refresh_tokens = RefreshTokens::Stay);
    desk.edit(source.key(), |record| record["rotation"] = "Never".into());
    desk.world.pass(3600 * SECOND);
    desk.world.server().fail(Place::Token, Fault::DropAfter);
    let token = Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!(desk.did, ["load", "lease", "load", "http", "sleep", "http", "save", "release"]);
    assert_eq!(token.rotation(), Rotation::Never);
    assert!(intent(&desk, &source).is_none());
    // Nor does it take longer than where they are replaced.
    desk.shelf.expiring = true;
    desk.world.pass(3600 * SECOND);
    Process::of(&source).mint(&mut desk).unwrap();
    let call = desk.world.sent().last().copied().cloned().unwrap();
    assert_eq!(call.timeout, 30 * SECOND);
}

#[test]
fn the_exchange_ends_with_the_lease() {
    // (how long the lease is, how long it takes to save the intent, what is left to the exchange)
    for (lease, save, left) in [(60, 0, 30), (60, 25, 5), (60, 29, 1), (30, 0, 20), (30, 15, 5), (12, 1, 1)] {
        let (mut desk, source) = late();
        desk.shelf.expiring = true;
        desk.shelf.longest = Some(lease * SECOND);
        let began = desk.world.now;
        desk.before("save", move |desk| desk.world.pass(save * SECOND));
        Process::of(&source).mint(&mut desk).unwrap();
        let call = desk.world.sent().last().copied().cloned().unwrap();
        assert_eq!(call.timeout, left * SECOND, "{lease} {save}");
        let end = call.start_before.expect("a limit");
        assert_eq!(end.wall, began.wall + (save + left) * SECOND, "{lease} {save}");
    }
    // Nothing left: nothing is sent, and the intent is taken back.
    for (lease, save) in [(60, 30), (60, 300), (30, 20), (10, 0), (5, 0)] {
        let (mut desk, source) = late();
        desk.shelf.expiring = true;
        desk.shelf.longest = Some(lease * SECOND);
        desk.before("save", move |desk| desk.world.pass(save * SECOND));
        let error = Process::of(&source).mint(&mut desk).unwrap_err();
        assert!(error.kind() == ErrorKind::Timeout && !error.is_uncertain(), "{lease} {save}: {error:?}");
        assert!(sent(&mut desk).is_empty() && intent(&desk, &source).is_none(), "{lease} {save}");
    }
}

#[test]
fn a_driver_without_a_store_is_told_so() {
    for (nth, word) in ["load", "lease", "load", "save"].into_iter().enumerate() {
        let (mut desk, source) = late();
        if nth == 2 {
            desk.trip("load", Trip::Pass);
        }
        desk.trip(word, Trip::Refuse);
        let error = Process::of(&source).mint(&mut desk).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("Store"), "{nth}: {error}");
        assert!(sent(&mut desk).is_empty(), "{nth}");
    }
    // One that cannot wait learns what it would have waited for.
    let (mut desk, source) = late();
    desk.lease(source.key(), 999);
    desk.trip("sleep", Trip::Refuse);
    let error = Process::of(&source).mint(&mut desk).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[test]
fn what_is_no_record_of_this_grant_is_refused_and_never_overwritten() {
    let (desk, source) = late();
    let record = desk.record(source.key());
    let with = |name: &str, value: serde_json::Value| {
        let mut record = record.clone();
        record[name] = value;
        record.to_string().into_bytes()
    };
    let text = record.to_string();
    let other = RecordKey::new(&Issuer::new("https://as.example").unwrap(), &client(), "bob");
    for (what, value, word) in [
        ("empty", Vec::new(), "cannot be read"),
        ("torn", text.as_bytes()[..text.len() / 2].to_vec(), "cannot be read"),
        ("no JSON", b"\xff\xfe\x00".to_vec(), "cannot be read"),
        ("another's", with("key", serde_json::to_value(&other).unwrap()), "another one"),
        ("bound", with("key_binding", "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I".into()), "bound to a DPoP key"),
        ("of no habit", with("rotation", "Sometimes".into()), "cannot be read"),
    ] {
        let (mut desk, source) = late();
        let stored = grantflow::store::Stored::new(7, value.clone());
        desk.shelf.put(source.key(), desk.world.now.mono, Some(stored));
        let error = Process::of(&source).mint(&mut desk).unwrap_err();
        // What is bound is in order, and the client is not.
        let kind = if what == "bound" { ErrorKind::Config } else { ErrorKind::Store };
        assert!(error.kind() == kind && error.to_string().contains(word), "{what}: {error}");
        assert!(error.to_string().contains("alice") && !error.to_string().contains("rt-"), "{what}: {error}");
        assert_eq!((desk.did.as_slice(), desk.version(source.key())), (["load"].as_slice(), 7), "{what}");
    }
    // Nothing there is something else.
    let (mut desk, source) = late();
    desk.shelf.put(source.key(), desk.world.now.mono, None);
    let error = Process::of(&source).mint(&mut desk).unwrap_err();
    assert_eq!((error.kind(), error.advice()), (ErrorKind::NotSignedIn, Some(Advice::SignInAgain)));
}

#[test]
fn two_wants_share_the_grant_and_not_the_token() {
    let (mut desk, source) = late();
    let mut read = Process::of(&source);
    let mut write = Process { want: Want::access_token("write"), ..read.clone() };
    let one = read.mint(&mut desk).unwrap();
    let two = write.mint(&mut desk).unwrap();
    assert_eq!(desk.did, REFRESHED);
    assert_ne!(one.access_token(), two.access_token());
    assert_eq!((one.scopes().as_str(), two.scopes().as_str()), ("read", "write"));
    let used = sent(&mut desk);
    assert!(used.len() == 2 && used[1] == one.refresh_token().unwrap().expose(), "{used:?}");
    // Both are there for others.
    for (want, token) in [(&read.want, &one), (&write.want, &two)] {
        let mut other = Process { want: want.clone(), ..Process::of(&source) };
        assert_eq!(other.mint(&mut desk).unwrap().access_token(), token.access_token());
        assert_eq!(desk.did, ["load"]);
    }
    // What others cannot be told from by scope alone.
    let wants = ["audience", "resource", "account"].map(|what| match what {
        "audience" => read.want.clone().audience("x"),
        "resource" => read.want.clone().resource("https://x.example"),
        _ => read.want.clone().account("alice"),
    });
    desk.world.server().settings.extra_params = vec!["audience", "resource"];
    for want in wants {
        let token = Process { want, ..Process::of(&source) }.mint(&mut desk).unwrap();
        assert!(token.access_token() != one.access_token() && desk.did == REFRESHED);
    }
}

#[test]
fn a_token_of_which_the_server_says_nothing_else_has_the_scopes_that_were_granted() {
    let (mut desk, source) = late();
    let token = Process { want: Want::default(), ..Process::of(&source) }.mint(&mut desk).unwrap();
    assert_eq!((token.scopes().as_str(), &*desk.did), ("read write", REFRESHED.as_slice()));
}

#[test]
fn a_token_that_is_more_than_its_text_is_not_kept_for_others() {
    let (mut desk, source) = late();
    let answer = r#"{"access_token":"bound","token_type":"DPoP","expires_in":3600,"refresh_token":"rt-next"}"#;
    desk.world.server().fail(Place::Token, Fault::status(200, answer));
    let token = Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!((token.token_type(), &*kept(&desk, &source)), (&TokenType::DPoP, "rt-next"));
    assert!(!desk.record(source.key())["tokens"].to_string().contains("bound"));
}

#[test]
fn of_many_wants_the_newest_tokens_are_kept() {
    let (mut desk, source) = late();
    desk.world.server().settings.extra_params = vec!["audience"];
    let wants: Vec<_> = (0..20).map(|nth| Want::access_token("read").audience(&format!("a{nth}"))).collect();
    for want in &wants {
        Process { want: want.clone(), ..Process::of(&source) }.mint(&mut desk).unwrap();
    }
    let record = desk.record(source.key());
    assert_eq!(record["tokens"].as_object().unwrap().len(), 16);
    for (nth, want) in wants.iter().enumerate() {
        assert_eq!(
            record["tokens"].to_string().contains(want.wanted_audience().unwrap()),
            nth >= 4 || nth == 1,
            "{nth}"
        );
    }
}

#[test]
fn a_token_that_was_refused_leads_to_another_one() {
    let (mut desk, source) = desk();
    let (mut one, mut other) = (Process::of(&source), Process::of(&source));
    let refused = one.mint(&mut desk).unwrap();
    assert_eq!(other.mint(&mut desk).unwrap().access_token(), refused.access_token());
    // The store still has it, and it looks fresh; who asks again has been refused.
    let token = one.mint(&mut desk).unwrap();
    assert_eq!(desk.did, REFRESHED);
    assert_ne!(token.access_token(), refused.access_token());
    // The other one finds the new one, without a request.
    assert_eq!(other.mint(&mut desk).unwrap().access_token(), token.access_token());
    assert_eq!((desk.did.clone(), sent(&mut desk).len()), (vec!["load"], 1));
}

#[test]
fn a_server_known_by_its_issuer_is_discovered_before_the_lease_and_its_metadata_read_once() {
    let (mut desk, shared) = late();
    let issuer = Issuer::new("https://as.example").unwrap();
    let source = SharedGrant::new(shared.key().clone(), Known::Issuer(issuer), &client());
    let mut process = Process::of(&source);
    for _ in 0..2 {
        process.mint(&mut desk).unwrap();
        assert_eq!(desk.did, ["load", "http", "lease", "load", "save", "http", "save", "release"]);
    }
    assert_eq!(desk.world.server().seen_at(Place::OpenIdMetadata).len(), 1);
    // A server that cannot be found takes the intent back.
    desk.world.documents = None;
    for _ in 0..20 {
        desk.world.fail(Failure::not_sent(FailureKind::Connect, "refused"));
    }
    let error = Process { source: source.clone(), ..Process::of(&shared) };
    desk.world.pass(3600 * SECOND);
    let error = { error }.mint(&mut desk).unwrap_err();
    assert!(!error.is_uncertain() && intent(&desk, &source).is_none(), "{error:?}");
}

#[test]
fn what_a_users_grant_cannot_do_is_refused_before_anything_is_asked() {
    let (mut desk, source) = desk();
    for want in [Want::id_token("x"), Want::access_token("read").subject("bob"), Want::access_token("").self_signed()] {
        let error = Process { want, ..Process::of(&source) }.mint(&mut desk).unwrap_err();
        assert_eq!((error.kind(), desk.did.len()), (ErrorKind::Config, 0), "{error}");
    }
}

/// The metadata's host has 30 s of its own; so has the use of the refresh token, whatever that host does.
#[test]
fn reading_the_metadata_takes_no_time_from_the_use() {
    let (mut desk, shared) = late();
    let issuer = Issuer::new("https://as.example").unwrap();
    let source = SharedGrant::new(shared.key().clone(), Known::Issuer(issuer), &client());
    desk.before("http", |desk| desk.world.pass(29 * SECOND));
    Process::of(&source).mint(&mut desk).unwrap();
    let [.., metadata, used] = &desk.world.sent()[..] else { panic!("two requests") };
    assert!(metadata.request.uri().path().contains("/.well-known/") && used.timeout == 30 * SECOND, "{used:?}");
    // Nor does a host that never answers keep the grant leased.
    let (mut desk, shared) = late();
    let issuer = Issuer::new("https://as.example").unwrap();
    let source = SharedGrant::new(shared.key().clone(), Known::Issuer(issuer), &client());
    for _ in 0..8 {
        desk.before("http", |desk| {
            desk.world.fail(Failure::maybe_sent(FailureKind::Timeout, "no answer"));
            desk.world.pass(30 * SECOND);
        });
    }
    let error = Process::of(&source).mint(&mut desk).unwrap_err();
    assert!(!error.is_uncertain() && !error.ends_grant() && !desk.did.contains(&"lease"), "{error} {:?}", desk.did);
}

/// A lease ends by whichever clock says so first.
#[test]
fn no_wall_clock_that_is_set_makes_a_lease_longer() {
    for (passes, set) in [(61, -3600), (3661, 3600), (61, 0)] {
        let (mut desk, source) = late();
        desk.shelf.expiring = true;
        // Where refresh tokens stay there is no intent, whose time would end before.
        desk.edit(source.key(), |record| {
            record["rotation"] = "Never".into();
            record["tokens"] = serde_json::json!({});
        });
        let began = desk.world.now;
        desk.trip("load", Trip::Pass);
        desk.before("load", move |desk| {
            let wall = began.wall.as_unix_millis() + (passes + set) * 1000;
            desk.world.now = Now {
                wall: Timestamp::from_unix_millis(wall),
                mono: began.mono + if set > 0 { SECOND } else { 61 * SECOND },
            };
        });
        let error = Process::of(&source).mint(&mut desk).unwrap_err();
        assert!(error.kind() == ErrorKind::Timeout && !error.is_uncertain(), "{set}: {error:?}");
        assert!(sent(&mut desk).is_empty(), "{set}");
    }
}
