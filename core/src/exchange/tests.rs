//! The repetition for a nonce, by a proof of the tests' own, and what bounds a signer.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::prepare::{MakePart, Making, Place};
use super::{Exchange, Request};
use crate::crypto::{Algorithm, Signer, Signing};
use crate::jose::JwtSigner;
use crate::machine::{Effect, FailureKind, Repeat, Rules};
use crate::server::Endpoint;
use crate::{Advice, Cx, Error, ErrorKind, Failure, Machine, Now, Reply, Step, Timestamp};

/// Signs with the message's length, here or after a pause.
#[derive(Clone, Copy, Debug)]
enum Key {
    Here,
    Far(Duration),
}

impl Signer for Key {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
    fn sign(&self, message: &[u8], _: &mut Cx) -> Signing {
        match self {
            Self::Here => Signing::Done(Ok(message.len().to_string().into_bytes())),
            Self::Far(time) => Signing::Remote(Box::new(Asks(*time))),
        }
    }
}

struct Asks(Duration);

impl Machine for Asks {
    type Output = Vec<u8>;
    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<Vec<u8>> {
        match reply {
            Reply::Start => Step::Do(Effect::Sleep(self.0)),
            Reply::Slept => Step::Done(Ok(b"far".to_vec())),
            _ => Step::Done(Err(Error::new(ErrorKind::GrantLost, "the signer's own grant is lost"))),
        }
    }
}

/// A proof, as DPoP makes one, which shows its nonce in the open.
#[derive(Debug)]
struct Proof(Key);

impl MakePart for Proof {
    fn make(&self, request: &Request, nonce: Option<&str>, cx: &mut Cx) -> Result<Making, Error> {
        let claims =
            format!("{} {:?} {} {}", request.0.method, request.0.endpoint, nonce.unwrap_or("-"), cx.now().wall);
        let signing = JwtSigner::new("dpop+jwt", Arc::new(self.0)).sign(&claims);
        Ok(Making { signing, place: Place::Param("proof"), life: Duration::from_secs(60) })
    }
    fn takes_nonce(&self) -> bool {
        true
    }
}

fn request(key: Key) -> Request {
    let endpoint = Endpoint::new("https://as.example/token").unwrap();
    Request::post("testing", &endpoint).param("a", "b").part(Arc::new(Proof(key)))
}

fn exchange(key: Key) -> Exchange<Vec<u8>> {
    request(key).exchange(|received| Ok(received.response.body().clone()))
}

/// The time `seconds` after the beginning.
fn at(seconds: u64) -> Cx {
    let passed = Duration::from_secs(seconds);
    Cx::new(Now { wall: Timestamp::from_unix(1000) + passed, mono: passed }, [7; 32])
}

/// The claims of the proof in the request that a step asks for.
#[track_caller]
fn sent<T: std::fmt::Debug>(step: Step<T>) -> String {
    use base64::Engine as _;
    let Step::Do(Effect::Http(call)) = step else { panic!("{step:?}") };
    let call = call.open(Rules::V1 | Rules::START_BEFORE).unwrap();
    let body = std::str::from_utf8(call.request.body()).unwrap();
    let proof = body.strip_prefix("a=b&proof=").unwrap().split('.').nth(1).unwrap();
    String::from_utf8(base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(proof).unwrap()).unwrap()
}

fn answer(status: u16, error: &str, nonces: &[&str]) -> Reply {
    let mut response = http::Response::builder().status(status);
    for nonce in nonces {
        response = response.header("DPoP-Nonce", *nonce);
    }
    Reply::Http(response.body(format!(r#"{{"error": "{error}"}}"#).into_bytes()).unwrap())
}

#[track_caller]
fn failed<T: std::fmt::Debug>(step: Step<T>) -> Error {
    let Step::Done(Err(error)) = step else { panic!("{step:?}") };
    error
}

#[test]
fn a_request_that_lacks_a_nonce_is_made_once_more_with_it_whatever_its_rules() {
    for status in [400, 401] {
        for repeat in [Repeat::OnlyIfUnsent, Repeat::Freely] {
            let mut exchange = request(Key::Here).repeat(repeat).exchange(|_| Ok(())).once();
            assert!(sent(exchange.resume(&mut at(0), Reply::Start)).contains(" - "));
            let again = exchange.resume(&mut at(1), answer(status, "use_dpop_nonce", &["n1"]));
            assert!(sent(again).contains(" n1 1970-01-01T00:16:41Z"));
            // Once, and no more: a server that asks without end gets an error.
            let error = failed(exchange.resume(&mut at(2), answer(status, "use_dpop_nonce", &["n2"])));
            assert_eq!(error.server().unwrap().error(), "use_dpop_nonce");
            assert!(!error.is_uncertain());
        }
    }
}

#[test]
fn the_repetition_for_a_nonce_counts_as_no_try() {
    let mut exchange = request(Key::Here).repeat(Repeat::Freely).exchange(|_| Ok(())).total_time(Duration::MAX);
    sent(exchange.resume(&mut at(0), Reply::Start));
    sent(exchange.resume(&mut at(0), answer(400, "use_dpop_nonce", &["n1"])));
    let mut tries = 1;
    while let Step::Do(Effect::Sleep(_)) = exchange.resume(&mut at(0), answer(503, "", &[])) {
        assert!(sent(exchange.resume(&mut at(0), Reply::Slept)).contains(" n1 "));
        tries += 1;
    }
    assert_eq!(tries, super::TRIES);
}

#[test]
fn a_nonce_is_heeded_from_any_answer_and_only_a_request_with_a_proof_is_made_again() {
    let mut exchange = request(Key::Here).repeat(Repeat::Freely).exchange(|_| Ok(()));
    sent(exchange.resume(&mut at(0), Reply::Start));
    let _ = exchange.resume(&mut at(0), answer(503, "", &["n1"]));
    assert!(sent(exchange.resume(&mut at(1), Reply::Slept)).contains(" n1 "));

    let endpoint = Endpoint::new("https://as.example/token").unwrap();
    let mut bare = Request::post("testing", &endpoint).exchange(|_| Ok(()));
    let _ = bare.resume(&mut at(0), Reply::Start);
    failed(bare.resume(&mut at(0), answer(400, "use_dpop_nonce", &["n1"])));
}

#[test]
fn what_is_no_nonce_or_no_request_for_one_ends_it() {
    let long = "n".repeat(1025);
    for (status, error, nonces) in [
        (400, "use_dpop_nonce", &[][..]),
        (400, "use_dpop_nonce", &[""]),
        (400, "use_dpop_nonce", &["a b"]),
        (400, "use_dpop_nonce", &["a\"b"]),
        (400, "use_dpop_nonce", &["a\\b"]),
        (400, "use_dpop_nonce", &["n1", "n2"]),
        (400, "use_dpop_nonce", &[&long]),
        (400, "invalid_request", &["n1"]),
        (403, "use_dpop_nonce", &["n1"]),
        (200, "use_dpop_nonce", &["n1"]),
    ] {
        let mut exchange = exchange(Key::Here);
        sent(exchange.resume(&mut at(0), Reply::Start));
        let step = exchange.resume(&mut at(0), answer(status, error, nonces));
        assert!(matches!(step, Step::Done(_)), "{status} {error} {nonces:?}: {step:?}");
    }
}

#[test]
fn the_repetition_for_a_nonce_is_bound_by_the_time() {
    let mut late = exchange(Key::Here).total_time(Duration::from_secs(5));
    sent(late.resume(&mut at(0), Reply::Start));
    let error = failed(late.resume(&mut at(5), answer(400, "use_dpop_nonce", &["n1"])));
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let mut late = exchange(Key::Here).start_before(at(4).now());
    sent(late.resume(&mut at(0), Reply::Start));
    let error = failed(late.resume(&mut at(4), answer(400, "use_dpop_nonce", &["n1"])));
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[test]
fn nobody_waits_for_a_try_that_may_not_begin_any_more() {
    for (before, waits) in [(1, false), (60, true)] {
        let mut exchange = exchange(Key::Here).start_before(at(before).now());
        sent(exchange.resume(&mut at(0), Reply::Start));
        let refused = Failure::not_sent(FailureKind::Connect, "connection refused");
        let step = exchange.resume(&mut at(1), Reply::Failed(refused));
        assert_eq!(matches!(step, Step::Do(Effect::Sleep(_))), waits, "{step:?}");
    }
}

#[test]
fn a_far_signer_is_asked_at_each_try_and_is_bound_by_the_time_of_the_exchange() {
    let far = Key::Far(Duration::from_secs(3));
    let mut slow = exchange(far).total_time(Duration::from_secs(10));
    assert!(matches!(slow.resume(&mut at(0), Reply::Start), Step::Do(Effect::Sleep(_))));
    assert!(sent(slow.resume(&mut at(3), Reply::Slept)).contains("00:16:40Z"));
    let step = slow.resume(&mut at(4), answer(401, "use_dpop_nonce", &["n1"]));
    assert!(matches!(step, Step::Do(Effect::Sleep(_))), "{step:?}");
    assert!(sent(slow.resume(&mut at(7), Reply::Slept)).contains(" n1 1970-01-01T00:16:44Z"));
    // A pause of the signer's that is too long is refused, and its error is another's than the server's.
    let mut short = exchange(far).total_time(Duration::from_secs(3));
    let error = failed(short.resume(&mut at(0), Reply::Start));
    assert_eq!((error.kind(), error.is_uncertain()), (ErrorKind::Signing, false));
    assert_eq!(error.advice(), Some(Advice::FixConfiguration));
}

#[test]
fn what_was_signed_ahead_is_sent_unless_it_is_too_old() {
    for (key, later, fresh) in [(Key::Here, 59, true), (Key::Here, 60, false), (Key::Far(Duration::ZERO), 59, true)] {
        let mut ahead = exchange(key).ahead();
        let mut step = ahead.resume(&mut at(0), Reply::Start);
        if let Step::Do(Effect::Sleep(_)) = step {
            step = ahead.resume(&mut at(0), Reply::Slept);
        }
        let Step::Done(Ok(mut exchange)) = step else { panic!("{step:?}") };
        assert_eq!(sent(exchange.resume(&mut at(later), Reply::Start)).contains("00:16:40Z"), fresh, "{later}");
        // The next try makes its own.
        let reply = Reply::Failed(Failure::not_sent(FailureKind::Connect, "refused"));
        let _ = exchange.resume(&mut at(later), reply);
        let step = exchange.resume(&mut at(later + 1), Reply::Slept);
        match key {
            Key::Here => assert!(!sent(step).contains("00:16:40Z")),
            Key::Far(_) => assert!(matches!(step, Step::Do(Effect::Sleep(_)))),
        }
        failed(ahead.resume(&mut at(0), Reply::Start));
    }
}

#[test]
fn a_clock_that_was_set_back_makes_what_was_signed_worthless() {
    let Step::Done(Ok(mut exchange)) = exchange(Key::Here).ahead().resume(&mut at(5), Reply::Start) else { panic!() };
    assert!(sent(exchange.resume(&mut at(4), Reply::Start)).contains("00:16:44Z"));
}

#[test]
fn a_request_that_is_wrong_is_signed_by_nobody() {
    let wrong = || request(Key::Far(Duration::ZERO)).param("a", "twice").exchange(|_| Ok(()));
    assert_eq!(failed(wrong().resume(&mut at(0), Reply::Start)).kind(), ErrorKind::Config);
    assert_eq!(failed(wrong().ahead().resume(&mut at(0), Reply::Start)).kind(), ErrorKind::Config);
}

#[test]
fn who_sends_alone_signs_with_a_key_that_is_here() {
    assert!(request(Key::Here).to_http(&mut at(0)).unwrap().body().starts_with(b"a=b&proof="));
    let error = request(Key::Far(Duration::ZERO)).to_http(&mut at(0)).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("Exchange"), "{error}");
}

/// A part in a header of its own, as attestation of a client has two: what vouches for the client's key, and the proof of that key
/// for this request (OAuth 2.0 Attestation-Based Client Authentication).
#[derive(Debug)]
struct InHeader(&'static str);

impl MakePart for InHeader {
    fn make(&self, _: &Request, _: Option<&str>, cx: &mut Cx) -> Result<Making, Error> {
        let signing = JwtSigner::new("oauth-client-attestation-pop+jwt", Arc::new(Key::Far(Duration::from_secs(1))))
            .sign(&format!("{} {}", self.0, cx.now().wall));
        Ok(Making { signing, place: Place::Header(HeaderName::from_static(self.0)), life: Duration::from_secs(60) })
    }
}

#[test]
fn each_try_may_be_given_two_headers_that_are_made_for_it() {
    use base64::Engine as _;
    let names = ["oauth-client-attestation", "oauth-client-attestation-pop"];
    let request = names.into_iter().fold(request(Key::Here), |request, name| request.part(Arc::new(InHeader(name))));
    let mut exchange = request.repeat(Repeat::Freely).exchange(|_| Ok(()));
    let mut seen = Vec::new();
    let (mut step, mut second) = (exchange.resume(&mut at(0), Reply::Start), 0);
    loop {
        let reply = match step {
            Step::Do(Effect::Sleep(_)) => Reply::Slept,
            Step::Do(Effect::Http(call)) => {
                let call = call.open(Rules::V1 | Rules::START_BEFORE).unwrap();
                let claims = names.map(|name| {
                    let value = &call.request.headers()[name];
                    assert!(value.is_sensitive());
                    let claims = value.to_str().unwrap().split('.').nth(1).unwrap();
                    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap()
                });
                assert_ne!(claims[0], claims[1]);
                seen.push(claims);
                answer(if seen.len() == 1 { 503 } else { 200 }, "", &[])
            }
            Step::Done(done) => break done.unwrap(),
            Step::Do(effect) => panic!("{effect:?}"),
        };
        second += 1;
        step = exchange.resume(&mut at(second), reply);
    }
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0], seen[1], "what was made for one try is not sent with the next");
}
