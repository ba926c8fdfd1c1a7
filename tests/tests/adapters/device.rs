//! The device flow over real sockets and by the real clock.

use std::thread;
use std::time::Duration;

use grantflow::{DeviceAuthorization, DeviceCode, Error, Token};
use grantflow_tests::demo::client;
use grantflow_tests::server::Consent;
use grantflow_tests::{Fault, Front, Place, Server, person};

use super::Adapter;

/// A server that may be asked once a second.
fn front() -> Front {
    Front::start(Server::demo().with(|settings| settings.device_interval = Some(1))).unwrap()
}

fn device_code<A: Adapter>(adapter: &A, front: &Front) -> DeviceCode {
    let request = DeviceAuthorization::new(&front.metadata(), &client()).unwrap().scopes("openid read");
    adapter.run(request.exchange()).unwrap()
}

/// Polls, and the person enters the code as soon as this many questions were asked.
fn poll<A: Adapter>(adapter: &A, front: &Front, questions: usize) -> Result<Token, Error> {
    let code = device_code(adapter, front);
    let (uri, user_code) = (code.verification_uri().to_owned(), code.user_code().to_owned());
    thread::scope(|scope| {
        scope.spawn(|| {
            while front.server().seen_at(Place::Token).len() < questions {
                thread::sleep(Duration::from_millis(20));
            }
            assert_eq!(person::enter_code(&uri, &user_code).unwrap().status, 200);
        });
        adapter.run(code.poll(&front.metadata(), &client()).unwrap())
    })
}

/// The pauses between what devices asked, in tenths of a second.
fn pauses(front: &Front) -> Vec<u128> {
    let server = front.server();
    let asked: Vec<_> = server.seen().iter().filter(|seen| seen.place != Place::Verification).collect();
    asked.windows(2).map(|pair| pair[1].at.since(pair[0].at).as_millis() / 100).collect()
}

pub(super) fn a_device_signs_in_once_a_person_has_entered_its_code<A: Adapter>() {
    let front = front();
    let token = poll(&A::new(), &front, 1).unwrap();
    assert_eq!((token.id_token().unwrap().subject(), token.refresh_token().is_some()), ("alice", true));
    assert!(front.server().accepts(token.access_token(), token.issued_at()));
    // One sooner would have been told to slow down.
    assert!(matches!(pauses(&front)[..], [10..20, 10..20]), "{:?}", pauses(&front));
}

pub(super) fn a_device_whose_connection_breaks_asks_again_later<A: Adapter>() {
    let front = front();
    front.server().fail(Place::Token, Fault::DropBefore);
    poll(&A::new(), &front, 1).unwrap();
    assert!(matches!(pauses(&front)[..], [10..20, 20..30]), "{:?}", pauses(&front));
}

pub(super) fn a_device_is_told_that_the_person_said_no<A: Adapter>() {
    let front = front();
    front.server().settings.consent = Consent::Deny("access_denied");
    let error = poll(&A::new(), &front, 0).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "access_denied");
}
