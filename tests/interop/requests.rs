//! Requests that nobody can forge (PAR, JAR, JARM), what they ask for in detail (RAR), clients that register themselves and manage
//! that, and sign-ins without a browser (CIBA). What the server saw of each is asked of the server.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use grantflow::crypto::{Algorithm, SigningKey};
use grantflow::jose::Jwk;
use grantflow::register::{ClientMetadata, Registration};
use grantflow::store::RegistrationInStore;
use grantflow::{
    AuthorizationRequest, BackchannelAuthentication, BackchannelHeard, Client, ClientAuthentication, Error, ErrorKind,
    InstalledApp, PendingAuthorization, PingReceiver, ServerMetadata, Token, TokenRequest,
};
use grantflow_tests::Front;
use grantflow_tests::kms::{Es256, FarKey, Kms};
use serde_json::{Value, json};

use super::secure::{NATIVE, Place, Secure, WEB};
use super::{Done, check, told};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const INITIAL: &str = "an-initial-access-token";
/// What details are asked for.
const API: &str = "https://api.example/";
const CIBA: &str = "urn:openid:params:grant-type:ciba";

impl<A: Secure + Sync> Place<'_, A> {
    pub(super) fn requests(&self, step: impl Fn(&str)) -> Done {
        std::thread::scope(|scope| {
            // Who asks people without a browser waits for seconds.
            let without_a_browser = scope.spawn(|| self.backchannel().map_err(told));
            self.registration()?;
            step("registered by an initial access token, read, changed by a token that rotates, and deleted");
            self.pushed()?;
            step("pushed requests, demanded by a registration: each good for one use; others are refused");
            self.signed()?;
            step("signed requests, in the URL and pushed: what is added does not count, another key is refused");
            self.signed_answers()?;
            step("signed answers, in the URL and posted: a plain one and a changed one are refused");
            self.details()?;
            step("authorization details, in each way: enriched by the server, less at a refresh, unknown ones refused");
            self.installed()?;
            step("an installed application: pushed, signed, in detail, its signed answer posted to loopback");
            self.message_signing()?;
            step("FAPI 2.0 Message Signing");
            without_a_browser.join().map_err(|_| "a panic")??;
            step("without a browser: poll and ping, signed; a person who says no, one who is unknown, another key");
            Ok(())
        })
    }

    /// A client that registers itself with this key, and its server as it is for it.
    fn register(
        &self,
        key: &SigningKey,
        change: impl FnOnce(ClientMetadata) -> ClientMetadata,
    ) -> Result<(ServerMetadata, Client)> {
        let metadata = change(native(key));
        let registration = Registration::new(&self.server, metadata)?.initial_access_token(INITIAL);
        let registered = self.run(registration.exchange())?;
        let changes: Vec<_> = registered.changes().map(|change| change.name.to_owned()).collect();
        check(changes.is_empty(), &format!("all is registered as it was asked: {changes:?}"))?;
        Ok((registered.server(&self.server)?, registered.client_with(by(key))?))
    }

    fn signing_key(&self) -> Result<SigningKey> {
        Ok(SigningKey::generate(Algorithm::ES256, &mut self.adapter.cx()?)?)
    }

    fn request(&self, server: &ServerMetadata, client: &Client) -> AuthorizationRequest {
        let request = AuthorizationRequest::new(server, client, NATIVE).scopes("openid offline_access");
        request.prompt("consent").login_hint("alice")
    }

    /// The redirect, or the form that the server's page posts.
    fn answer(&self, url: &str) -> Result<String> {
        let (page, address) = self.browser.curl(&[url])?;
        Ok(posted(&page).map_or(address, |(_, form)| form))
    }

    fn finish(&self, client: &Client, request: AuthorizationRequest) -> Result<Token> {
        let authorization = self.run(request.start())?;
        let answer = self.answer(&authorization.url)?;
        Ok(self.run(authorization.pending.finish(client, &answer))?)
    }

    /// What the server saw of this client at this place, the latest last.
    fn seen(&self, client: &Client, route: &str) -> Result<Vec<Value>> {
        let (page, _) = self.browser.curl(&[&format!("{}/seen/{}", self.server.issuer(), client.id())])?;
        let mut seen: Vec<Value> = serde_json::from_str(&page)?;
        seen.retain(|request| request["route"] == route);
        Ok(seen)
    }

    fn last_seen(&self, client: &Client, route: &str) -> Result<Value> {
        self.seen(client, route)?.pop().ok_or_else(|| format!("the server saw nothing at {route}").into())
    }

    fn registration(&self) -> Done {
        let store = self.adapter.with_store()?;
        let (issuer, key) = (self.server.issuer(), self.signing_key()?);
        let metadata = native(&key).client_name("Calendar").software_id("calendar");
        let register = || Registration::new(&self.server, metadata.clone());
        let error = self.run(register()?.exchange()).err().ok_or("anybody registers")?;
        check(error.status() == Some(401), &format!("without the initial access token: {error}"))?;

        let registered = store.run(RegistrationInStore::new(register()?.initial_access_token(INITIAL)))?;
        let again = store.run(RegistrationInStore::new(register()?))?;
        check(again.client_id() == registered.client_id(), "registered once")?;
        check(registered.save_error().is_none() && registered.can_be_managed(), "kept, with what manages it")?;
        let changes: Vec<_> = registered.changes().map(|change| change.name).collect();
        check(changes == ["software_id"], &format!("what the server leaves out is told: {changes:?}"))?;
        let client = registered.client_with(by(&key))?;
        self.finish(&client, self.request(&self.server, &client))?;

        let changed = store.run(RegistrationInStore::update(issuer, metadata.clone().client_name("Diary")))?;
        check(changed.metadata().str("client_name") == Some("Diary"), "changed")?;
        let error = self.run(registered.read()?).err().ok_or("the token before the change is still good")?;
        check(error.status() == Some(401), &format!("the token before the change: {error}"))?;
        let read = store.run(RegistrationInStore::read(issuer))?;
        check(read.metadata().str("client_name") == Some("Diary"), "read by the newer token")?;

        store.run(RegistrationInStore::delete(issuer))?;
        let error = self.run(read.read()?).err().ok_or("there is a registration that was deleted")?;
        check(error.status() == Some(401), &format!("deleted: {error}"))?;
        let request = self.request(&self.server, &client).push();
        refused(self.run(request.start()), "invalid_client")
    }

    fn pushed(&self) -> Done {
        let key = self.signing_key()?;
        let (server, client) = self.register(&key, |it| it.require_pushed_authorization_requests(true))?;
        let authorization = self.run(self.request(&server, &client).start())?;
        check(authorization.pending.url_expires_at().is_some(), "the server says how long the URL is good")?;
        let answer = self.answer(&authorization.url)?;
        self.run(authorization.pending.finish(&client, &answer))?;
        let pushed = self.last_seen(&client, "pushed_authorization_request")?;
        for name in ["code_challenge", "state", "redirect_uri", "scope", "client_assertion"] {
            check(names(&pushed, "sent").contains(&name), &format!("pushed: {name}"))?;
        }
        let opened = self.last_seen(&client, "authorization")?;
        check(opened["sent"] == json!(["client_id", "request_uri"]), "the browser brings its name alone")?;

        let again = self.answer(&authorization.url)?;
        check(again.contains("error=invalid_request_uri") && !again.contains("code="), "it is good for one use")?;
        // The server obeys the registration too.
        refused(self.finish(&client, self.request(&self.server, &client)), "invalid_request")?;
        let other = other(&client, &self.signing_key()?);
        refused(self.run(self.request(&server, &other).start()), "invalid_client")
    }

    fn signed(&self) -> Done {
        let key = self.signing_key()?;
        let (server, client) = self
            .register(&key, |it| it.require_signed_request_object(true).request_object_signing_alg(Algorithm::ES256))?;
        let request = || self.request(&server, &client);
        for route in ["authorization", "pushed_authorization_request"] {
            let pushes = route != "authorization";
            let way = |request: AuthorizationRequest| if pushes { request.push() } else { request };
            let authorization = self.run(way(request().sign(key.clone())).start())?;
            let changed = authorization.url.clone() + "&login_hint=mallory&code_challenge=another&state=another";
            let answer = self.answer(if pushes { &authorization.url } else { &changed })?;
            self.run(authorization.pending.finish(&client, &answer))?;
            let seen = self.last_seen(&client, route)?;
            check(names(&seen, "sent").contains(&"request"), "the request is an object")?;
            for name in ["redirect_uri", "state", "code_challenge", "scope"] {
                check(names(&seen, "trusted").contains(&name), &format!("signed: {name}"))?;
                let beside = !pushes && ["state", "code_challenge", "scope"].contains(&name);
                check(beside || !names(&seen, "sent").contains(&name), &format!("in the object alone: {name}"))?;
            }
            check(seen["understood"]["login_hint"] == "alice", "what is added on the way does not count")?;

            let another = way(request().sign(self.signing_key()?));
            refused(self.finish(&client, another), "invalid_request_object")?;
        }
        let error = self.run(request().start()).err().ok_or("sent without a signature")?;
        check(error.kind() == ErrorKind::Config, &format!("refused before it is sent: {error}"))?;
        refused(self.finish(&client, self.request(&self.server, &client)), "invalid_request")
    }

    fn signed_answers(&self) -> Done {
        let (server, client) =
            self.register(&self.signing_key()?, |it| it.authorization_signed_response_alg(Algorithm::ES256))?;
        let request = || self.request(&server, &client).signed_response();
        for (request, start) in [(request(), NATIVE), (request().form_post(), "response=")] {
            let authorization = self.run(request.start())?;
            let answer = self.answer(&authorization.url)?;
            check(answer.starts_with(start) && answer.contains("response="), "the answer is one object")?;
            check(!answer.contains("code=") && !answer.contains("state="), "and nothing else")?;
            // Its signature, with one character changed.
            let at = answer.len() - 20;
            let other = if answer[at..].starts_with('A') { "B" } else { "A" };
            let changed = format!("{}{other}{}", &answer[..at], &answer[at + 1..]);
            let kept: PendingAuthorization = serde_json::from_str(&serde_json::to_string(&authorization.pending)?)?;
            let error = self.run(kept.finish(&client, &changed)).err().ok_or("a changed answer is taken")?;
            check(error.kind() == ErrorKind::Signature, &format!("a changed answer: {error}"))?;
            self.run(authorization.pending.finish(&client, &answer))?;
        }
        refused(self.finish(&client, request().login_hint("nobody").prompt("login consent")), "access_denied")?;
        // The server's own plain answer, of the right state and with a good code: somebody has changed the request.
        let authorization = self.run(request().start())?;
        let answer = self.answer(&authorization.url.replace("response_mode=jwt", "response_mode=query"))?;
        check(answer.contains("code=") && answer.contains("state="), "the server answers plainly")?;
        let error = self.run(authorization.pending.finish(&client, &answer)).err().ok_or("a plain answer is taken")?;
        check(error.kind() == ErrorKind::InvalidRedirect, &format!("a plain answer: {error}"))
    }

    fn details(&self) -> Done {
        let key = self.signing_key()?;
        let types = ["payment_initiation", "account_information"];
        let (server, client) = self.register(&key, |it| it.authorization_details_types(types))?;
        let request = || self.request(&server, &client).authorization_details(&details()).resource(API);
        for request in [request(), request().push(), request().sign(key.clone()).push()] {
            let token = self.finish(&client, request)?;
            granted(&token, &types)?;
            let refresh = TokenRequest::refresh(&server, &client, &token)?.resource(API);
            let less = refresh.authorization_details(&json!([{"type": types[1]}]));
            granted(&self.run(less.exchange())?, &types[1..])?;
        }
        let unknown = self.request(&server, &client).authorization_details(&json!([{"type": "unknown"}]));
        refused(self.finish(&client, unknown), "invalid_authorization_details")
    }

    /// All of it at once, with a browser that posts the answer.
    fn installed(&self) -> Done {
        let key = self.signing_key()?;
        let types = ["payment_initiation", "account_information"];
        let (server, client) = self.register(&key, |it| {
            it.require_signed_request_object(true)
                .require_pushed_authorization_requests(true)
                .authorization_signed_response_alg(Algorithm::ES256)
                .authorization_details_types(types)
        })?;
        let app =
            InstalledApp::new(&server, &client).scopes("openid offline_access").path("/callback").prompt("consent");
        let app = app
            .resource(API)
            .sign(key)
            .signed_response()
            .form_post()
            .authorization_details(&details())
            .login_hint("alice");
        let browser = self.browser.clone();
        let token = self.adapter.sign_in(&app.open_browser(false).show(move |url| {
            let (browser, url) = (browser.clone(), url.to_owned());
            std::thread::spawn(move || {
                let (page, _) = browser.curl(&[&url]).unwrap_or_default();
                match posted(&page) {
                    Some((action, form)) => drop(browser.curl(&[&action, "--data", &form])),
                    None => eprintln!("the page posts nothing: {page}"),
                }
            });
        }))?;
        granted(&token, &types)?;
        let pushed = self.last_seen(&client, "pushed_authorization_request")?;
        check(names(&pushed, "sent").contains(&"request"), "signed and pushed")?;
        let opened = self.last_seen(&client, "authorization")?;
        check(opened["understood"]["response_mode"] == "form_post.jwt", "a signed answer that is posted")
    }

    /// Both sides are held to the profile, and what they say of an authorization is signed.
    fn message_signing(&self) -> Done {
        let client = Client::new("fapi-signing-dpop").dpop(self.key()?);
        let client = client.authentication(ClientAuthentication::private_key_jwt(Es256::default()));
        let client = client.authorization_signed_response_alg(Algorithm::ES256).fapi2_message_signing(&self.server)?;
        let request = || {
            let request = AuthorizationRequest::new(&self.server, &client, WEB).scopes("openid offline_access");
            request.prompt("consent").login_hint("alice")
        };
        let kms = Front::start(Kms::default())?;
        let far = FarKey::at(&format!("http://{}", kms.address()));
        for request in [request().sign(Es256::default()), request().sign(far)] {
            let token = self.finish(&client, request.signed_response())?;
            check(token.dpop_key().is_some(), "the token is bound")?;
        }
        check(kms.server().asked == 1, "a far key has signed a request")?;
        let pushed = self.last_seen(&client, "pushed_authorization_request")?;
        check(names(&pushed, "trusted").contains(&"code_challenge"), "the request is signed")?;
        check(pushed["understood"]["response_mode"] == "jwt", "the answer too")?;
        for lacks in [request().signed_response(), request().sign(Es256::default())] {
            let error = self.run(lacks.start()).err().ok_or("less is sent")?;
            check(error.kind() == ErrorKind::Config, &format!("less is refused: {error}"))?;
        }
        Ok(())
    }

    fn backchannel(&self) -> Done {
        let (key, listener) = (self.signing_key()?, TcpListener::bind("127.0.0.1:0")?);
        let endpoint = format!("https://{}/decided", listener.local_addr()?);
        let ciba = |it: ClientMetadata| {
            it.grant_types([CIBA])
                .response_types([""; 0])
                .redirect_uris([""; 0])
                .backchannel_authentication_request_signing_alg(Algorithm::ES256)
        };
        let (server, client) = self.register(&key, |it| ciba(it).backchannel_token_delivery_mode("poll"))?;
        let request = |client: &Client, key: &SigningKey, person: &str| {
            let request = BackchannelAuthentication::new(&server, client)?.login_hint(person).binding_message("W4SCT");
            Ok::<_, Error>(request.sign(key.clone()))
        };
        let began = Instant::now();
        let pending = self.run(request(&client, &key, "alice")?.start())?;
        let token = self.run(pending.poll(&server, &client)?)?;
        let id_token = token.id_token().ok_or("no ID token")?;
        check(id_token.subject() == "alice", "alice is signed in")?;
        let questions = self.seen(&client, "token")?.len();
        let long_enough = began.elapsed() >= Duration::from_secs(2);
        check(questions == 2 && long_enough, &format!("asked each second until she had decided: {questions}"))?;

        let asked = self.last_seen(&client, "backchannel_authentication")?;
        check(asked["understood"]["binding_message"] == "W4SCT", "the person is shown the message")?;
        check(names(&asked, "trusted").contains(&"login_hint"), "the request is signed")?;
        check(!names(&asked, "sent").contains(&"login_hint"), "and holds all of it")?;
        let pending = self.run(request(&client, &key, "nobody")?.start())?;
        refused(self.run(pending.poll(&server, &client)?), "access_denied")?;
        refused(self.run(request(&client, &key, "a stranger")?.start()), "unknown_user_id")?;
        let another = self.signing_key()?;
        refused(self.run(request(&client, &another, "alice")?.start()), "invalid_request")?;
        refused(self.run(request(&other(&client, &another), &key, "alice")?.start()), "invalid_client")?;
        // The other ways to say who it is.
        let hinted = || BackchannelAuthentication::new(&server, &client).map(|it| it.sign(key.clone()));
        self.run(hinted()?.id_token_hint(id_token).start())?;
        self.run(hinted()?.login_hint_token(&"the token of alice".into()).start())?;
        refused(self.run(hinted()?.login_hint_token(&"a token of nobody".into()).start()), "unknown_user_id")?;
        let plain = BackchannelAuthentication::new(&server, &client)?.login_hint("alice");
        refused(self.run(plain.start()), "invalid_request")?;

        let (_, client) = self.register(&key, |it| {
            ciba(it).backchannel_token_delivery_mode("ping").backchannel_client_notification_endpoint(&endpoint)
        })?;
        refused(self.run(request(&client, &key, "alice")?.start()), "invalid_request")?;
        let request = request(&client, &key, "alice")?.notification_token("a-notification-token-of-128-bits");
        let pending = self.run(request.start())?;
        let receiver = pending.ping_receiver().ok_or("there is nothing that takes the ping")?;
        wait_for_ping(&listener, &receiver)?;
        self.run(pending.poll(&server, &client)?.at_once())?;
        check(self.seen(&client, "token")?.len() == 1, "asked once, after the ping")
    }
}

/// What a native application with this key says of itself.
fn native(key: &SigningKey) -> ClientMetadata {
    ClientMetadata::new()
        .application_type("native")
        .redirect_uris(["http://127.0.0.1/callback"])
        .grant_types(["authorization_code", "refresh_token"])
        .token_endpoint_auth_method("private_key_jwt")
        .token_endpoint_auth_signing_alg(Algorithm::ES256)
        .id_token_signed_response_alg(Algorithm::ES256)
        .jwks([Jwk::from(key.verifying_key())])
}

fn by(key: &SigningKey) -> ClientAuthentication {
    ClientAuthentication::private_key_jwt(key.clone())
}

/// Who says to be this client, and has another key.
fn other(client: &Client, key: &SigningKey) -> Client {
    Client::new(client.id()).authentication(by(key))
}

fn details() -> Value {
    json!([{"type": "payment_initiation", "instructedAmount": {"currency": "EUR", "amount": "123.50"}},
           {"type": "account_information", "actions": ["list_accounts"]}])
}

/// The types that were granted, and what the server added to each.
fn granted(token: &Token, types: &[&str]) -> Done {
    let granted = token.authorization_details().unwrap_or_default();
    let found: Vec<_> = granted.iter().filter_map(|detail| detail["type"].as_str()).collect();
    let enriched = granted.iter().all(|detail| detail["account"].is_string());
    check(found == types && enriched, &format!("granted are {granted:?}"))
}

fn names<'a>(seen: &'a Value, which: &str) -> Vec<&'a str> {
    seen[which].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn refused<T>(result: std::result::Result<T, impl Into<Box<dyn std::error::Error>>>, why: &str) -> Done {
    let error = result.err().ok_or_else(|| format!("not refused as {why}"))?.into();
    let error = error.downcast::<Error>()?;
    check(error.server().is_some_and(|it| it.error() == why), &format!("refused as {why}: {error}"))
}

/// The address and the content of the form that a page posts by itself.
fn posted(page: &str) -> Option<(String, String)> {
    let text = |rest: &str| rest.split('"').next().unwrap_or_default().to_owned();
    let (_, form) = page.split_once("<form method=\"post\" action=\"")?;
    let mut fields = url::form_urlencoded::Serializer::new(String::new());
    for field in form.split("<input type=\"hidden\" name=\"").skip(1) {
        let (_, value) = field.split_once("value=\"")?;
        fields.append_pair(&text(field), &text(value));
    }
    Some((text(form), fields.finish()))
}

/// Listens until the ping has come.
fn wait_for_ping(listener: &TcpListener, receiver: &PingReceiver) -> Done {
    listener.set_nonblocking(true)?;
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        stream.set_nonblocking(false)?;
        let (mut heard, mut buffer) = (Vec::new(), [0; 1024]);
        loop {
            let read = stream.read(&mut buffer)?;
            heard.extend_from_slice(&buffer[..read]);
            match receiver.hear(&heard) {
                BackchannelHeard::More if read > 0 => {}
                BackchannelHeard::More => break,
                BackchannelHeard::Reply(answer) => return Err(String::from_utf8(answer)?.into()),
                BackchannelHeard::Pinged(answer) => return Ok(stream.write_all(&answer)?),
            }
        }
    }
    Err("no ping came".into())
}
