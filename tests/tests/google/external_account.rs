//! Federation: each source of subject tokens, what is exchanged at STS, and what a file from elsewhere may do.

use std::time::Duration;

use grantflow::google::{AccessBoundaryRule, AwsCredentials, AwsIdentity, Downscoped, ExternalAccount, SubjectToken};
use grantflow::source::{Grant, Held, Minting, Outcome, TokenSource, Want};
use grantflow::{Client, ClientAuthentication, ErrorKind, token_type};
use grantflow_tests::google::{AwsKey, Imds, Place, Provider, SERVICE_ACCOUNT, Takes, jwt_parts, world};
use grantflow_tests::{Did, Fault, Prints, World};
use serde_json::{Value, json};

use super::{CLOUD, NOW, STORAGE, whole, with};

const OIDC: &str =
    "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/demo-pool/providers/demo-oidc";
const AWS: &str =
    "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/demo-pool/providers/demo-aws";
const WORKFORCE: &str = "//iam.googleapis.com/locations/global/workforcePools/demo-workforce/providers/demo-oidc";
const SUBJECT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJkZW1vIn0.c2ln";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const SESSION: &str = "FwoDemoSession/Token+abc==";
const PERMISSION: &str = "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES";

fn provider(audience: &str, subject_token_type: &str, takes: Takes) -> Provider {
    Provider { audience: audience.into(), subject_token_type: subject_token_type.into(), takes, client: None }
}

/// A world whose STS knows a provider of JWTs, one of AWS and a workforce's.
fn federated() -> World {
    let mut world = world();
    let key = AwsKey { secret: SECRET.into(), session_token: Some(SESSION.into()) };
    let google = world.google();
    google.providers = vec![
        provider(OIDC, token_type::JWT, Takes::Token(SUBJECT.into())),
        provider(AWS, ExternalAccount::AWS, Takes::Aws([("AKIDEXAMPLE".to_owned(), key)].into())),
        provider(WORKFORCE, token_type::ID_TOKEN, Takes::Token(SUBJECT.into())),
    ];
    google.impersonators = vec![(OIDC.into(), SERVICE_ACCOUNT.into()), (AWS.into(), SERVICE_ACCOUNT.into())];
    world
}

/// A file with this source, to be changed.
fn file(source: Value) -> Value {
    json!({
        "type": "external_account", "audience": OIDC, "subject_token_type": token_type::JWT,
        "token_url": "https://sts.googleapis.com/v1/token", "credential_source": source,
    })
}

fn aws_file() -> Value {
    let source = json!({
        "environment_id": "aws1",
        "region_url": "http://169.254.169.254/latest/meta-data/placement/availability-zone",
        "url": "http://169.254.169.254/latest/meta-data/iam/security-credentials",
        "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
        "imdsv2_session_token_url": "http://169.254.169.254/latest/api/token",
    });
    with(file(source), &json!({"audience": AWS, "subject_token_type": ExternalAccount::AWS}))
}

fn trusted(file: &Value) -> ExternalAccount {
    ExternalAccount::from_json_with_any_source(file.to_string()).unwrap()
}

fn refused(file: &Value) -> String {
    let error = ExternalAccount::from_json_with_any_source(file.to_string()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    whole(&error)
}

#[test]
fn a_token_in_a_file_is_exchanged_and_read_anew_each_time() {
    let mut world = federated();
    world.files.insert("/var/run/token".into(), format!("{SUBJECT}\n").into_bytes());
    let source = trusted(&file(json!({"file": "/var/run/token"})));
    let token = world.mint(&source, &Want::access_token(CLOUD)).unwrap();
    assert!(token.access_token().starts_with("ya29.d."));
    assert_eq!(token.expires_at(), Some(NOW + Duration::from_secs(3599)));
    let sent = String::from_utf8(world.sent()[0].request.body().clone()).unwrap();
    let mut pairs: Vec<_> = sent.split('&').collect();
    pairs.sort_unstable();
    // The whole body, as in the documentation of the service.
    assert_eq!(
        pairs,
        [
            "audience=%2F%2Fiam.googleapis.com%2Fprojects%2F123456789012%2Flocations%2Fglobal%2FworkloadIdentityPools%2Fdemo-pool%2Fproviders%2Fdemo-oidc",
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange",
            "requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token",
            "scope=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform",
            "subject_token=eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJkZW1vIn0.c2ln",
            "subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt",
        ]
    );
    // The platform replaced it by one that the provider does not take.
    world.files.insert("/var/run/token".into(), b"another".to_vec());
    let error = world.mint(&source, &Want::access_token(CLOUD)).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "invalid_grant");
    assert!(!format!("{error:?} {error}").contains("another"), "{error:?}");
}

#[test]
fn a_token_in_a_member_of_a_file_is_found() {
    let mut world = federated();
    world.files.insert("/token.json".into(), json!({"access_token": SUBJECT}).to_string().into_bytes());
    let format = json!({"type": "json", "subject_token_field_name": "access_token"});
    let source = trusted(&file(json!({"file": "/token.json", "format": format})));
    assert!(world.mint(&source, &Want::access_token(CLOUD)).is_ok());
    let other = json!({"type": "json", "subject_token_field_name": "id_token"});
    let error =
        world.mint(&trusted(&file(json!({"file": "/token.json", "format": other}))), &Want::access_token(CLOUD));
    assert!(whole(&error.unwrap_err()).contains("/token.json: the JSON object has no text `id_token`"));
    let without = file(json!({"file": "/token.json", "format": {"type": "json"}}));
    assert!(refused(&without).contains("`credential_source.format.subject_token_field_name` is missing"));
}

#[test]
fn an_address_gives_the_token_and_sees_the_headers_of_the_file() {
    for (address, server) in [
        ("http://169.254.169.254/latest/azure?api-version=2018-02-01&resource=api://x", true),
        ("https://token.actions.example/?id=1&audience=x", false),
    ] {
        let mut world = federated();
        let format = json!({"type": "json", "subject_token_field_name": "value"});
        let source = json!({"url": address, "headers": {"Metadata": "True", "Authorization": "Bearer c4n4ry"}, "format": format});
        let source = trusted(&file(source));
        if server {
            let answer = http::Response::new(json!({"value": SUBJECT}).to_string().into_bytes());
            world.google().fail(Place::Imds, Fault::Answer(answer));
            assert!(world.mint(&source, &Want::access_token(CLOUD)).is_ok());
        } else {
            let error = world.mint(&source, &Want::access_token(CLOUD)).unwrap_err();
            assert!(!format!("{error:?} {error}").contains("c4n4ry"), "{error:?}");
        }
        let asked = world.sent()[0].clone();
        assert_eq!(asked.request.uri().to_string(), address);
        assert_eq!(asked.request.headers()["metadata"], "True");
        assert!(asked.request.headers()["authorization"].is_sensitive());
    }
}

#[test]
fn cleartext_is_refused_but_to_a_machines_own_metadata() {
    let wrong = refused(&file(json!({"url": "http://10.0.0.1/token"})));
    assert!(wrong.contains("`credential_source.url` cannot be used"), "{wrong}");
}

#[test]
fn aws_signs_by_its_variables_and_google_asks_aws() {
    let mut world = federated();
    for (name, value) in [
        ("AWS_REGION", "us-east-2"),
        ("AWS_DEFAULT_REGION", "us-west-1"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_SESSION_TOKEN", SESSION),
    ] {
        world.env.insert(name, value.into());
    }
    let token = world.mint(&trusted(&aws_file()), &Want::access_token(CLOUD)).unwrap();
    assert!(token.access_token().starts_with("ya29.d."));
    // Nothing but the exchange: the request is Google's to send.
    assert_eq!(world.sent().len(), 1);
    let subject = world.google().seen_at(Place::Sts)[0].param("subject_token").unwrap();
    // The known one, to the byte.
    assert_eq!(subject, include_str!("../../data/google/aws_subject_token.txt").trim());
}

#[test]
fn aws_asks_its_instance_once_for_each_thing_by_the_second_version() {
    let mut world = federated();
    let key = AwsKey { secret: SECRET.into(), session_token: Some(SESSION.into()) };
    world.google().imds = Some(Imds::new("demo-role", "AKIDEXAMPLE", key));
    assert!(world.mint(&trusted(&aws_file()), &Want::access_token(CLOUD)).is_ok());
    let asked: Vec<_> = world
        .google()
        .seen_at(Place::Imds)
        .iter()
        .map(|seen| format!("{} {}", seen.request.method(), seen.request.uri().path()))
        .collect();
    assert_eq!(
        asked,
        [
            "PUT /latest/api/token",
            "GET /latest/meta-data/placement/availability-zone",
            "GET /latest/meta-data/iam/security-credentials",
            "GET /latest/meta-data/iam/security-credentials/demo-role",
        ]
    );
}

#[test]
fn aws_asks_by_the_first_version_where_the_file_knows_no_other() {
    let mut world = federated();
    let key = AwsKey { secret: SECRET.into(), session_token: Some(SESSION.into()) };
    let mut imds = Imds { v1: true, v2: false, ..Imds::new("demo-role", "AKIDEXAMPLE", key) };
    world.google().imds = Some(imds.clone());
    let mut old = aws_file();
    old["credential_source"].as_object_mut().unwrap().remove("imdsv2_session_token_url");
    assert!(world.mint(&trusted(&old), &Want::access_token(CLOUD)).is_ok());
    // An instance that demands the second version says 401.
    imds.v1 = false;
    world.google().imds = Some(imds);
    let error = world.mint(&trusted(&old), &Want::access_token(CLOUD)).unwrap_err();
    assert_eq!(error.status(), Some(401));
    assert!(whole(&error).contains("imdsv2_session_token_url"), "{}", whole(&error));
}

#[test]
fn a_401_of_an_instances_metadata_says_nothing_of_the_tokens_of_a_chain() {
    let mut world = federated();
    let key = AwsKey { secret: SECRET.into(), session_token: Some(SESSION.into()) };
    world.google().imds = Some(Imds::new("demo-role", "AKIDEXAMPLE", key));
    let mut old = aws_file();
    old["credential_source"].as_object_mut().unwrap().remove("imdsv2_session_token_url");
    let rule = AccessBoundaryRule::new("//storage.googleapis.com/projects/_/buckets/b", ["inRole:roles/storage.admin"]);
    let account = trusted(&old).impersonate(SERVICE_ACCOUNT).unwrap();
    let source = Downscoped::new(account, [rule]).unwrap();
    let error = world.mint(&source, &Want::default()).unwrap_err();
    assert!(error.status() == Some(401) && whole(&error).contains("imdsv2_session_token_url"), "{}", whole(&error));
    assert_eq!(world.sent().len(), 1, "it is asked once, and neither STS nor IAM");
    // Nor does one in the middle of a life, when the token of the base has ended.
    let mut world = federated();
    let key = AwsKey { secret: SECRET.into(), session_token: Some(SESSION.into()) };
    world.google().imds = Some(Imds { v1: true, ..Imds::new("demo-role", "AKIDEXAMPLE", key) });
    let mut grant = Grant::new(std::sync::Arc::new(source));
    let mut once = |world: &mut World| {
        loop {
            let mut turn = grant.begin(()).unwrap();
            let mut mint = grant.mint(&mut turn, &Want::default(), world.now, Held::Nothing).unwrap();
            let mut result = world.run(&mut mint);
            let (change, again) = (Minting::take_change(&mut mint), Minting::must_wait(&mint));
            grant.finish(turn, world.now, change, Outcome::from(&mut result));
            if !again {
                return result;
            }
        }
    };
    once(&mut world).unwrap();
    world.google().imds.as_mut().unwrap().v1 = false;
    world.pass(Duration::from_secs(3700));
    let (imds, sts) = (world.google().seen_at(Place::Imds).len(), world.google().seen_at(Place::Sts).len());
    assert_eq!(once(&mut world).unwrap_err().status(), Some(401));
    let asked = (world.google().seen_at(Place::Imds).len() - imds, world.google().seen_at(Place::Sts).len() - sts);
    assert_eq!(asked, (1, 0), "once, and no token is dropped for it");
}

#[test]
fn aws_takes_the_callers_own_credentials_on_lambda_and_ecs() {
    let mut world = federated();
    let aws = AwsIdentity::supplied("us-east-2", || {
        Ok(AwsCredentials::new("AKIDEXAMPLE", SECRET).with_session_token(SESSION))
    });
    let source = ExternalAccount::new(AWS, ExternalAccount::AWS, aws).unwrap();
    assert!(world.mint(&source, &Want::access_token(CLOUD)).is_ok());
    assert!(world.did().len() == 1, "no variable and no metadata is asked: {:?}", world.did());
}

#[test]
fn a_clock_that_is_off_spoils_a_signature_of_aws() {
    let mut world = federated();
    let aws = AwsIdentity::supplied("us-east-2", || {
        Ok(AwsCredentials::new("AKIDEXAMPLE", SECRET).with_session_token(SESSION))
    });
    let source = ExternalAccount::new(AWS, ExternalAccount::AWS, aws).unwrap();
    let mut mint = source.mint(&Want::access_token(CLOUD), &source.first_state());
    let early = grantflow::Now { wall: NOW - Duration::from_secs(1000), mono: Duration::ZERO };
    let grantflow::Step::Do(grantflow::Effect::Http(call)) =
        grantflow::Machine::resume(&mut mint, &mut grantflow::Cx::new(early, [1; 32]), grantflow::Reply::Start)
    else {
        panic!("no request")
    };
    let request = call.open(grantflow::machine::Rules::V1).unwrap().request.clone();
    let answer = world.google().answer(NOW, &request);
    assert!(format!("{answer:?}").contains("400"), "{answer:?}");
}

#[test]
fn a_program_prints_the_token_if_that_is_permitted() {
    let source = json!({"executable": {"command": "/opt/bin/get-token --arg 'a b'", "timeout_millis": 5000}});
    let account = trusted(&file(source));
    let answer = json!({"version": 1, "success": true, "token_type": token_type::ID_TOKEN, "id_token": SUBJECT});
    let mut world = federated();
    world.programs.insert("/opt/bin/get-token".into(), Prints::new(answer.to_string()));
    let error = world.mint(&account, &Want::access_token(CLOUD)).unwrap_err();
    assert!(whole(&error).contains(PERMISSION) && whole(&error).contains("/opt/bin/get-token"), "{}", whole(&error));
    assert_eq!(world.did().len(), 1, "nothing was run: {:?}", world.did());
    world.env.insert(PERMISSION, "true".into());
    assert!(world.mint(&account, &Want::access_token(CLOUD)).is_err());
    world.env.insert(PERMISSION, "1".into());
    assert!(world.mint(&account, &Want::access_token(CLOUD)).is_ok());
}

#[test]
fn a_program_is_told_what_is_wanted() {
    let source = json!({"executable": {"command": "x", "output_file": "/var/cache/token.json"}});
    let mut account = file(source);
    account["service_account_impersonation_url"] = format!(
        "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{SERVICE_ACCOUNT}:generateAccessToken"
    )
    .into();
    let account = trusted(&account);
    let mut mint = account.mint(&Want::access_token(CLOUD), &account.first_state());
    let mut resume = |reply| grantflow::Machine::resume(&mut mint, &mut World::default().cx(), reply);
    let _ = resume(grantflow::Reply::Start);
    let _ = resume(grantflow::Reply::Env(Some("1".into())));
    let grantflow::Step::Do(grantflow::Effect::Exec(program)) = resume(grantflow::Reply::Missing) else {
        panic!("no program")
    };
    let variables: Vec<_> =
        program.variables().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect();
    assert_eq!(
        variables,
        [
            format!("GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE={OIDC}"),
            format!("GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE={}", token_type::JWT),
            "GOOGLE_EXTERNAL_ACCOUNT_INTERACTIVE=0".to_owned(),
            format!("GOOGLE_EXTERNAL_ACCOUNT_IMPERSONATED_EMAIL={SERVICE_ACCOUNT}"),
            "GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE=/var/cache/token.json".to_owned(),
        ]
    );
}

#[test]
fn what_a_program_prints_is_read_strictly() {
    let good = json!({"version": 1, "success": true, "token_type": token_type::JWT, "id_token": SUBJECT});
    for (changes, told) in [
        (json!({}), None),
        (json!({"token_type": token_type::SAML2, "id_token": null, "saml_response": SUBJECT}), None),
        (json!({"expiration_time": 1_795_176_001}), None),
        (json!({"expiration_time": ""}), None),
        (json!({"expiration_time": " 1795176001.5 "}), None),
        (json!({"expiration_time": 1_795_176_001.5}), None),
        (json!({"version": 2}), Some("does not know")),
        (json!({"version": null}), Some("without its version")),
        (json!({"success": null}), Some("does not say whether it is a success")),
        (
            json!({"success": false, "code": "401", "message": "Caller not authorized."}),
            Some("401: Caller not authorized."),
        ),
        (json!({"success": false, "code": "401"}), Some("401: no message")),
        (json!({"success": false, "code": "", "message": "Sign in first."}), Some("no code: Sign in first.")),
        (json!({"success": false}), Some("without code and message")),
        (json!({"token_type": null}), Some("without its token_type")),
        (json!({"token_type": "urn:x"}), Some("not known")),
        (json!({"id_token": null}), Some("as its token_type demands")),
        (json!({"token_type": token_type::SAML2}), Some("as its token_type demands")),
        (json!({"expiration_time": 1_795_175_999}), Some("has expired")),
        (json!({"expiration_time": "soon"}), Some("no number of seconds")),
    ] {
        let mut world = federated();
        world.env.insert(PERMISSION, "1".into());
        world.programs.insert("x".into(), Prints::new(with(good.clone(), &changes).to_string()));
        let minted = world.mint(&trusted(&file(json!({"executable": {"command": "x"}}))), &Want::access_token(CLOUD));
        match told {
            None => assert!(minted.is_ok(), "{changes}: {minted:?}"),
            Some(told) => {
                let error = minted.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Program);
                assert!(whole(&error).contains(told), "{changes}: {}", whole(&error));
            }
        }
    }
    let mut world = federated();
    world.env.insert(PERMISSION, "1".into());
    world.programs.insert("x".into(), Prints::new("INFO: logs\n{}"));
    let error = world.mint(&trusted(&file(json!({"executable": {"command": "x"}}))), &Want::access_token(CLOUD));
    assert!(whole(&error.unwrap_err()).contains("no JSON object, logs perhaps"));
    world.programs.insert("x".into(), Prints::failing(3, "no access; token=c4n4ryS3cretc4n4ryS3cret0"));
    let error =
        world.mint(&trusted(&file(json!({"executable": {"command": "x"}}))), &Want::access_token(CLOUD)).unwrap_err();
    assert!(whole(&error).contains("exit code 3: no access") && !whole(&error).contains("c4n4ry"), "{}", whole(&error));
}

#[test]
fn an_output_file_spares_the_program_as_long_as_its_token_is_good() {
    let account = trusted(&file(json!({"executable": {"command": "x", "output_file": "/out"}})));
    let answer = |end: i64| {
        json!({"version": 1, "success": true, "token_type": token_type::JWT, "id_token": SUBJECT, "expiration_time": end}).to_string()
    };
    for (content, runs) in [
        (answer(NOW.as_unix() + 60), false),
        (answer(NOW.as_unix()), true),
        (json!({"version": 1, "success": false, "code": "1", "message": "m"}).to_string(), true),
        ("no JSON".to_owned(), true),
    ] {
        let mut world = federated();
        world.env.insert(PERMISSION, "1".into());
        world.files.insert("/out".into(), content.clone().into_bytes());
        world.programs.insert("x".into(), Prints::new(answer(NOW.as_unix() + 60)));
        assert!(world.mint(&account, &Want::access_token(CLOUD)).is_ok(), "{content}");
        let ran = world.did().iter().any(|did| matches!(did, Did::Exec(_)));
        assert_eq!(ran, runs, "{content}");
    }
    // What others read needs its end.
    let mut world = federated();
    world.env.insert(PERMISSION, "1".into());
    let endless = json!({"version": 1, "success": true, "token_type": token_type::JWT, "id_token": SUBJECT});
    world.programs.insert("x".into(), Prints::new(endless.to_string()));
    let error = world.mint(&account, &Want::access_token(CLOUD)).unwrap_err();
    assert!(whole(&error).contains("no expiration_time"), "{}", whole(&error));
}

#[test]
fn a_certificate_is_shown_to_sts_and_named_to_it() {
    const LEAF: &str = "-----BEGIN CERTIFICATE-----\nbGVh\nZg==\n-----END CERTIFICATE-----\n";
    const ROOT: &str = "-----BEGIN CERTIFICATE-----\ncm9vdA==\n-----END CERTIFICATE-----\n";
    let mut world = federated();
    let mtls = "urn:ietf:params:oauth:token-type:mtls";
    world.google().providers.push(provider(OIDC, mtls, Takes::Token(r#"["bGVhZg==","cm9vdA=="]"#.into())));
    world.google().providers.remove(0);
    let config = json!({"version": 1, "cert_configs": {"workload": {"cert_path": "/crt.pem", "key_path": "/key.pem"}}});
    world.files.insert("/home/me/.config/gcloud/certificate_config.json".into(), config.to_string().into_bytes());
    world.files.insert("/crt.pem".into(), LEAF.into());
    world.files.insert("/key.pem".into(), b"-----BEGIN PRIVATE KEY-----\nc4n4ry\n-----END PRIVATE KEY-----\n".to_vec());
    world.files.insert("/chain.pem".into(), format!("{LEAF}{ROOT}").into_bytes());
    world.env.insert("HOME", "/home/me".into());
    let source = json!({"certificate": {"use_default_certificate_config": true, "trust_chain_path": "/chain.pem"}});
    let account = with(file(source), &json!({"subject_token_type": mtls, "token_url": null}));
    assert!(world.mint(&trusted(&account), &Want::access_token(CLOUD)).is_ok());
    let sent = world.sent()[0].clone();
    assert_eq!(sent.request.uri(), "https://sts.mtls.googleapis.com/v1/token");
    let identity = sent.identity.expect("a certificate");
    assert_eq!(identity.as_pem().expect("in PEM").0, LEAF);
    // The leaf belongs to the beginning of its chain.
    world.files.insert("/chain.pem".into(), format!("{ROOT}{LEAF}").into_bytes());
    let error = world.mint(&trusted(&account), &Want::access_token(CLOUD)).unwrap_err();
    assert!(whole(&error).contains("/chain.pem") && !format!("{error:?}").contains("c4n4ry"), "{}", whole(&error));
    for wrong in [json!({}), json!({"use_default_certificate_config": true, "certificate_config_location": "/x"})] {
        assert!(refused(&file(json!({"certificate": wrong}))).contains("exclude each other"));
    }
}

#[test]
fn an_audience_that_sts_does_not_know_is_told() {
    for wrong in [OIDC.replace("123456789012", "demo-project"), format!("https:{OIDC}")] {
        let mut world = federated();
        world.files.insert("/token".into(), SUBJECT.into());
        let source = trusted(&with(file(json!({"file": "/token"})), &json!({"audience": wrong})));
        let error = world.mint(&source, &Want::access_token(CLOUD)).unwrap_err();
        assert_eq!(error.server().unwrap().error(), "invalid_target", "{wrong}");
        assert_eq!(error.advice(), Some(grantflow::Advice::FixConfiguration), "{wrong}: {error}");
    }
}

#[test]
fn a_workforces_project_and_a_client_are_told_to_sts() {
    let mut world = federated();
    let changes = json!({"audience": WORKFORCE, "subject_token_type": token_type::ID_TOKEN, "workforce_pool_user_project": "123"});
    let account = with(file(json!({"file": "/token"})), &changes);
    world.files.insert("/token".into(), SUBJECT.into());
    assert!(world.mint(&trusted(&account), &Want::access_token(CLOUD)).is_ok());
    let options = world.google().seen_at(Place::Sts)[0].param("options");
    assert_eq!(options.as_deref(), Some(r#"{"userProject":"123"}"#));
    // A client says whom to charge.
    world.google().providers[2].client = Some(("demo-client".into(), "s3cr3t/+=".into()));
    let account = with(account, &json!({"client_id": "demo-client", "client_secret": "s3cr3t/+="}));
    assert!(world.mint(&trusted(&account), &Want::access_token(CLOUD)).is_ok());
    let seen = world.google().seen_at(Place::Sts)[1].clone();
    assert_eq!(seen.request.headers()["authorization"], "Basic ZGVtby1jbGllbnQ6czNjcjN0Lys9");
    assert_eq!((seen.param("options"), seen.param("client_id")), (None, None));
    // A workload has none.
    let wrong = with(file(json!({"file": "/token"})), &json!({"workforce_pool_user_project": "123"}));
    assert!(refused(&wrong).contains("`workforce_pool_user_project` is for the audience of a workforce pool alone"));
    let client = Client::new("x").authentication(ClientAuthentication::client_secret_basic("y"));
    let own = ExternalAccount::new(OIDC, token_type::JWT, || Ok(SubjectToken::new(SUBJECT))).unwrap().client(&client);
    assert!(own.clone().workforce_pool_user_project("123").is_err());
    assert_eq!(own.project_number(), Some("123456789012"));
}

#[test]
fn a_service_account_is_impersonated_with_the_token_of_sts() {
    let mut world = federated();
    world.files.insert("/token".into(), SUBJECT.into());
    let url = format!(
        "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{SERVICE_ACCOUNT}:generateAccessToken"
    );
    let changes = json!({"service_account_impersonation_url": url,
                         "service_account_impersonation": {"token_lifetime_seconds": 2800}, "quota_project_id": "p"});
    let account = trusted(&with(file(json!({"file": "/token"})), &changes));
    assert_eq!(account.service_account(), Some(SERVICE_ACCOUNT));
    assert_eq!(account.request_headers()["x-goog-user-project"], "p");
    let token = world.mint(&account, &Want::access_token(STORAGE)).unwrap();
    assert_eq!(token.scopes().as_str(), STORAGE);
    assert_eq!(token.expires_at(), Some(NOW + Duration::from_secs(2800)));
    // STS is asked for what IAM needs, and IAM for what the caller wants.
    assert_eq!(world.google().seen_at(Place::Sts)[0].param("scope").as_deref(), Some(CLOUD));
    let iam = world.google().seen_at(Place::Iam)[0].request.clone();
    assert!(!iam.headers().contains_key("x-goog-user-project"));
    assert_eq!(serde_json::from_slice::<Value>(iam.body()).unwrap(), json!({"scope": [STORAGE], "lifetime": "2800s"}));
    let id_token = world.mint(&account, &Want::id_token("https://run.example")).unwrap();
    assert_eq!(jwt_parts(id_token.access_token()).1["aud"], "https://run.example");
    for lifetime in [599, 43_201] {
        let changes = json!({"service_account_impersonation_url": url, "service_account_impersonation": {"token_lifetime_seconds": lifetime}});
        assert!(refused(&with(file(json!({"file": "/token"})), &changes)).contains("from 600 to 43200"));
    }
}

#[test]
fn a_file_from_elsewhere_reads_asks_and_runs_nothing_and_sends_nothing_elsewhere() {
    for source in [
        json!({"file": "/etc/passwd"}),
        json!({"url": "http://169.254.169.254/latest/meta-data"}),
        json!({"executable": {"command": "rm -rf /"}}),
        json!({"certificate": {"certificate_config_location": "/x"}}),
    ] {
        let error = ExternalAccount::from_json(file(source.clone()).to_string()).unwrap_err();
        assert!(error.to_string().contains("only a file that you trust"), "{source}: {error}");
    }
    // AWS is asked where it is, and signs nothing but who it is.
    assert!(ExternalAccount::from_json(aws_file().to_string()).is_ok());
    for (name, value) in [
        ("region_url", "http://10.0.0.1/"),
        ("url", "http://169.254.169.254.evil.example/"),
        ("imdsv2_session_token_url", "https://evil.example/"),
        ("regional_cred_verification_url", "https://iam.amazonaws.com?Action=DeleteUser"),
        ("environment_id", "aws2"),
        ("environment_id", "azure1"),
    ] {
        let mut file = aws_file();
        file["credential_source"][name] = value.into();
        assert!(refused(&file).contains(&format!("`credential_source.{name}`")), "{name}: {value}");
    }
    let path = format!("/v1/projects/-/serviceAccounts/{SERVICE_ACCOUNT}:generateAccessToken");
    for (name, value) in [
        ("token_url", "https://evil.example/v1/token".to_owned()),
        ("token_url", "https://sts.googleapis.com/v1/collect".to_owned()),
        ("token_info_url", "https://evil.example/v1/introspect".to_owned()),
        ("service_account_impersonation_url", format!("https://evil.example{path}")),
        ("service_account_impersonation_url", "https://iamcredentials.googleapis.com/v1/x".to_owned()),
        ("universe_domain", "evil.example".to_owned()),
        ("type", "service_account".to_owned()),
    ] {
        let file = with(file(json!({"file": "/token"})), &json!({name: value}));
        assert!(refused(&file).contains(&format!("`{name}`")), "{name}: {value}");
    }
}

#[test]
fn a_trusted_file_may_be_of_another_universe() {
    let changes = json!({"universe_domain": "cloud.example", "token_url": null});
    let account = with(file(json!({"file": "/token"})), &changes).to_string();
    let account = ExternalAccount::from_json_with_any_server(account).unwrap().impersonate(SERVICE_ACCOUNT).unwrap();
    assert_eq!(account.universe_domain(), "cloud.example");
    let mut world = federated();
    world.files.insert("/token".into(), SUBJECT.into());
    let _ = world.mint(&account, &Want::access_token(CLOUD));
    assert_eq!(world.sent()[0].request.uri(), "https://sts.cloud.example/v1/token");
}

#[test]
fn wants_that_sts_does_not_know_are_refused_before_anything_is_read() {
    let account = trusted(&file(json!({"file": "/token"})));
    for want in [
        Want::default(),
        Want::id_token("https://run.example"),
        Want::access_token(CLOUD).subject("alice@example.com"),
        Want::access_token(CLOUD).audience("x"),
        Want::access_token(CLOUD).self_signed(),
    ] {
        let mut world = federated();
        let error = world.mint(&account, &want).unwrap_err();
        assert_eq!((error.kind(), world.did().len()), (ErrorKind::Config, 0), "{want:?}: {error}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let mut world = federated();
    let error = world.mint(&trusted(&file(json!({"file": "/var/run/tokne"}))), &Want::access_token(CLOUD)).unwrap_err();
    assert!(whole(&error).contains("/var/run/tokne: there is no such file"), "{}", whole(&error));
    world.files.insert("/empty".into(), b"\n".to_vec());
    let error = world.mint(&trusted(&file(json!({"file": "/empty"}))), &Want::access_token(CLOUD)).unwrap_err();
    assert!(whole(&error).contains("/empty: there is no subject token: it is empty"), "{}", whole(&error));
    world.env.insert("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".into());
    let error = world.mint(&trusted(&aws_file()), &Want::access_token(CLOUD)).unwrap_err();
    assert!(whole(&error).contains("AWS_SECRET_ACCESS_KEY"), "{}", whole(&error));
    for (file, told) in [
        (with(file(json!({})), &json!({})), "`credential_source.file` is missing"),
        (with(file(json!({})), &json!({"credential_source": null})), "`credential_source` is missing"),
        (with(file(json!({"file": "/x"})), &json!({"audience": null})), "`audience` is missing"),
        (with(file(json!({"executable": {"command": "x 'y"}})), &json!({})), "has a quote without its end"),
        (with(file(json!({"executable": {"command": "x", "timeout_millis": 1}})), &json!({})), "5000 to 120000"),
    ] {
        assert!(refused(&file).contains(told), "{file}: {}", refused(&file));
    }
}
