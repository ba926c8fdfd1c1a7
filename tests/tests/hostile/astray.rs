//! Redirects, and other answers that lead astray.

use grantflow::register::{ClientMetadata, Registration};
use grantflow::{BackchannelAuthentication, DeviceAuthorization, Introspection, UserInfo};

use super::*;

#[test]
fn no_redirect_is_followed_by_anything() {
    for status in [301, 302, 303, 307, 308] {
        for location in ["https://evil.example/token", "http://as.example/token", "https://as.example:444/", "/token"] {
            let mut world = world().and(Server::new("https://evil.example"));
            let token = demo::signed_in(&mut world, "read");
            let (server, before) = (world.server().metadata(), world.sent().len());
            for place in [Place::Token, Place::Revoke, Place::OpenIdMetadata] {
                world.server().fail(place, Fault::status(status, "").header("location", location));
            }
            let refresh = TokenRequest::refresh(&server, &client(), &token).unwrap().exchange();
            let revoke = Revocation::new(&server, &client(), token.refresh_token().unwrap()).unwrap().exchange();
            let discover = Discovery::openid(&Issuer::new("https://as.example").unwrap());
            let errors = [
                world.run(refresh).map(drop).unwrap_err(),
                world.run(revoke).unwrap_err(),
                world.run(discover).map(drop).unwrap_err(),
            ];
            assert_eq!(world.sent().len() - before, 3, "{status} {location}");
            for error in errors {
                assert_eq!((error.kind(), error.status()), (ErrorKind::InvalidResponse, Some(status)));
                assert!(error.to_string().contains("redirects") && !error.to_string().contains("evil"), "{error}");
            }
        }
    }
}

#[test]
fn no_redirect_is_followed_by_what_pushes_registers_or_asks() {
    for status in [301, 302, 303, 307, 308] {
        for location in ["https://evil.example/token", "http://as.example/", "https://as.example:444/", "/token"] {
            let server = Server::demo().with(|settings| settings.registration = true);
            let mut world = World::with(server).and(Server::new("https://evil.example"));
            let token = demo::signed_in(&mut world, "openid read");
            let (server, before) = (world.server().metadata(), world.sent().len());
            let pushed = demo::request(world.server(), "read").push();
            let metadata = ClientMetadata::new().redirect_uris(["https://app.example/"]);
            let registration = Registration::new(&server, metadata).unwrap();
            let beforehand = BackchannelAuthentication::new(&server, &demo::batch()).unwrap().login_hint("alice");
            let device = DeviceAuthorization::new(&server, &client()).unwrap();
            let introspection = Introspection::new(&server, &demo::batch()).unwrap();
            let userinfo = server.userinfo_endpoint("https://as.example/elsewhere").unwrap();
            let userinfo = UserInfo::new(&userinfo, &token).unwrap();
            for place in [
                Place::PushedRequest,
                Place::Registration,
                Place::Backchannel,
                Place::Device,
                Place::Introspect,
                Place::Elsewhere,
            ] {
                world.server().fail(place, Fault::status(status, "").header("location", location));
            }
            let results = [
                world.run(pushed.start()).map(drop),
                world.run(registration.exchange()).map(drop),
                world.run(beforehand.start()).map(drop),
                world.run(device.exchange()).map(drop),
                world.run(introspection.of(token.access_token())).map(drop),
                world.run(userinfo.exchange()).map(drop),
            ];
            assert_eq!(world.sent().len() - before, results.len(), "{status} {location}");
            for error in results.map(Result::unwrap_err) {
                assert_eq!((error.kind(), error.status()), (ErrorKind::InvalidResponse, Some(status)), "{error}");
                assert!(error.to_string().contains("redirects") && !error.to_string().contains("evil"), "{error}");
            }
        }
    }
}

#[test]
fn bodies_without_end_are_given_up() {
    for place in [Place::Token, Place::OpenIdMetadata] {
        let mut world = world();
        world.server().fail(place, Fault::Endless);
        let result = match place {
            Place::Token => {
                let server = world.server().metadata();
                world.run(TokenRequest::client_credentials(&server, &demo::batch()).unwrap().exchange()).map(drop)
            }
            _ => world.run(Discovery::new(&Issuer::new("https://as.example").unwrap())).map(drop),
        };
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidResponse);
        assert_eq!(world.sent().len(), 1);
        let max = if place == Place::Token { 1024 * 1024 } else { 256 * 1024 };
        assert_eq!(world.sent()[0].max_body, max);
    }
}

#[test]
fn metadata_that_is_no_metadata_is_told_as_such() {
    let issuer = Issuer::new("https://as.example").unwrap();
    let deep = format!("{{\"issuer\":\"https://as.example\",\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let large = format!("{{\"issuer\":\"https://as.example\",\"x\":\"{}\"}}", "x".repeat(256 * 1024));
    for text in
        ["", "null", "[]", "\"https://as.example\"", "{}", "{\"issuer\":1}", "{\"issuer\":null}", "<html>", &large]
    {
        let error = ServerMetadata::from_json(text.as_bytes(), &issuer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{}", &text[..text.len().min(40)]);
    }
    for text in ["\u{feff}{\"issuer\":\"https://as.example\"}", &deep] {
        assert!(!ServerMetadata::from_json(text.as_bytes(), &issuer).unwrap().deviations().is_empty());
    }
}
