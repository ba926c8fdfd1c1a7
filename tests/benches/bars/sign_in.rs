//! A whole sign-in in virtual time, the pretend server's part included: discovery that is told to wait
//! twice, the authorization, the code, a refresh over a server that is away, and the end. Whatever the waits, it takes less
//! than one RSA-2048 signature does, which is some half a millisecond.

use std::time::Duration;

use grantflow::machine::FailureKind;
use grantflow::{Discovery, Failure, Issuer, Revocation, TokenRequest};
use grantflow_tests::{Fault, Place, Server, World, demo};

use crate::harness::Work;
use crate::service_account_assertion;

pub(crate) fn works() -> Vec<Work<'static>> {
    let sign_in = Work::new("with the server's part", || {
        let mut world = World::with(Server::demo());
        for _ in 0..2 {
            world.server().fail(Place::OpenIdMetadata, Fault::status(503, "{}").header("retry-after", "7"));
        }
        let begin = world.cx().now().mono;
        let issuer = Issuer::new(world.server().issuer().to_owned()).unwrap();
        let server = world.run(Discovery::new(&issuer)).unwrap();
        let request = demo::request(world.server(), "openid email");
        let client = demo::client();
        let token = world.sign_in(request, &client).unwrap();
        world.fail(Failure::not_sent(FailureKind::Connect, "nobody there"));
        let token = world.run(TokenRequest::refresh(&server, &client, &token).unwrap().exchange()).unwrap();
        let secret = token.refresh_token().unwrap();
        world.run(Revocation::new(&server, &client, secret).unwrap().exchange()).unwrap();
        assert!(world.cx().now().mono - begin > Duration::from_secs(14), "the waits were there");
    });
    vec![sign_in, service_account_assertion::signature()]
}
