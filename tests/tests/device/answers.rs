//! What servers answer to a device: what is understood, what is tolerated, and what no device can use.

use super::*;

#[test]
fn googles_ways_are_understood() {
    let secret = ClientAuthentication::client_secret_post("tv-secret");
    let client = Client::new("tv").authentication(secret);
    let google = || {
        let mut world = World::with(Server::new("https://as.example").client(Registered::post("tv", "tv-secret")));
        world.server().settings.device_like_google = true;
        world.latency = Duration::ZERO;
        world
    };
    let code = |world: &mut World| {
        let server = world.server().metadata();
        let code =
            world.run(DeviceAuthorization::new(&server, &client)?.pkce(false).scopes("email profile").exchange())?;
        assert_eq!((code.verification_uri(), code.verification_uri_complete()), ("https://as.example/device", None));
        Ok::<_, Error>((code.clone(), code.poll(&server, &client)?))
    };
    let mut world = google();
    let (shown, machine) = code(&mut world).unwrap();
    let mut statuses = Vec::new();
    answers(&mut world, 403, &["slow_down"]);
    let token = world.run_while(machine, |world| {
        statuses = pauses(world);
        if statuses.len() == 3 {
            world.enter_code(shown.verification_uri(), shown.user_code());
        }
    });
    assert!(token.unwrap().refresh_token().is_some());
    assert_eq!(statuses, [5, 10, 10]);

    for (consent, error) in [("access_denied", "access_denied"), ("org_internal", "org_internal")] {
        let mut world = google();
        world.server().settings.consent = Consent::Deny(consent);
        let (shown, machine) = code(&mut world).unwrap();
        world.enter_code(shown.verification_uri(), shown.user_code());
        let told = world.run(machine).unwrap_err();
        assert_eq!((told.server().unwrap().error(), told.status(), pauses(&world).len()), (error, Some(403), 1));
    }

    let mut world = google();
    world.server().fail(Place::Device, Fault::status(403, r#"{"error_code":"rate_limit_exceeded"}"#));
    let error = code(&mut world).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "rate_limit_exceeded");
    let endpoint = ServerMetadata::google().get("device_authorization_endpoint").cloned();
    assert_eq!(endpoint, Some(json!("https://oauth2.googleapis.com/device/code")));
}

#[test]
fn an_error_under_status_200_is_an_error() {
    let mut world = world();
    let server = world.server().metadata();
    let ask = |server: &ServerMetadata| DeviceAuthorization::new(server, &client()).unwrap().exchange();
    world.server().fail(Place::Device, Fault::status(200, r#"{"error":"device_flow_disabled"}"#));
    assert_eq!(world.run(ask(&server)).unwrap_err().server().unwrap().error(), "device_flow_disabled");
    world.server().fail(Place::Device, Fault::status(200, r#"{"error":"device_flow_disabled"}"#));
    let strict = server.tolerate(Deviations::NONE);
    assert_eq!(world.run(ask(&strict)).unwrap_err().kind(), ErrorKind::InvalidResponse);
    let code = device_code(&mut world, "read");
    answers(&mut world, 200, &["authorization_pending", "slow_down"]);
    poll_and_enter_after(&mut world, 3, code).unwrap();
    assert_eq!(pauses(&world), [5, 5, 10, 10]);
}

#[test]
fn numbers_are_read_as_in_token_answers_and_what_was_tolerated_is_told() {
    let begin = world().now.wall;
    for (expires_in, interval, seconds, pause, deviations) in [
        (json!(900), json!(7), 900, 7, vec![]),
        (json!(900), json!(null), 900, 5, vec![]),
        (json!("900"), json!("7"), 900, 7, vec![Deviation::NumberAsText]),
        (json!(900.5), json!(7), 900, 7, vec![Deviation::NumberAsText]),
        (json!(900), json!(0), 900, 5, vec![]),
        (json!(900), json!("0"), 900, 5, vec![Deviation::NumberAsText]),
        (json!(900), json!(-1), 900, 5, vec![Deviation::OddLifetime]),
        (json!(900), json!("5s"), 900, 5, vec![Deviation::OddLifetime]),
        (json!(900), json!(true), 900, 5, vec![Deviation::OddLifetime]),
        (json!(900), json!(120), 900, 120, vec![]),
        (json!(u64::MAX), json!(5), 86_400, 5, vec![]),
        (json!("99999999999999999999999999"), json!(5), 86_400, 5, vec![Deviation::NumberAsText]),
        (json!(1e300), json!(5), 86_400, 5, vec![Deviation::NumberAsText]),
    ] {
        let change = {
            let (expires_in, interval) = (expires_in.clone(), interval.clone());
            move |answer: &mut Value| {
                (answer["expires_in"], answer["interval"]) = (expires_in.clone(), interval.clone())
            }
        };
        let code = answered(change.clone()).unwrap();
        assert_eq!(code.expires_at(), begin + Duration::from_secs(seconds), "{expires_in}");
        assert_eq!(code.interval(), Duration::from_secs(pause), "{interval}");
        assert_eq!(code.deviations().iter().collect::<Vec<_>>(), deviations, "{expires_in} {interval}");
        let strict = answered_to(&|server| server.tolerate(Deviations::NONE), change);
        assert_eq!(strict.is_ok(), deviations.is_empty(), "{expires_in} {interval}");
    }
}

#[test]
fn both_names_of_an_address_may_come_together() {
    let code = answered(|answer| {
        answer["verification_url"] = "https://old.example/".into();
        answer["verification_url_complete"] = "https://old.example/?x".into();
    });
    let code = code.unwrap();
    assert_eq!(code.verification_uri(), "https://as.example/device");
    assert!(code.verification_uri_complete().unwrap().starts_with("https://as.example/device?user_code="));
    let bom = Fault::status(200, &format!("\u{feff}{}", vector()["response"]["body"]));
    let mut world = world();
    world.server().fail(Place::Device, bom);
    assert!(device_code(&mut world, "read").deviations().contains(Deviation::ByteOrderMark));
}

// --- as an installed application

#[test]
fn answers_that_no_device_can_use_are_refused() {
    let long = "x".repeat(101);
    for (name, value) in [
        ("device_code", json!(null)),
        ("device_code", json!("")),
        ("device_code", json!(1)),
        ("device_code", json!("a\nb")),
        ("device_code", json!("ä")),
        ("device_code", json!("x".repeat(16 * 1024 + 1))),
        ("user_code", json!(null)),
        ("user_code", json!("")),
        ("user_code", json!(["WDJB"])),
        ("user_code", json!("WDJB\u{1b}[2J")),
        ("user_code", json!("WDJB\n")),
        ("user_code", json!("\u{202e}BJDW")),
        ("user_code", json!(long)),
        ("verification_uri", json!(null)),
        ("verification_uri", json!("")),
        ("verification_uri", json!("as.example/device")),
        ("verification_uri", json!("http://as.example/device")),
        ("verification_uri", json!("javascript:alert(1)")),
        ("verification_uri", json!("file:///etc/passwd")),
        ("verification_uri", json!("https://as.example/\u{1b}]0;x\u{7}")),
        ("verification_uri", json!("https://google.com@evil.example/")),
        ("verification_uri", json!("https://as.example/$(id)'")),
        ("expires_in", json!(null)),
        ("expires_in", json!(0)),
        ("expires_in", json!(-1800)),
        ("expires_in", json!("soon")),
        ("expires_in", json!({})),
        ("expires_in", json!(5)),
        ("interval", json!(1800)),
        ("interval", json!(u64::MAX)),
        ("interval", json!(1e300)),
    ] {
        let set = value.clone();
        let error = answered(move |answer| answer[name] = set.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{name} {value}");
        assert!(!error.to_string().contains(['\u{1b}', '\n']), "{error:?}");
    }
    // What is more than needed is left out.
    for value in [json!("javascript:alert(1)"), json!("http://as.example/device?user_code=WDJB"), json!(1)] {
        let code = answered(move |answer| answer["verification_uri_complete"] = value.clone()).unwrap();
        assert_eq!(code.verification_uri_complete(), None);
        assert!(code.deviations().contains(grantflow::Deviation::OddMember));
    }
    // Longer than any code may live here.
    let day = |answer: &mut Value| (answer["expires_in"], answer["interval"]) = (json!(200_000), json!(100_000));
    assert_eq!(answered(day).unwrap_err().kind(), ErrorKind::InvalidResponse);
    for body in ["", "null", "[]", "{}", "\"x\"", "{\"device_code\":", "<html>"] {
        let mut world = world();
        let server = world.server().metadata();
        world.server().fail(Place::Device, Fault::status(200, body));
        let error = world.run(DeviceAuthorization::new(&server, &client()).unwrap().exchange()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{body}");
    }
}

#[test]
fn an_answer_with_a_member_twice_or_without_end_is_refused() {
    let whole = vector()["response"]["body"].to_string();
    let twice = whole.replacen('{', r#"{"verification_uri":"https://evil.example/","#, 1);
    for fault in [Fault::status(200, &twice), Fault::status(200, &(whole + &" ".repeat(64 * 1024))), Fault::Endless] {
        let mut world = world();
        let server = world.server().metadata();
        world.server().fail(Place::Device, fault);
        let error = world.run(DeviceAuthorization::new(&server, &client()).unwrap().exchange()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse);
    }
}
