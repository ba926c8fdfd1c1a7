//! Installed applications, and the grants that they keep.

use grantflow::loopback::Receiver;
use grantflow::source::{TokenSource as _, Want};
use grantflow::store::{LoadGrant, RecordKey, SaveGrant, SharedGrant};
use grantflow::{Client, Error, ErrorKind, Scopes, Timestamp, Token};
use grantflow_tests::demo::{REDIRECT, client};
use grantflow_tests::{World, at_once};

use super::{app, installed, issuer, server, world};
use crate::Entry;

pub(super) fn entries() -> Vec<Entry> {
    vec![
        Entry {
            names: &[
                "core InstalledApp::scopes",
                "core InstalledApp::redirect_uri",
                "core InstalledApp::host",
                "core InstalledApp::path",
            ],
            try_it: |text, seen| {
                installed(seen, app().scopes(text));
                for uri in [text.to_owned(), format!("http://127.0.0.1:1/{text}"), format!("http://localhost/?{text}")]
                {
                    installed(seen, app().redirect_uri(&uri));
                }
                installed(seen, app().host(text));
                installed(seen, app().path(text));
                installed(seen, app().path(&format!("/{text}")));
            },
        },
        Entry {
            names: &[
                "core InstalledApp::record_key",
                "core RecordKey::new",
                "core InstalledApp::is_covered_by",
                "core SaveGrant::asked",
                "core SharedGrant::asked",
            ],
            try_it: |text, seen| {
                let key = app().record_key(text);
                seen.text("a key", format!("{key} {key:?} {:?} {}", key.for_sign_in(), key.for_sign_in()));
                seen.debug("a key", &RecordKey::new(&issuer(), &Client::new(text), text));
                seen.text("nothing", app().is_covered_by(&Scopes::from(text), &Scopes::from(text)));
                let mut desk = World::default();
                let token = Token::bearer("x", Timestamp::from_unix(1), None).unwrap();
                let save = SaveGrant::new(key.clone(), Want::default(), &token).asked(text);
                seen.debug("saving", &save);
                seen.run(&mut desk, save);
                seen.run(&mut desk, LoadGrant::new(key.clone(), Want::default()));
                let source = SharedGrant::new(key, server(), &client());
                seen.debug("a shared grant", &source);
                seen.run(&mut desk, source.mint(&Want::default(), &source.first_state()));
                let (key, want) = (RecordKey::new(&issuer(), &client(), "x"), Want::default());
                let error = Error::new(ErrorKind::Store, "the store is away");
                if let Ok(source) = SharedGrant::signed_in(key, server(), &client(), &want, &token, error) {
                    let source = source.asked(text);
                    seen.debug("a shared grant", &source);
                    seen.run(&mut desk, source.mint(&want, &source.first_state()));
                }
            },
        },
        Entry {
            names: &[
                "core InstalledApp::prompt_message",
                "core InstalledApp::success_heading",
                "core InstalledApp::success_message",
                "core InstalledApp::browser",
                "core InstalledApp::announce",
            ],
            try_it: |text, seen| {
                installed(seen, app().prompt_message(Some(text)));
                installed(seen, app().prompt_message(Some(text)).open_browser(false));
                installed(seen, app().prompt_message(Some(text)).device());
                installed(seen, app().success_heading(text).success_message(text).browser(text));
                // What is announced is for the person, who gave it.
                let _ = app().announce(text);
            },
        },
        Entry {
            names: &[
                "core InstalledApp::resource",
                "core InstalledApp::token_extra",
                "core InstalledApp::token_audience",
                "core InstalledApp::prompt",
                "core InstalledApp::login_hint",
                "core InstalledApp::extra",
            ],
            try_it: |text, seen| {
                for app in [
                    app().resource(text),
                    app().token_extra(text, text),
                    app().token_audience(text),
                    app().prompt(text),
                    app().login_hint(text),
                    app().extra(text, text),
                ] {
                    seen.debug("a want", &app.want());
                    installed(seen, app.clone());
                    installed(seen, app.device());
                }
            },
        },
        Entry {
            names: &["core Receiver::hear", "core Receiver::paste", "core Receiver::paste_again"],
            try_it: |text, seen| {
                let now = Timestamp::from_unix(1_795_176_000);
                let mut receiver = at_once(app().start(50123), &mut world().cx()).unwrap();
                for request in [
                    text.to_owned(),
                    format!("GET /?code={text} HTTP/1.1\r\nHost: 127.0.0.1:50123\r\n\r\n"),
                    format!("GET /{text} HTTP/1.1\r\nHost: {text}\r\n\r\n"),
                ] {
                    let heard = receiver.hear(request.as_bytes(), now);
                    if let grantflow::loopback::Heard::Reply(page) | grantflow::loopback::Heard::Answered(page) = heard
                    {
                        seen.text("a page", String::from_utf8_lossy(&page));
                    }
                }
                for line in [text.to_owned(), format!("{REDIRECT}?code={text}&state={text}")] {
                    if let Err(error) = receiver.paste(&line, now) {
                        seen.error(&error);
                        seen.text("what to paste", Receiver::paste_again(&line, &error));
                    }
                }
                seen.debug("a receiver", &receiver);
            },
        },
    ]
}
