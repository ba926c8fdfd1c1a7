//! Bodies in a content coding that nobody asked for, and that cannot be undone.

use grantflow::{Discovery, Issuer, TokenRequest};
use grantflow_tests::demo::batch;
use grantflow_tests::server::Place;
use grantflow_tests::{Fault, Server, World};

#[test]
fn a_coding_is_named_whatever_the_status_and_whatever_is_asked() {
    let coded = |status| {
        let mut fault = Fault::status(status, "").header("content-encoding", "br");
        if let Fault::Answer(response) = &mut fault {
            *response.body_mut() = b"\x0b\x02\x80\x7b\x22\x03".to_vec();
        }
        fault
    };
    for status in [200, 400, 403] {
        let mut world = World::with(Server::demo());
        world.server().fail(Place::Token, coded(status));
        let request = TokenRequest::client_credentials(&world.server().metadata(), &batch()).unwrap();
        let error = world.run(request.exchange()).unwrap_err();
        assert!(error.to_string().contains("content coding") && error.to_string().contains("br"), "{error}");
        assert_eq!(error.status(), Some(status));
    }
    let mut world = World::with(Server::demo().with(|settings| settings.oauth_metadata = false));
    world.server().fail(Place::OpenIdMetadata, coded(200));
    let error = world.run(Discovery::new(&Issuer::new("https://as.example").unwrap())).unwrap_err().to_string();
    assert!(error.contains("content coding") && error.contains("404"), "{error}");
}
