//! Requests to servers, in the user's browser and besides.

use grantflow::authorize::ThirdPartyLogin;
use grantflow::exchange::Request;
use grantflow::jose::LogoutToken;
use grantflow::source::Want;
use grantflow::{
    AuthorizationRequest, BackchannelAuthentication, DeviceAuthorization, EndSession, Endpoint, FrontChannelLogout,
    Revocation, Scopes, TokenRequest,
};
use grantflow_tests::demo::{self, REDIRECT, client};
use grantflow_tests::{World, at_once};
use serde_json::json;

use super::{app, asked, code_request, device, installed, sent, server, started, token_request, wanted, world};
use crate::Entry;

fn endpoint() -> Endpoint {
    Endpoint::new("https://as.example/token").unwrap()
}

fn device_request() -> DeviceAuthorization {
    DeviceAuthorization::new(&server(), &client()).unwrap()
}

pub(super) fn entries() -> Vec<Entry> {
    [authorizations(), tokens()].into_iter().flatten().collect()
}

fn authorizations() -> Vec<Entry> {
    vec![
        Entry {
            names: &["core AuthorizationRequest::new"],
            try_it: |text, seen| {
                for uri in [
                    text.to_owned(),
                    format!("http://127.0.0.1/{text}"),
                    format!("https://app.example/?{text}"),
                    format!("com.example:/{text}"),
                ] {
                    started(seen, AuthorizationRequest::new(&server(), &client(), uri));
                }
            },
        },
        Entry {
            names: &[
                "core AuthorizationRequest::scopes",
                "core AuthorizationRequest::prompt",
                "core AuthorizationRequest::login_hint",
                "core AuthorizationRequest::access_type",
                "core AuthorizationRequest::hd",
                "core AuthorizationRequest::resource",
                "core AuthorizationRequest::extra",
                "core AuthorizationRequest::ui_locales",
                "core AuthorizationRequest::acr_values",
                "core AuthorizationRequest::preferred_acr_values",
                "core AuthorizationRequest::claims",
                "core ThirdPartyLogin::read",
                "core EndSession::logout_hint",
                "core EndSession::ui_locales",
                "core EndSession::post_logout_redirect_uri",
                "core PendingLogout::is_answered_by",
                "core LogoutToken::in_form",
                "core FrontChannelLogout::read",
                "core FrontChannelLogout::ends",
                "core ThirdPartyLogin::target_link_uri",
                "core AuthorizationRequest::code_verifier",
            ],
            try_it: |text, seen| {
                started(seen, code_request().scopes(text));
                started(seen, code_request().prompt(text));
                started(seen, code_request().login_hint(text));
                started(seen, code_request().access_type(text));
                started(seen, code_request().hd(text));
                started(seen, code_request().resource(text));
                started(seen, code_request().extra(text, "x"));
                started(seen, code_request().extra(text, "x").extra(text, "x"));
                started(seen, code_request().extra("x", text));
                started(seen, code_request().ui_locales([text]));
                started(seen, code_request().acr_values([text]));
                started(seen, code_request().preferred_acr_values([text]));
                started(seen, code_request().claims(&serde_json::json!({ text: text })));
                started(seen, code_request().claims(&serde_json::json!(text)));
                for name in ["claims", "acr_values", "id_token_hint"] {
                    started(seen, code_request().extra(name, text));
                }
                let form: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
                let at = server().end_session_endpoint("https://as.example/end").unwrap();
                let end = EndSession::new(&at, &client()).unwrap().logout_hint(text).ui_locales(text);
                let end = end.post_logout_redirect_uri(text);
                seen.debug("a sign-out", &end);
                let ending = end.begin(&mut world().cx()).unwrap();
                seen.debug("a sign-out that begins", &ending);
                assert!(!ending.pending.unwrap().is_answered_by(text));
                for query in [text.to_owned(), format!("iss={form}&iss="), format!("logout_token={form}&logout_token=")]
                {
                    seen.result("a logout token", LogoutToken::in_form(&query).map(drop));
                    let front = FrontChannelLogout::read(&query);
                    if let Ok(front) = &front {
                        let _ = front.ends(text, Some(text));
                    }
                    seen.result("a sign-out", front);
                }
                for query in [text.to_owned(), format!("iss={form}&login_hint={form}"), format!("iss={form}&iss=")] {
                    let login = ThirdPartyLogin::read(&query);
                    if let Ok(login) = &login {
                        let _ = login.target_link_uri(text);
                        seen.debug("a login", login);
                        started(seen, code_request().initiated_by(login));
                    }
                    seen.result("a login", login.map(drop));
                }
                started(seen, code_request().code_verifier(text));
            },
        },
        Entry {
            names: &[
                "core PendingAuthorization::finish",
                "core PendingAuthorization::receive",
                "core PendingAuthorization::name_in",
                "core FinishAuthorization::audience",
                "core FinishAuthorization::resource",
                "core FinishAuthorization::extra",
            ],
            try_it: |text, seen| {
                let mut world = world();
                let begin = |world: &mut World| at_once(code_request().start(), &mut world.cx()).unwrap();
                let form: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
                for redirect in [
                    text.to_owned(),
                    format!("state={form}&code={form}"),
                    format!("{REDIRECT}?error={form}&error_description={form}"),
                    format!("state={form}&state={form}"),
                ] {
                    let pending = begin(&mut world).pending;
                    seen.result("a name", grantflow::PendingAuthorization::name_in(&redirect).map(drop));
                    seen.result("an answer", pending.receive(&redirect, world.now.wall));
                    let finish = pending.finish(&client(), &redirect);
                    seen.debug("what finishes", &finish);
                    seen.run(&mut world, finish);
                }
                // The server's own answer, with the state in it.
                for members in [
                    format!("error={form}&error_description={form}&error_uri={form}"),
                    format!("code={form}&iss={form}"),
                    format!("code={form}&iss=https%3A%2F%2Fas.example"),
                ] {
                    let authorization = begin(&mut world);
                    let state = authorization.url.split("state=").nth(1).unwrap().split('&').next().unwrap();
                    let finish = authorization.pending.finish(&client(), &format!("{members}&state={state}"));
                    let finish = finish.audience(text).resource(text).extra(text, text);
                    seen.debug("what finishes", &finish);
                    seen.run(&mut world, finish);
                }
            },
        },
        Entry {
            names: &[
                "core AuthorizationRequest::authorization_details",
                "core InstalledApp::authorization_details",
                "core FinishAuthorization::authorization_details",
                "core TokenRequest::authorization_details",
                "core DeviceAuthorization::authorization_details",
                "core Want::authorization_details",
            ],
            try_it: |text, seen| {
                for details in [json!(text), json!([{"type": text}]), json!([{"type": "payment", text: text}])] {
                    started(seen, code_request().authorization_details(&details));
                    installed(seen, app().authorization_details(&details));
                    asked(seen, Ok(token_request().authorization_details(&details)));
                    wanted(seen, Want::default().authorization_details(&details));
                    device(seen, device_request().authorization_details(&details));
                    let mut world = world();
                    let authorization = world.run(code_request().start()).unwrap();
                    let redirect = world.person(&authorization.url);
                    let finish = authorization.pending.finish(&client(), &redirect).authorization_details(&details);
                    seen.debug("a machine", &finish);
                    seen.run(&mut world, finish);
                }
            },
        },
    ]
}

fn tokens() -> Vec<Entry> {
    vec![
        Entry {
            names: &[
                "core TokenRequest::scopes",
                "core TokenRequest::resource",
                "core TokenRequest::audience",
                "core TokenRequest::extra",
                "core TokenRequest::granted",
            ],
            try_it: |text, seen| {
                asked(seen, Ok(token_request().scopes(text)));
                asked(seen, Ok(token_request().resource(text)));
                asked(seen, Ok(token_request().audience(text)));
                asked(seen, Ok(token_request().extra(text, text).extra(text, text)));
                asked(seen, Ok(token_request().granted(Scopes::from(text))));
            },
        },
        Entry {
            names: &[
                "core TokenRequest::password",
                "core TokenRequest::jwt_bearer",
                "core TokenRequest::refresh_token",
            ],
            try_it: |text, seen| {
                asked(seen, TokenRequest::password(&server(), &client(), text, text));
                asked(seen, TokenRequest::jwt_bearer(&server(), None, &text.into(), Scopes::from(text)));
                asked(seen, TokenRequest::jwt_bearer(&server(), Some(&client()), &text.into(), Scopes::default()));
                asked(seen, TokenRequest::refresh_token(&server(), &client(), &text.into()));
            },
        },
        Entry {
            names: &["core Revocation::new", "core Revocation::token_type_hint"],
            try_it: |text, seen| {
                let request = seen.result("a revocation", Revocation::new(&server(), &client(), &text.into())).unwrap();
                let request = request.token_type_hint(text);
                seen.debug("a revocation", &request);
                seen.run(&mut world(), request.exchange());
            },
        },
        Entry {
            names: &[
                "core DeviceAuthorization::scopes",
                "core DeviceAuthorization::resource",
                "core DeviceAuthorization::extra",
                "core DevicePolling::audience",
                "core DevicePolling::resource",
                "core DevicePolling::extra",
            ],
            try_it: |text, seen| {
                let new = || DeviceAuthorization::new(&server(), &client()).unwrap();
                device(seen, new().scopes(text));
                device(seen, new().resource(text));
                device(seen, new().extra(text, text).extra(text, text));
                let mut world = world();
                let code = || demo::device_code(&mut self::world(), "read").poll(&server(), &client()).unwrap();
                for polling in [code().audience(text), code().resource(text), code().extra(text, text)] {
                    seen.debug("polling", &polling);
                    seen.run(&mut world, polling);
                }
            },
        },
        Entry {
            names: &["core Request::post", "core Request::get", "core Request::new"],
            try_it: |text, seen| {
                // The word is part of the program: only what an address holds may leak.
                for address in [format!("https://as.example/?{text}"), format!("https://as.example/{text}")] {
                    if let Ok(endpoint) = Endpoint::new(&address) {
                        sent(seen, Request::post("asking", &endpoint));
                        sent(seen, Request::get("asking", &endpoint));
                        sent(seen, Request::new("asking", http::Method::PUT, &endpoint));
                    }
                }
                seen.text("nothing", "");
            },
        },
        Entry {
            names: &[
                "core Request::param",
                "core Request::secret",
                "core Request::extra",
                "core Request::header",
                "core Request::secret_header",
                "core Request::keeps_secret",
            ],
            try_it: |text, seen| {
                let new = || Request::post("asking", &endpoint());
                sent(seen, new().param(text, text).param(text, text));
                sent(seen, Request::get("asking", &endpoint()).param(text, text));
                sent(seen, new().secret("token", &text.into()));
                sent(seen, new().extra(text, text).extra(text, text));
                sent(seen, new().extra("x", text).json(&json!({"a": text})).param("y", text));
                sent(seen, new().header(text, text));
                sent(seen, new().header("x-y", text).header("x-y", text));
                sent(seen, new().secret_header("x-y", &text.into()).secret_header("x-y", &text.into()));
                sent(seen, new().secret_header(text, &text.into()));
                sent(seen, new().keeps_secret(&text.into()));
            },
        },
        Entry {
            names: &[
                "core BackchannelAuthentication::scopes",
                "core BackchannelAuthentication::login_hint",
                "core BackchannelAuthentication::login_hint_token",
                "core BackchannelAuthentication::binding_message",
                "core BackchannelAuthentication::user_code",
                "core BackchannelAuthentication::acr_values",
                "core BackchannelAuthentication::notification_token",
                "core BackchannelAuthentication::authorization_details",
                "core BackchannelAuthentication::extra",
            ],
            try_it: |text, seen| {
                let request = || BackchannelAuthentication::new(&server(), &demo::batch()).unwrap();
                let hinted = || request().login_hint("alice");
                for request in [
                    request().login_hint(text),
                    request().login_hint_token(&text.into()),
                    hinted().scopes(text),
                    hinted().binding_message(text).acr_values(text),
                    hinted().user_code(&text.into()).notification_token(text),
                    hinted().extra(text, text),
                    hinted().authorization_details(&json!([{"type": text}])),
                ] {
                    seen.debug("a request", &request);
                    if let Some(pending) = seen.run(&mut world(), request.start()) {
                        seen.debug("a sign-in", &pending);
                    }
                }
            },
        },
        Entry {
            names: &["core PingReceiver::hear", "core PingReceiver::take"],
            try_it: |text, seen| {
                let request = BackchannelAuthentication::new(&server(), &demo::batch()).unwrap().login_hint("alice");
                let token = "a-notification-token-of-128-bits";
                let pending = seen.run(&mut world(), request.notification_token(token).start()).unwrap();
                let receiver = pending.ping_receiver().unwrap();
                seen.debug("a receiver", &receiver);
                seen.text("a status", receiver.take(Some(text), text.as_bytes()));
                let grantflow::BackchannelHeard::Reply(bytes) = receiver.hear(text.as_bytes()) else { return };
                seen.text("an answer", String::from_utf8_lossy(&bytes));
            },
        },
    ]
}
