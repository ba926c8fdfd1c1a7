//! What is kept: encryption, tags, and the cookie of a sign-in.

use grantflow::authorize::PendingCookie;
use grantflow::crypto::{Sealed, SealingKey, SealingKeys};
use grantflow::store::{Stored, Tags, Which};
use grantflow::{AuthorizationRequest, Client, Cx, Now, PendingAuthorization, Timestamp};
use grantflow_tests::{Server, at_once};

use super::Entry;

const NOW: Timestamp = Timestamp::from_unix(1_795_176_000);

fn cx() -> Cx {
    Cx::new(Now { wall: NOW, ..Now::default() }, [7; 32])
}

fn bytes() -> Vec<u8> {
    (0..32).collect()
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry {
            names: &["core SealingKey::new", "core SealingKey::wrapped"],
            try_it: |text, seen| {
                seen.result("a key", SealingKey::new(text, &bytes()));
                seen.result("a key", SealingKey::new("1", text.as_bytes()));
                seen.result("a key", SealingKey::wrapped("1", &bytes(), text.as_bytes()));
            },
        },
        Entry {
            names: &[
                "core SealingKeys::seal",
                "core SealingKeys::open",
                "core SealingKeys::is_newest",
                "core Sealed::parse",
                "core Sealed::open",
            ],
            try_it: |text, seen| {
                let id = text.get(..text.len().min(64)).unwrap_or("1");
                let keys = SealingKeys::new(SealingKey::new(id, &bytes()).unwrap());
                seen.debug("keys", &keys);
                let other = SealingKey::new("2", &bytes().repeat(2)[1..33]).unwrap();
                let mut cx = cx();
                let sealed = seen.result("nothing", keys.seal(text.as_bytes(), text.as_bytes(), &mut cx).map(drop));
                assert!(sealed.is_some());
                let sealed = keys.seal(b"x", text.as_bytes(), &mut cx).unwrap();
                seen.debug("newest", &keys.is_newest(text.as_bytes()));
                for (keys, sealed) in [
                    (&keys, &sealed[..]),
                    (&keys, &sealed[1..]),
                    (&keys, &sealed[..sealed.len() - 1]),
                    (&SealingKeys::new(other.clone()), &sealed[..]),
                    (&keys, text.as_bytes()),
                ] {
                    seen.result("nothing", keys.open(text.as_bytes(), sealed).map(drop).map_err(Into::into));
                    let parts = seen.result("parts", Sealed::parse(sealed).map_err(Into::into));
                    let opened = parts.map(|parts| parts.open(&other, b"x").map(drop).map_err(Into::into));
                    opened.map(|opened| seen.result("nothing", opened));
                }
            },
        },
        Entry {
            names: &[
                "core Stored::new",
                "core Tags::new",
                "core Which::label",
                "core Which::subject",
                "core Which::session",
            ],
            try_it: |text, seen| {
                let server = Server::demo().metadata();
                seen.debug("a record", &Stored::new(1, text));
                seen.debug("tags", &Tags::new(server.issuer(), Some(text), Some(text)));
                seen.debug("a person", &Which::subject(server.issuer(), text));
                seen.debug("a session", &Which::session(server.issuer(), text));
                seen.debug("a label", &Which::label(text));
            },
        },
        Entry {
            names: &["core PendingAuthorization::from_cookies", "core PendingCookie::forget"],
            try_it: |text, seen| {
                let keys = SealingKeys::new(SealingKey::new("1", &bytes()).unwrap());
                let mut cx = cx();
                let server = Server::demo().metadata();
                let request = AuthorizationRequest::new(&server, &Client::new("demo"), "http://localhost/callback");
                let pending = at_once(request.start(), &mut cx).unwrap().pending;
                let cookie = pending.to_cookie(&keys, &mut cx).unwrap();
                seen.debug("a cookie", &cookie);
                assert!(cookie.set().contains(cookie.value()));
                let name = cookie.name();
                for redirect in [text.to_owned(), format!("code={text}&state=x"), "state=x".to_owned()] {
                    for cookies in [text.to_owned(), format!("{name}={text}")] {
                        let opened = PendingAuthorization::from_cookies(&keys, &redirect, &cookies, NOW);
                        seen.result("a sign-in", opened);
                    }
                    seen.result("a cookie", PendingCookie::forget(text, &redirect).map(drop));
                }
            },
        },
    ]
}
