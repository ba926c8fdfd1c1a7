//! Requests that nobody can forge, their signed answers, and sign-ins that need no browser.

use grantflow::crypto::{Algorithm, SigningKey};
use grantflow::{BackchannelAuthentication, BackchannelHeard, Client, ClientAuthentication, PingReceiver};
use grantflow_tests::kms::Es256;
use grantflow_tests::{IssuerKey, Registered};

use super::*;

/// PAR (RFC 9126) and JAR (RFC 9101).
pub(super) fn a_request_is_pushed_or_signed_or_both_and_the_person_signs_in<A: Adapter>() {
    let key = Es256::default();
    let registered = |id: &str| Registered::basic(id, "app-secret").redirect_uri("http://127.0.0.1/");
    let server = Server::demo().client(registered("signs").request_key(key.public())).client(registered("pushes"));
    let front = Front::start(server).unwrap();
    let client = |id: &str| Client::new(id).authentication(ClientAuthentication::client_secret_basic("app-secret"));
    let app = |id: &str| InstalledApp::new(&front.metadata(), &client(id)).scopes("openid read").open_browser(false);
    for (app, begins, pushed) in [
        (app("pushes").push(), "?client_id=pushes&request_uri=urn", 1),
        (app("signs").sign(key.clone()), "?client_id=signs&response_type=code&scope=openid&request=ey", 0),
        (app("signs").push().sign(key.clone()), "?client_id=signs&request_uri=urn", 1),
    ] {
        let before = front.server().seen_at(Place::PushedRequest).len();
        let (token, url) = sign_in(&A::new(), app, |url| {
            person::visit(&url).unwrap();
            url
        });
        assert!(token.unwrap().id_token().is_some());
        assert!(url.contains(begins) && !url.contains("state"), "{url}");
        assert_eq!(front.server().seen_at(Place::PushedRequest).len() - before, pushed, "{url}");
    }
    // Another's key, and a client that nobody knows.
    let other = SigningKey::generate(Algorithm::ES256, &mut A::new().cx()).unwrap();
    let error = A::new().sign_in(&app("signs").push().sign(other)).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "invalid_request_object");
    assert_eq!(A::new().sign_in(&app("unknown").push()).unwrap_err().server().unwrap().error(), "invalid_client");
}

/// Has the browser post what its address holds, as the server's page does.
pub(super) fn post(url: &str, redirect: &str, origin: &str) -> String {
    let (at, (_, form)) = (port(url), redirect.split_once('?').unwrap());
    let head = format!("POST / HTTP/1.1\r\nHost: {at}\r\nOrigin: {origin}\r\n");
    let form_type = "Content-Type: application/x-www-form-urlencoded";
    raw(at, format!("{head}{form_type}\r\nContent-Length: {}\r\n\r\n{form}", form.len()).as_bytes())
}

/// JARM.
pub(super) fn a_signed_answer_is_taken_from_the_address_or_a_form_and_a_plain_one_is_refused<A: Adapter>() {
    let front = Front::start(Server::demo().with(|settings| settings.keys = vec![IssuerKey::rs256("key-1")])).unwrap();
    let issuer = front.issuer();
    for app in [app(&front).signed_response(), app(&front).form_post().signed_response()] {
        let issuer = issuer.clone();
        let (token, redirect) = sign_in(&A::new(), app, move |url| {
            let redirect = person::answer(&url).unwrap();
            match &*value(&url, "response_mode") {
                "form_post.jwt" => assert!(post(&url, &redirect, &issuer).starts_with("HTTP/1.1 200 OK")),
                "jwt" => assert_eq!(person::visit(&redirect).unwrap().status, 200),
                other => panic!("{other}"),
            }
            redirect
        });
        assert!(token.unwrap().id_token().is_some());
        assert!(redirect.contains("/?response=ey") && !redirect.contains('&'), "{redirect}");
    }
    // Somebody has changed the request: the server's own plain answer is right in all else.
    let before = front.server().seen_at(Place::Token).len();
    for mode in ["query", "form_post"] {
        let issuer = issuer.clone();
        let (token, ()) = sign_in(&A::new(), app(&front).signed_response(), move |url| {
            let redirect = person::answer(&url.replace("response_mode=jwt", &format!("response_mode={mode}"))).unwrap();
            assert!(redirect.contains("code="), "{redirect}");
            match mode {
                "query" => drop(person::visit(&redirect).unwrap()),
                _ => drop(post(&url, &redirect, &issuer)),
            }
        });
        let error = token.unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidRedirect && error.to_string().contains("not signed"), "{error}");
    }
    assert_eq!(front.server().seen_at(Place::Token).len(), before, "no code was redeemed");
}

/// A server that asks people on a device of theirs, who decide after a delay, and that wants to be left alone between two
/// questions: both in seconds.
fn asking(delay: u64, interval: u64) -> Front {
    let server = Server::demo().with(|settings| {
        settings.backchannel_interval = Some(interval);
        settings.backchannel_delay = delay;
    });
    Front::start(server).unwrap()
}

fn request(front: &Front) -> BackchannelAuthentication {
    let request = BackchannelAuthentication::new(&front.metadata(), &batch()).unwrap();
    request.login_hint("alice").binding_message("W4SCT")
}

/// CIBA by polling.
pub(super) fn a_person_is_asked_without_a_browser_and_the_client_asks_until_they_have_decided<A: Adapter>() {
    let (front, adapter) = (asking(2, 1), A::new());
    let began = Instant::now();
    let pending = adapter.run(request(&front).start()).unwrap();
    let token = adapter.run(pending.poll(&front.metadata(), &batch()).unwrap()).unwrap();
    assert_eq!((token.id_token().unwrap().subject(), token.refresh_token().is_some()), ("alice", true));
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
    front.server().settings.backchannel_delay = 0;
    front.server().settings.consent = Consent::Deny("access_denied");
    let pending = adapter.run(request(&front).start()).unwrap();
    let error = adapter.run(pending.poll(&front.metadata(), &batch()).unwrap()).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "access_denied");
}

/// CIBA by pings, which come to the client's own endpoint.
pub(super) fn a_ping_has_the_client_ask_at_once_and_one_of_a_stranger_has_not<A: Adapter>() {
    let (front, adapter) = (asking(0, 60), A::new());
    let asked = request(&front).notification_token("a-notification-token-of-128-bits");
    let pending = adapter.run(asked.start()).unwrap();
    let receiver = pending.ping_receiver().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let strangers = std::thread::scope(|scope| {
        scope.spawn(|| {
            let head = format!("POST / HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer a-token-of-a-stranger\r\n");
            assert_eq!(raw(at, format!("{head}Content-Length: 2\r\n\r\n{{}}").as_bytes()).get(9..12), Some("401"));
            assert_eq!(front.ping(at).unwrap(), [204]);
        });
        listen(&listener, &receiver)
    });
    assert_eq!(strangers, 1);
    let began = Instant::now();
    let token = adapter.run(pending.poll(&front.metadata(), &batch()).unwrap().at_once()).unwrap();
    assert!(token.id_token().is_some() && began.elapsed() < Duration::from_secs(30));
    assert_eq!(front.server().seen_at(Place::Token).len(), 1);
}

/// Listens until the ping has come: how many other requests came first.
fn listen(listener: &TcpListener, receiver: &PingReceiver) -> usize {
    for strangers in 0.. {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut heard, mut buffer) = (Vec::new(), [0; 1024]);
        let answer = loop {
            let read = stream.read(&mut buffer).unwrap();
            assert_ne!(read, 0);
            heard.extend_from_slice(&buffer[..read]);
            match receiver.hear(&heard) {
                BackchannelHeard::More => {}
                answer => break answer,
            }
        };
        match answer {
            BackchannelHeard::Reply(answer) => stream.write_all(&answer).unwrap(),
            BackchannelHeard::Pinged(answer) => {
                stream.write_all(&answer).unwrap();
                return strangers;
            }
            BackchannelHeard::More => unreachable!(),
        }
    }
    unreachable!()
}
