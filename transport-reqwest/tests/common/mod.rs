//! A machine that makes one call, for tests of how calls are made.
#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::time::Duration;

use grantflow::{Call, Cx, Effect, Failure, Machine, Reply, Step};
use grantflow_reqwest::Transport;

pub(crate) const LONG: Duration = Duration::from_secs(10);

/// A machine that makes one call and ends with its reply.
pub(crate) struct Once(Option<Call>);

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

/// What grantflow's own exchanges ask for, to be changed by each test.
pub(crate) fn call(address: &str, change: impl FnOnce(Call) -> Call) -> Once {
    let endpoint = grantflow::Endpoint::new(address).unwrap();
    let request = grantflow::exchange::Request::post("testing", &endpoint).param("grant_type", "canary");
    let mut machine = request.exchange(|_| Ok(()));
    let Step::Do(Effect::Http(call)) = machine.resume(&mut Cx::without_entropy(Default::default()), Reply::Start)
    else {
        panic!("an exchange begins with a call");
    };
    Once(Some(change(call.with_timeout(LONG))))
}

pub(crate) async fn run_with(transport: &Transport, machine: Once) -> Result<http::Response<Vec<u8>>, Failure> {
    transport.run(machine).await.expect("this machine has no error of its own")
}
