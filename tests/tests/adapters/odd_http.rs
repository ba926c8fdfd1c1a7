//! Answers as odd servers, and what stands before them, write them: content codings, old versions, other alphabets.

use super::proxy::{Raw, server_at};
use super::*;

const TOKEN: &str =
    r#"{"access_token":"at-2","refresh_token":"rt-2","token_type":"Bearer","expires_in":3600,"scope":"a b"}"#;
/// [`TOKEN`] in gzip, and in deflate.
const GZIP: &[u8] = include_bytes!("../../data/token.json.gz");
const ZLIB: &[u8] = include_bytes!("../../data/token.json.zlib");
/// `{"error":"invalid_grant"}` in gzip.
const ERROR: &[u8] = include_bytes!("../../data/invalid_grant.json.gz");
/// One of the largest sizes that so few bytes can become.
const BOMB: &[u8] = include_bytes!("../../data/bomb.json.gz");

fn refresh<A: Adapter>(server: &ServerMetadata) -> Result<Token, Error> {
    let request = TokenRequest::refresh_token(server, &client(), &"rt-1".into()).unwrap();
    A::new().run(request.exchange().total_time(Duration::from_secs(5)))
}

fn raw<A: Adapter>(head: &str, body: &[u8], stays_open: bool) -> (Result<Token, Error>, Raw) {
    let answer = [head.as_bytes(), b"\r\n\r\n", body].concat();
    let raw = Raw::saying(answer, stays_open);
    (refresh::<A>(&server_at(&format!("http://{}/token", raw.address))), raw)
}

pub(crate) fn compression_is_not_asked_for_and_undone_if_it_comes<A: Adapter>() {
    for (coding, body) in [
        ("content-encoding: gzip\r\n", GZIP),
        ("Content-Encoding: x-gzip\r\n", GZIP),
        ("", GZIP),
        ("content-encoding: deflate\r\n", ZLIB),
        ("content-encoding: gzip\r\n", TOKEN.as_bytes()),
        ("content-encoding: identity\r\n", TOKEN.as_bytes()),
    ] {
        for length in [format!("content-length: {}", body.len()), "connection: close".into()] {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{coding}{length}");
            let (token, server) = raw::<A>(&head, body, false);
            assert_eq!(token.expect(coding).refresh_token().unwrap().expose(), "rt-2");
            let heard = server.heard().concat().to_ascii_lowercase();
            assert!(heard.contains("\r\naccept-encoding: identity\r\n"), "{heard}");
        }
    }
    let head = "HTTP/1.1 400 X\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\nconnection: close";
    let error = raw::<A>(head, ERROR, false).0.unwrap_err();
    assert_eq!(error.server().expect("the server's own error").error(), "invalid_grant");
}

pub(crate) fn another_coding_is_named_and_a_bomb_is_cut<A: Adapter>() {
    for (coding, body, says) in [
        ("br", &b"\x8b\x2f\x80"[..], "content coding that was not asked for and cannot be undone: br"),
        ("zstd", b"\x28\xb5\x2f\xfd", "cannot be undone: zstd"),
        ("gzip, br", GZIP, "cannot be undone: several of them"),
        ("gzip", &GZIP[..60], "damaged"),
        ("gzip", BOMB, "larger than allowed"),
        ("deflate", GZIP, "damaged"),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\nconnection: close");
        let (token, _) = raw::<A>(&head, body, false);
        let error = token.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{coding}: {error}");
        assert!(error.to_string().contains(says), "{coding}: {error}");
        assert!(error.is_uncertain(), "the server may have replaced the refresh token: {error}");
    }
}

pub(crate) fn heads_as_odd_servers_write_them_are_read<A: Adapter>() {
    let length = format!("content-length: {}", TOKEN.len());
    for (name, head, stays_open) in [
        ("a reason in Latin-1", format!("HTTP/1.1 200 Succ\u{e8}s\r\n{length}"), false),
        ("no reason", format!("HTTP/1.1 200\r\n{length}"), false),
        ("a reason in Chinese", format!("HTTP/1.1 200 成功\r\n{length}"), false),
        ("HTTP/1.0 with a length, which stays open", format!("HTTP/1.0 200 OK\r\n{length}"), true),
        ("HTTP/1.0, kept alive", format!("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n{length}"), true),
        ("HTTP/1.0 without a length", "HTTP/1.0 200 OK\r\nserver: x".into(), false),
        ("no type, and a header in Latin-1", format!("HTTP/1.1 200 OK\r\nx-city: Z\u{fc}rich\r\n{length}"), false),
    ] {
        let start = Instant::now();
        // As bytes of Latin-1, where they are of it.
        let latin: Option<Vec<u8>> = head.chars().map(|char| u8::try_from(u32::from(char)).ok()).collect();
        let answer = [&latin.unwrap_or(head.into_bytes()), &b"\r\n\r\n"[..], TOKEN.as_bytes()].concat();
        let server = Raw::saying(answer, stays_open);
        let token = refresh::<A>(&server_at(&format!("http://{}/token", server.address)));
        assert_eq!(token.expect(name).refresh_token().unwrap().expose(), "rt-2", "{name}");
        assert!(start.elapsed() < Duration::from_secs(3), "{name}: {:?}", start.elapsed());
    }
}

pub(crate) fn every_request_says_who_makes_it<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let adapter = A::new();
    let (token, _) = sign_in(&adapter, app(&front), |url| person::visit(&url).unwrap());
    let (token, server) = (token.unwrap(), front.metadata());
    adapter.run(Discovery::new(&Issuer::new(front.issuer()).unwrap())).unwrap();
    let fresh = adapter.run(TokenRequest::refresh(&server, &client(), &token).unwrap().exchange()).unwrap();
    adapter.run(Revocation::new(&server, &client(), fresh.refresh_token().unwrap()).unwrap().exchange()).unwrap();
    client_credentials(&adapter, &server).unwrap();
    let seen = front.server().seen().to_vec();
    // The person's own browser says nothing here.
    let ours: Vec<_> = seen.iter().filter(|seen| seen.request.uri().path() != "/authorize").collect();
    assert!(ours.len() >= 5, "{ours:?}");
    for seen in ours {
        let agent = seen.header("user-agent");
        assert!(agent.is_some_and(|name| name.starts_with("grantflow-") && name.contains('/')), "{seen:?}");
    }
}
