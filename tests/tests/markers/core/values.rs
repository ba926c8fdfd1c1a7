//! Values, errors, and what surrounds a program.

use grantflow::machine::{Exited, FailureKind, Identity, Machine as _, Program, Reply, Step};
use grantflow::proxy::Proxies;
use grantflow::source::{ProgramToken, TokenSource as _, Want};
use grantflow::store::Stored;
use grantflow::{Client, ClientAuthentication, Error, ErrorKind, Failure, Scopes, Secret, Timestamp, Token};
use grantflow_tests::demo;

use super::world;
use crate::{Entry, MARKER};

pub(super) fn entries() -> Vec<Entry> {
    vec![
        Entry {
            names: &["core Proxies::from_env", "core Proxies::of"],
            try_it: |text, seen| {
                for name in ["https_proxy", "ALL_PROXY", "http_proxy", "NO_PROXY"] {
                    let read = |asked| (asked == name).then(|| text.into());
                    if let Some(proxies) = seen.result("proxies", Proxies::from_env(read)) {
                        seen.text("proxies", format!("{proxies:?}").replace(&MARKER.to_lowercase(), MARKER));
                        seen.debug("a proxy", &proxies.of(&"https://as.example/".parse().unwrap()));
                    }
                }
            },
        },
        Entry {
            names: &["core Program::new", "core Program::args", "core Program::env", "core Exited::new"],
            try_it: |text, seen| {
                let program = Program::new(text).args([text]).env(text, text);
                seen.debug("a program", &program);
                let bytes = text.as_bytes().to_vec();
                seen.debug("what it printed", &Exited::new(Some(1), bytes.clone(), bytes.clone()));
                let source = ProgramToken::new(program);
                for (code, stdout) in [(Some(1), Vec::new()), (Some(0), bytes.clone()), (None, bytes.clone())] {
                    let mut mint = source.mint(&Want::default(), &source.first_state());
                    let mut cx = world().cx();
                    seen.debug("an effect", &mint.resume(&mut cx, Reply::Start));
                    let reply = Reply::Exec(Exited::new(code, stdout, bytes.clone()));
                    if let Step::Done(Err(error)) = mint.resume(&mut cx, reply) {
                        seen.error(&error);
                    }
                }
            },
        },
        Entry {
            names: &["core Identity::pem", "core Identity::named", "core x5t_s256"],
            try_it: |text, seen| {
                seen.debug("an identity", &Identity::pem(text, text));
                seen.debug("an identity", &Identity::named(text));
                seen.debug("a thumbprint", &grantflow::x5t_s256(text.as_bytes()));
                let shows = |identity: Identity| Client::new("app").identity(identity);
                seen.debug("a client", &shows(Identity::pem(text, text)));
                let by = ClientAuthentication::tls_client_auth;
                seen.debug("a client", &Client::new("app").authentication(by(Identity::pem(text, text))));
                seen.debug("an authentication", &by(Identity::named(text)));
                let by = ClientAuthentication::self_signed_tls_client_auth;
                seen.debug("an authentication", &by(Identity::pem(text, text)));
            },
        },
        Entry {
            names: &[
                "core Failure::not_sent",
                "core Failure::maybe_sent",
                "core Error::new",
                "core Error::with_source",
                "core Error::within",
            ],
            try_it: |text, seen| {
                // Their makers must give no secret; what looks like one is struck out all the same, unless it is JSON of
                // their own words.
                if text.starts_with('{') {
                    return seen.text("nothing", "");
                }
                let failure = Failure::not_sent(FailureKind::Other, "a reason");
                seen.error(&Error::new(ErrorKind::Config, text.to_owned()));
                seen.error(&Error::new(ErrorKind::Config, "x").within(text));
                seen.text(
                    "an error",
                    Error::new(ErrorKind::Config, "x").with_source(std::io::Error::other(text.to_owned())),
                );
                seen.debug("a failure", &failure);
                for failure in
                    [Failure::not_sent(FailureKind::Other, text), Failure::maybe_sent(FailureKind::Store, text)]
                {
                    seen.text("a failure", &failure);
                    seen.text("an error", Error::from(failure));
                }
            },
        },
        Entry {
            names: &["core Secret::matches", "core Secret::From<&str>", "core Secret::From<String>"],
            try_it: |text, seen| {
                seen.debug("a secret", &Secret::from(text));
                seen.debug("a secret", &Secret::from(text.to_owned()));
                seen.debug("nothing", &Secret::from("x").matches(text));
            },
        },
        Entry {
            names: &[
                "core Claims::get",
                "core Claims::str",
                "core Claims::time",
                "core Claims::bool",
                "core Claims::list",
                "core Token::get",
            ],
            try_it: |text, seen| {
                let token = demo::signed_in(&mut world(), "openid");
                let claims = token.id_token().unwrap().claims();
                seen.text(
                    "nothing",
                    claims.get(text).is_some() || claims.str(text).is_some() || claims.list(text).is_some(),
                );
                seen.text(
                    "nothing",
                    claims.bool(text).is_some() || claims.time(text).is_some() || token.get(text).is_some(),
                );
            },
        },
        Entry {
            names: &["core Token::bearer", "core Token::in_header", "core Token::with_scopes"],
            try_it: |text, seen| {
                let now = Timestamp::from_unix(1_795_176_000);
                seen.result("a token", Token::bearer(text, now, None));
                seen.result("a token", Token::in_header("x-goog-api-key".parse().unwrap(), text, now));
                seen.debug("a token", &Token::bearer("x", now, None).unwrap().with_scopes(Scopes::from(text)));
            },
        },
        Entry {
            names: &[
                "core Scopes::contains",
                "core Scopes::FromIterator<S>",
                "core Scopes::From<&str>",
                "core Scopes::From<String>",
                "core Scopes::From<&String>",
                "core Scopes::From<&Vec<S>>",
            ],
            try_it: |text, seen| {
                for scopes in [
                    Scopes::from(text),
                    Scopes::from(text.to_owned()),
                    Scopes::from(&text.to_owned()),
                    Scopes::from(&vec![text]),
                    [text].into_iter().collect(),
                    Scopes::from(vec![text]),
                    Scopes::from(&[text][..]),
                ] {
                    seen.text("scopes", format!("{scopes} {scopes:?} {scopes:#?} {}", scopes.contains("x")));
                }
            },
        },
        Entry {
            names: &["core Stored::from_bytes"],
            try_it: |text, seen| {
                for bytes in [
                    text.to_owned(),
                    format!("grantflow record {text}"),
                    format!("grantflow record 1 version {text}"),
                    format!("grantflow record 1 version 1 {text}"),
                    format!("grantflow record 1 version 1 0011223344556677\n{text}"),
                ] {
                    seen.result("a record", Stored::from_bytes(bytes.into_bytes()));
                }
            },
        },
        Entry {
            names: &["core Shown::path", "core Shown::name"],
            try_it: |text, seen| {
                for shown in [grantflow::Shown::path(text), grantflow::Shown::name(text)] {
                    seen.text("shown", format!("{shown} {shown:?}"));
                }
            },
        },
    ]
}
