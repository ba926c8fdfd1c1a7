//! From an authorization request to its token, by the two machines of the flow.

use grantflow::machine::{Repeat, Rules};
use grantflow::source::Minting as _;
use grantflow::{
    Advice, AuthorizationRequest, Client, Cx, Effect, ErrorKind, FinishAuthorization, Issuer, Machine as _, Now,
    PendingAuthorization, Reply, ServerMetadata, Step,
};
use grantflow_tests::canary::hidden_in_error;
use grantflow_tests::demo::{self, REDIRECT, client};
use grantflow_tests::{Fault, Place, Server, World, at_once};
use serde_json::json;

fn server(host: &str) -> ServerMetadata {
    ServerMetadata::new(Issuer::new(format!("https://{host}")).unwrap())
        .authorization_endpoint(&format!("https://{host}/authorize"))
        .and_then(|server| server.token_endpoint(&format!("https://{host}/token")))
        .unwrap()
}

fn request(host: &str) -> AuthorizationRequest {
    AuthorizationRequest::new(&server(host), &client(), REDIRECT)
}

fn values(query: &[u8], name: &str) -> Vec<String> {
    let pairs = url::form_urlencoded::parse(query);
    pairs.filter(|(known, _)| known == name).map(|(_, value)| value.into_owned()).collect()
}

fn parameters(url: &str, name: &str) -> Vec<String> {
    values(url.split_once('?').unwrap().1.as_bytes(), name)
}

fn state(url: &str) -> String {
    parameters(url, "state").remove(0)
}

/// The parameters of this name in the token request.
fn sent(mut finish: FinishAuthorization, name: &str) -> Vec<String> {
    match finish.resume(&mut World::default().cx(), Reply::Start) {
        Step::Do(Effect::Http(call)) => values(call.open(Rules::V1).unwrap().request.body(), name),
        step => panic!("no request: {step:?}"),
    }
}

#[test]
fn starting_asks_for_no_effect_and_is_done_once() {
    let mut start = request("as.example").start();
    let mut world = World::default();
    assert!(matches!(start.resume(&mut world.cx(), Reply::Start), Step::Done(Ok(_))));
    let Step::Done(Err(error)) = start.resume(&mut world.cx(), Reply::Start) else { panic!("it starts twice") };
    assert_eq!(error.kind(), ErrorKind::Misuse);
    let mut start = request("as.example").start();
    let Step::Done(Err(error)) = start.resume(&mut world.cx(), Reply::Slept) else { panic!("no pause was asked for") };
    assert_eq!(error.kind(), ErrorKind::Misuse);
}

#[test]
fn an_answer_is_good_for_the_request_that_received_it_and_no_other() {
    let mut world = World::default();
    let mut begin = |host| world.run(request(host).start()).unwrap();
    let (honest, evil, again) = (begin("honest.example"), begin("evil.example"), begin("honest.example"));
    for other in [evil, again] {
        let redirect = format!("code=s3cret-c0de&state={}", state(&honest.url));
        let answer = honest.pending.receive(&redirect, World::default().now.wall).unwrap();
        let error = at_once(other.pending.finish_with(&client(), answer), &mut World::default().cx()).unwrap_err();
        assert_eq!((error.kind(), error.advice()), (ErrorKind::InvalidRedirect, Some(Advice::SignInAgain)));
        hidden_in_error(&error, &["s3cret-c0de"]);
    }
    let redirect = format!("code=s3cret-c0de&state={}", state(&honest.url));
    let answer = honest.pending.receive(&redirect, World::default().now.wall).unwrap();
    // The same request, read back from where it was stored.
    let stored = serde_json::to_string(&honest.pending).unwrap();
    let pending: PendingAuthorization = serde_json::from_str(&stored).unwrap();
    assert_eq!(sent(pending.finish_with(&client(), answer), "code"), ["s3cret-c0de"]);
}

#[test]
fn finishing_in_two_steps_is_the_same_as_in_one() {
    let mut world = World::with(Server::demo());
    let request = demo::request(world.server(), "openid read");
    let authorization = world.run(request.start()).unwrap();
    let redirect = world.person(&authorization.url);
    let answer = authorization.pending.receive(&redirect, world.now.wall).unwrap();
    let token = world.run(authorization.pending.finish_with(&client(), answer)).unwrap();
    assert!(token.id_token().is_some() && token.scopes().contains("read"));
}

#[test]
fn a_run_that_is_given_up_tells_that_its_request_is_on_its_way_and_one_that_ended_changes_nothing() {
    let mut world = World::with(Server::demo());
    for fault in [None, Some(Fault::status(400, r#"{"error":"invalid_grant"}"#))] {
        let request = demo::request(world.server(), "openid read");
        let authorization = world.run(request.start()).unwrap();
        let redirect = world.person(&authorization.url);
        let mut finish = authorization.pending.finish(&client(), &redirect);
        assert!(finish.take_change().is_empty(), "nothing was sent");
        let Step::Do(effect) = finish.resume(&mut world.cx(), Reply::Start) else { panic!("no request") };
        let change = finish.take_change();
        assert!(!change.is_empty() && change.refresh_token().is_none(), "it is on its way");
        let fails = fault.is_some();
        fault.into_iter().for_each(|fault| world.server().fail(Place::Token, fault));
        let reply = world.carry_out(effect);
        let Step::Done(result) = finish.resume(&mut world.cx(), reply) else { panic!("no end") };
        assert_eq!(result.is_err(), fails);
        // Of a code there is no refresh token that another could replace.
        assert!(finish.take_change().is_empty() && !finish.must_wait());
    }
}

#[test]
fn an_address_is_read_as_people_and_servers_hand_it_over() {
    let mut world = World::with(Server::demo());
    let request = demo::request(world.server(), "openid read");
    let authorization = world.run(request.start()).unwrap();
    let redirect = world.person(&authorization.url);
    let (base, query) = redirect.split_once('?').unwrap();
    let cut = redirect.find("&state=").unwrap() + 20;
    let (first, second) = redirect.split_at(cut);
    for text in [
        redirect.clone(),
        query.to_owned(),
        format!("{base}#{query}"),
        format!("#{query}"),
        format!("{redirect}#_=_"),
        format!("\u{1b}[200~{redirect}\u{1b}[201~"),
        format!("\u{200b}“{redirect}”\u{feff}"),
        format!("<{redirect}>\r\n"),
        format!("Location: {redirect}"),
        format!("GET /?{query} HTTP/1.1"),
        redirect.replace('&', "&amp;"),
        format!("{first} {second}"),
        format!("{first}\n  {second}"),
    ] {
        assert!(authorization.pending.receive(&text, world.now.wall).is_ok(), "{text:?}");
    }
    // Whatever is copied, it is the answer by its `state` alone.
    let other = query.replace("state=", "state=x");
    for text in [format!("{base}#{other}"), other.replace('&', "&amp;"), format!("#{other}"), format!("{base}#code=c")]
    {
        let error = authorization.pending.receive(&text, world.now.wall).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRedirect, "{text}: {error}");
    }
}

#[test]
fn a_late_or_foreign_redirect_sends_nothing() {
    let mut world = World::with(Server::demo());
    for (redirect, late, kind) in [
        ("code=c&state=foreign", 0, ErrorKind::InvalidRedirect),
        ("code=c", 0, ErrorKind::InvalidRedirect),
        ("code=c&state={}&iss=https%3A%2F%2Fas.example", 601, ErrorKind::Expired),
        ("error=access_denied&state={}&iss=https%3A%2F%2Fas.example", 0, ErrorKind::Authorization),
    ] {
        let request = demo::request(world.server(), "read");
        let authorization = world.run(request.start()).unwrap();
        world.pass(std::time::Duration::from_secs(late));
        let redirect = redirect.replace("{}", &state(&authorization.url));
        let error = world.run(authorization.pending.finish(&client(), &redirect)).unwrap_err();
        assert_eq!((error.kind(), world.sent().len()), (kind, 0), "{redirect}: {error}");
    }
}

#[test]
fn an_error_of_the_authorization_endpoint_says_what_was_being_done_and_where() {
    let authorization = at_once(request("as.example").start(), &mut World::default().cx()).unwrap();
    let redirect = format!("error=access_denied&error_description=not+now&state={}", state(&authorization.url));
    let error = authorization.pending.receive(&redirect, World::default().now.wall).unwrap_err();
    assert_eq!(
        error.to_string(),
        "asking the user to authorize: the server answered with an error: access_denied: not now \
         (https://as.example); sign in again"
    );
}

#[test]
fn a_server_that_names_another_issuer_is_told_with_both_names() {
    let authorization = at_once(request("as.example").start(), &mut World::default().cx()).unwrap();
    let redirect = format!("code=c&iss=https%3A%2F%2Fwww.vendor.example&state={}", state(&authorization.url));
    let error = authorization.pending.receive(&redirect, World::default().now.wall).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("https://www.vendor.example") && text.contains("https://as.example"), "{text}");
    let redirect = format!("code=s3cret-c0de&iss=s3cret-c0de{0}&state={0}", state(&authorization.url));
    let error = authorization.pending.receive(&redirect, World::default().now.wall).unwrap_err();
    hidden_in_error(&error, &["s3cret-c0de", &state(&authorization.url)]);
}

#[test]
fn another_releases_format_is_refused_with_what_to_do() {
    let authorization = at_once(request("as.example").start(), &mut World::default().cx()).unwrap();
    let stored = serde_json::to_value(&authorization.pending).unwrap();
    for (version, why) in [
        (json!(2), "begun by a newer release of grantflow (format 2; this release reads format 1)"),
        (json!(70_000), "a newer release"),
        (json!(0), "an older release"),
        (json!(null), "invalid type: null"),
        (json!("1"), "invalid type: string"),
    ] {
        let mut other = stored.clone();
        other["version"] = version;
        other["a_check_of_its_own"] = "bound to this".into();
        let error = serde_json::from_value::<PendingAuthorization>(other).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert!(!why.contains("release") || error.contains("start the sign-in again"), "{error}");
    }
    let mut without = stored.clone();
    without.as_object_mut().unwrap().remove("version");
    let error = serde_json::from_value::<PendingAuthorization>(without).unwrap_err().to_string();
    assert!(error.contains("`version`"), "{error}");
    // Even if nothing else of it is known here.
    let error = serde_json::from_str::<PendingAuthorization>("{\"version\":3,\"x\":1}").unwrap_err().to_string();
    assert!(error.contains("a newer release"), "{error}");
}

#[test]
fn each_pending_authorization_has_a_name_that_its_redirect_leads_to() {
    let mut world = World::default();
    let mut begin = || world.run(request("as.example").start()).unwrap();
    let (one, other) = (begin(), begin());
    let redirect = format!("{REDIRECT}?code=c&state={}", state(&one.url));
    assert_eq!(PendingAuthorization::name_in(&redirect).unwrap(), one.pending.name());
    assert_ne!(one.pending.name(), other.pending.name());
    let name = one.pending.name();
    assert!(name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    for wrong in ["", "code=c", "code=c&state=", "state=a&state=b"] {
        assert_eq!(PendingAuthorization::name_in(wrong).unwrap_err().kind(), ErrorKind::InvalidRedirect, "{wrong}");
    }
}

#[test]
fn a_code_beside_its_state_is_taken_as_servers_show_it() {
    let authorization = at_once(request("as.example").start(), &mut World::default().cx()).unwrap();
    let state = state(&authorization.url);
    let now = World::default().now.wall;
    for (text, good) in [
        (format!("c0de-xyz#{state}"), true),
        (format!("  'c0de-xyz#{state}'\n"), true),
        (format!("c0de-xyz#x{state}"), false),
        (format!("#{state}"), false),
        ("c0de-xyz#".into(), false),
        ("c0de-xyz".into(), false),
    ] {
        let result = authorization.pending.receive(&text, now);
        assert_eq!(result.is_ok(), good, "{text}: {result:?}");
    }
    let answer = authorization.pending.receive(&format!("a+b%2Bc#{state}"), now).unwrap();
    assert_eq!(sent(authorization.pending.finish_with(&client(), answer), "code"), ["a+b%2Bc"], "as it is shown");
}

#[test]
fn a_lost_answer_to_the_code_means_a_new_sign_in() {
    for (fault, at_least) in [
        (Fault::DropAfter, None),
        (Fault::status(503, "").header("retry-after", "5"), Some("sign in again, in 5 s at the earliest")),
        (Fault::status(500, ""), None),
        (Fault::status(400, "{\"error\":\"temporarily_unavailable\"}"), None),
    ] {
        let mut world = World::with(Server::demo());
        let request = demo::request(world.server(), "read");
        let authorization = world.run(request.start()).unwrap();
        let redirect = world.person(&authorization.url);
        world.server().fail(Place::Token, fault);
        let error = world.run(authorization.pending.finish(&client(), &redirect)).unwrap_err();
        assert_eq!((error.advice(), error.is_transient()), (Some(Advice::SignInAgain), false), "{error}");
        let text = error.to_string();
        assert!(text.contains("the authorization code cannot be used again"), "{text}");
        assert!(text.contains(at_least.unwrap_or("sign in again")) && !text.contains("try again"), "{text}");
    }
}

#[test]
fn resources_of_the_request_are_named_again_with_the_code() {
    let begin = || {
        let request = request("as.example").resource("https://a.example/mcp").resource("https://b.example/");
        at_once(request.start(), &mut World::default().cx()).unwrap()
    };
    let authorization = begin();
    assert_eq!(parameters(&authorization.url, "resource"), ["https://a.example/mcp", "https://b.example/"]);
    let finish = |authorization: grantflow::Authorization| {
        let redirect = format!("code=c&state={}", state(&authorization.url));
        // Through a session, as in a web application.
        let stored = serde_json::to_string(&authorization.pending).unwrap();
        serde_json::from_str::<PendingAuthorization>(&stored).unwrap().finish(&client(), &redirect)
    };
    assert_eq!(sent(finish(authorization), "resource"), ["https://a.example/mcp", "https://b.example/"]);
    let less = finish(begin()).resource("https://b.example/");
    assert_eq!(sent(less, "resource"), ["https://b.example/"]);
    let more = || finish(begin()).audience("api").audience("api2").extra("custom", "x");
    assert_eq!((sent(more(), "audience").len(), sent(more(), "custom")), (2, vec!["x".into()]));
    for reserved in ["code", "code_verifier", "client_id", "grant_type", "redirect_uri"] {
        let error = at_once(finish(begin()).extra(reserved, "x"), &mut World::default().cx()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{reserved}");
    }
    for wrong in ["https://a.example/#x", "https://a.example/a b", "https://ä.example"] {
        let error = at_once(request("as.example").resource(wrong).start(), &mut World::default().cx()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
        let error = at_once(finish(begin()).resource(wrong), &mut World::default().cx()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
    }
}

#[test]
fn extra_parameters_that_have_a_setter_do_what_it_does() {
    let authorization = |request: AuthorizationRequest| at_once(request.start(), &mut World::default().cx());
    let url =
        authorization(request("as.example").extra("resource", "https://a.example").extra("resource", "b")).unwrap();
    assert_eq!(parameters(&url.url, "resource"), ["https://a.example", "b"]);
    let request = request("as.example");
    let by_name = authorization(request.clone().scopes("openid").extra("max_age", "60")).unwrap();
    assert_eq!(parameters(&by_name.url, "max_age"), ["60"]);
    let stored = serde_json::to_value(&by_name.pending).unwrap();
    assert_eq!(stored["terms"]["max_age"], 60, "the ID token is checked against it");
    for wrong in ["soon", "-1", "1.5"] {
        assert_eq!(authorization(request.clone().extra("max_age", wrong)).unwrap_err().kind(), ErrorKind::Config);
    }
    let none = authorization(request.clone().extra("max_age", "60").extra("max_age", "")).unwrap();
    assert!(parameters(&none.url, "max_age").is_empty());
    let last = authorization(request.extra("custom", "a").extra("custom", "b")).unwrap();
    assert_eq!(parameters(&last.url, "custom"), ["b"]);
}

#[test]
fn a_code_is_sent_again_only_if_it_surely_was_not_sent() {
    let authorization = at_once(request("as.example").start(), &mut World::default().cx()).unwrap();
    let redirect = format!("code=c&state={}", state(&authorization.url));
    let mut finish = authorization.pending.finish(&Client::new("demo"), &redirect);
    let mut cx = Cx::new(Now { wall: World::default().now.wall, ..Now::default() }, [1; 32]);
    let Step::Do(Effect::Http(call)) = finish.resume(&mut cx, Reply::Start) else { panic!("no request") };
    assert_eq!(call.repeat(), Repeat::OnlyIfUnsent);
}
