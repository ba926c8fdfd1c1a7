//! The rules of calls, as both adapters obey or refuse them.

use grantflow::machine::{FailureKind, Reach};
use grantflow::{Call, Effect, Failure, Now, Reply, Step};

use super::*;

/// A machine that asks for one call and ends with its answer.
pub(super) struct Once(Option<Call>);

impl Once {
    pub(super) fn new(call: Call) -> Self {
        Self(Some(call))
    }
}

impl Machine for Once {
    type Output = Result<http::Response<Vec<u8>>, Failure>;

    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<Self::Output> {
        match (self.0.take(), reply) {
            (Some(call), Reply::Start) => Step::Do(Effect::Http(call)),
            (None, Reply::Http(response)) => Step::Done(Ok(Ok(response))),
            (None, Reply::Failed(failure)) => Step::Done(Ok(Err(failure))),
            (_, reply) => panic!("{reply:?}"),
        }
    }
}

/// A request to this server.
fn call(front: &Front) -> Call {
    let request = http::Request::get(front.url(Place::OpenIdMetadata)).body(Vec::new());
    Call::new(request.unwrap()).with_reach(Reach::Local)
}

fn fetch<A: Adapter>(adapter: &A, call: Call) -> Result<http::Response<Vec<u8>>, Failure> {
    adapter.run(Once::new(call)).unwrap()
}

pub(super) fn a_request_that_stays_global_is_not_sent_to_this_machine_by_any_name<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let adapter = A::new();
    let port = http::Uri::try_from(front.url(Place::OpenIdMetadata)).unwrap().port_u16().unwrap();
    for host in ["127.0.0.1", "127.1", "2130706433", "localhost", "a.localhost", "[::1]", "[::ffff:127.0.0.1]", "0"] {
        for scheme in ["https", "http"] {
            let request = http::Request::get(format!("{scheme}://{host}:{port}/")).body(Vec::new());
            let failure = fetch(&adapter, Call::new(request.unwrap()).with_reach(Reach::Global)).unwrap_err();
            let told = (failure.kind(), failure.may_have_been_sent());
            assert_eq!(told, (FailureKind::Forbidden, false), "{scheme}://{host}: {failure}");
        }
    }
    let error = adapter.run(Discovery::of_stranger(&Issuer::new("https://localhost").unwrap())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert_eq!(front.connections(), 0);
}

pub(super) fn a_request_does_not_begin_once_either_clock_says_that_it_is_too_late<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let adapter = A::new();
    let now = adapter.cx().now();
    let later = now + Duration::from_secs(60);
    for moment in [now, Now { wall: now.wall, ..later }, Now { mono: now.mono, ..later }] {
        let failure = fetch(&adapter, call(&front).with_start_before(moment)).unwrap_err();
        assert_eq!((failure.kind(), failure.may_have_been_sent()), (FailureKind::Timeout, false), "{failure}");
    }
    assert_eq!(front.connections(), 0);
    assert_eq!(fetch(&adapter, call(&front).with_start_before(later)).unwrap().status(), 200);
}
