//! A sign-in under way in an encrypted cookie.

use std::time::Duration;

use grantflow::authorize::PendingCookie;
use grantflow::crypto::{SealingKey, SealingKeys};
use grantflow::{
    AuthorizationRequest, Client, Cx, ErrorKind, Machine as _, Now, PendingAuthorization, Reply, Step, Timestamp,
};
use grantflow_tests::Server;

const NOW: Timestamp = Timestamp::from_unix(1_800_000_000);

fn keys(byte: u8) -> SealingKeys {
    let bytes: Vec<u8> = (0..32).map(|i| i ^ byte).collect();
    SealingKeys::new(SealingKey::new("cookies", &bytes).unwrap())
}

fn cx(seed: u8) -> Cx {
    Cx::new(Now { wall: NOW, ..Now::default() }, [seed; 32])
}

/// A sign-in that was begun: the redirect that will answer it, and what is pending.
fn begun(seed: u8) -> (String, PendingAuthorization) {
    let server = Server::demo().metadata();
    let request = AuthorizationRequest::new(&server, &Client::new("demo"), "http://localhost/callback")
        .scopes("openid")
        .lifetime(Duration::from_secs(600));
    let Step::Done(Ok(begun)) = request.start().resume(&mut cx(seed), Reply::Start) else { panic!("no URL") };
    let query: std::collections::BTreeMap<_, _> =
        url::Url::parse(&begun.url).unwrap().query_pairs().into_owned().collect();
    (format!("code=abc&state={}&iss={}", query["state"], server.issuer()), begun.pending)
}

#[test]
fn a_sign_in_goes_into_a_cookie_and_comes_back_with_the_redirect_that_answers_it() {
    let (redirect, pending) = begun(1);
    let cookie = pending.to_cookie(&keys(1), &mut cx(2)).unwrap();
    let set = cookie.set();
    assert_eq!(set, format!("{}={}; Path=/; Max-Age=600; HttpOnly; SameSite=Lax", cookie.name(), cookie.value()));
    assert!(set.len() < 4096 && cookie.name().starts_with("pending-"));
    let (other_redirect, other) = begun(3);
    let other = other.to_cookie(&keys(1), &mut cx(4)).unwrap();
    // Both tabs of the browser, and whatever else it has.
    let header = format!("theme=dark; {}={}; {}={}; =; x", other.name(), other.value(), cookie.name(), cookie.value());
    let open = |redirect: &str, header: &str, now| PendingAuthorization::from_cookies(&keys(1), redirect, header, now);
    for (redirect, name) in [(&redirect, cookie.name()), (&other_redirect, other.name())] {
        let back = open(redirect, &header, NOW).unwrap();
        assert!(name.ends_with(&back.name()));
        assert!(back.receive(redirect, NOW).is_ok());
    }
    assert!(open(&redirect, &header, NOW + Duration::from_secs(600)).is_ok());
    let late = open(&redirect, &header, NOW + Duration::from_secs(601)).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Expired);
    let forget = PendingCookie::forget("http://localhost/callback", &redirect).unwrap();
    assert!(forget.starts_with(&format!("{}=; Path=/; Max-Age=0", cookie.name())));
    assert!(!format!("{cookie:?}").contains(cookie.value()));
}

/// A sign-in of an application on https, whose answer comes by this mode.
fn begun_on_https(form_post: bool) -> (String, PendingAuthorization) {
    let server = Server::demo().metadata();
    let request = AuthorizationRequest::new(&server, &Client::new("demo"), "https://app.example/callback");
    let request = if form_post { request.form_post() } else { request };
    let Step::Done(Ok(begun)) = request.start().resume(&mut cx(9), Reply::Start) else { panic!("no URL") };
    let state =
        url::Url::parse(&begun.url).unwrap().query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    (format!("code=abc&state={state}&iss={}", server.issuer()), begun.pending)
}

#[test]
fn on_https_no_other_site_can_plant_the_cookie_and_a_posted_answer_brings_it_along() {
    for (form_post, same_site) in [(false, "Lax"), (true, "None")] {
        let (redirect, pending) = begun_on_https(form_post);
        let cookie = pending.to_cookie(&keys(1), &mut cx(2)).unwrap();
        let (name, value) = (cookie.name(), cookie.value());
        assert!(name.starts_with("__Host-pending-"), "{name}");
        let set = cookie.set();
        assert_eq!(
            set.split_once("; ").unwrap().1,
            format!("Path=/; Max-Age=600; HttpOnly; SameSite={same_site}; Secure")
        );
        let open = |header: &str| PendingAuthorization::from_cookies(&keys(1), &redirect, header, NOW);
        assert!(open(&format!("{name}={value}")).unwrap().receive(&redirect, NOW).is_ok());
        // By the name that another site of the domain can set.
        let plain = name.strip_prefix("__Host-").unwrap();
        assert_eq!(open(&format!("{plain}={value}")).unwrap_err().kind(), ErrorKind::InvalidRedirect);
        let forget = PendingCookie::forget("https://app.example/callback", &redirect).unwrap();
        assert!(forget.starts_with(&format!("{name}=; Path=/; Max-Age=0")) && forget.ends_with("; Secure"), "{forget}");
    }
}

#[test]
fn no_other_cookie_is_taken_for_that_of_a_sign_in() {
    let (redirect, pending) = begun(1);
    let cookie = pending.to_cookie(&keys(1), &mut cx(2)).unwrap();
    let (_, other) = begun(3);
    let other = other.to_cookie(&keys(1), &mut cx(4)).unwrap();
    let (name, value) = (cookie.name(), cookie.value());
    let mut changed = value.to_owned();
    changed.replace_range(300..301, if &value[300..301] == "A" { "B" } else { "A" });
    let refused = [
        String::new(),
        format!("{name}="),
        format!("{name}={changed}"),
        format!("{name}={}", &value[..value.len() - 4]),
        format!("{name}={}", other.value()),
        format!("{}={value}", other.name()),
        format!("{name}={{\"version\":1}}"),
        format!("{name}={}", "A".repeat(100_000)),
    ];
    for header in refused {
        let error = PendingAuthorization::from_cookies(&keys(1), &redirect, &header, NOW).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRedirect, "{header:.80}: {error}");
    }
    let whole = format!("{name}={value}");
    let wrong_key = PendingAuthorization::from_cookies(&keys(2), &redirect, &whole, NOW).unwrap_err();
    assert_eq!(wrong_key.kind(), ErrorKind::InvalidRedirect);
    assert!(PendingAuthorization::from_cookies(&keys(1), "code=abc", &whole, NOW).is_err(), "without a state");
    // A cookie that another site of the domain has set beside it keeps nobody from signing in.
    let tossed = format!("{name}=AAAA; {whole}");
    assert!(PendingAuthorization::from_cookies(&keys(1), &redirect, &tossed, NOW).is_ok());
}

/// Cross-connection attacks (COAT), and mix-up where servers do not name themselves: the application compares.
#[test]
fn a_sign_in_says_to_which_redirect_uri_its_answer_must_come() {
    let server = Server::demo().metadata();
    let begin = |redirect_uri: &str, seed: u8| {
        let request = AuthorizationRequest::new(&server, &Client::new("demo"), redirect_uri);
        let Step::Done(Ok(begun)) = request.start().resume(&mut cx(seed), Reply::Start) else { panic!("no URL") };
        let url = url::Url::parse(&begun.url).unwrap();
        let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        (
            format!("code=abc&state={state}&iss={}", server.issuer()),
            begun.pending.to_cookie(&keys(1), &mut cx(2)).unwrap(),
        )
    };
    let uris = ["https://app.example/callback/one", "https://app.example/callback/two"];
    let (one, two) = (begin(uris[0], 1), begin(uris[1], 3));
    let cookies = [&one.1, &two.1].map(|cookie| format!("{}={}", cookie.name(), cookie.value())).join("; ");
    for ((answer, _), uri) in [(one, uris[0]), (two, uris[1])] {
        let pending = PendingAuthorization::from_cookies(&keys(1), &answer, &cookies, NOW).unwrap();
        assert_eq!(pending.redirect_uri(), uri);
    }
}

/// Login CSRF, and a flow of one person that another one finishes.
#[test]
fn an_answer_is_of_no_use_in_a_browser_that_did_not_begin() {
    let (redirect, _) = begun(1);
    let (_, own) = begun(3);
    let own = own.to_cookie(&keys(1), &mut cx(4)).unwrap();
    for cookies in [String::new(), "theme=dark".to_owned(), format!("{}={}", own.name(), own.value())] {
        let error = PendingAuthorization::from_cookies(&keys(1), &redirect, &cookies, NOW).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRedirect, "{error}");
        assert!(error.to_string().contains("no sign-in is under way in this browser"), "{error}");
    }
}
