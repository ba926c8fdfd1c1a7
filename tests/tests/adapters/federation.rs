//! Accounts of other platforms over real sockets: programs that are run, and a certificate that is shown in a handshake.

use std::path::Path;

use grantflow::google::{ExternalAccount, Impersonated};
use grantflow::token_type;
use grantflow_tests::front::wall_clock;
use grantflow_tests::google::{AwsKey, Google, Imds, Place as At, Provider, SERVICE_ACCOUNT, Takes};
use grantflow_tests::secure::{Authority, SecureFront};
use serde_json::{Value, json};

use super::*;

const POOL: &str =
    "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/demo-pool/providers/demo";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const PERMISSION: &str = "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES";

/// A Google whose STS knows one provider, which may act for a service account.
fn knowing(subject_token_type: &str, takes: Takes) -> Google {
    let mut google = Google::demo();
    let subject_token_type = subject_token_type.to_owned();
    google.providers = vec![Provider { audience: POOL.into(), subject_token_type, takes, client: None }];
    google.impersonators = vec![(POOL.into(), SERVICE_ACCOUNT.into())];
    google
}

/// A file whose servers are this Google.
fn file(google: &Google, subject_token_type: &str, source: Value) -> Value {
    json!({
        "type": "external_account", "audience": POOL, "subject_token_type": subject_token_type,
        "token_url": google.address(At::Sts), "credential_source": source,
    })
}

fn mint<A: Adapter>(adapter: &A, file: &Value) -> Result<Token, Error> {
    let account = ExternalAccount::from_json_with_any_server(file.to_string())?;
    adapter.run(account.mint(&Want::access_token(SCOPE), &account.first_state()))
}

/// A script in this folder, as a program.
fn script(folder: &Path, name: &str, lines: &str) -> String {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = folder.join(name);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path).unwrap();
    file.write_all(format!("#!/bin/sh\n{lines}\n").as_bytes()).unwrap();
    format!("'{}'", path.display())
}

pub(super) fn a_program_prints_the_token_of_an_external_account<A: Adapter>() {
    if !Path::new("/bin/sh").exists() {
        eprintln!("skipped: there is no /bin/sh");
        return;
    }
    let permitted = std::env::var_os(PERMISSION).is_some_and(|value| value == "1");
    let folder = tempfile::tempdir().unwrap();
    let token = |end: i64| json!({"version": 1, "success": true, "token_type": token_type::JWT, "id_token": "subject", "expiration_time": end});
    let soon = wall_clock().as_unix() + 600;
    let front = Front::start(knowing(token_type::JWT, Takes::Token("subject".into()))).unwrap();
    let with = |command: String, more: Value| {
        let mut executable = json!({"command": command, "timeout_millis": 5000});
        executable.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        file(&front.server(), token_type::JWT, json!({"executable": executable}))
    };
    let (kept, ran) = (folder.path().join("kept.json"), folder.path().join("ran"));
    let told = r#"echo "$1 $GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE $GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE \
$GOOGLE_EXTERNAL_ACCOUNT_INTERACTIVE $GOOGLE_EXTERNAL_ACCOUNT_IMPERSONATED_EMAIL $GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE""#;
    let lines = format!(
        "{told} >>'{}'\necho working >&2\ncat <<'END' | tee \"$GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE\"\n{}\nEND",
        ran.display(),
        token(soon)
    );
    let command = script(folder.path(), "print me", &lines);
    let mut good = with(format!("{command} 'an argument'"), json!({"output_file": kept}));
    good["service_account_impersonation_url"] =
        format!("{}{SERVICE_ACCOUNT}:generateAccessToken", front.server().address(At::Iam)).into();
    if !permitted {
        let error = mint(&A::with_programs(), &good).unwrap_err();
        assert!(error.to_string().contains(PERMISSION) && !ran.exists(), "{error}");
        // In a process of its own, since the environment is one for all tests.
        let name = format!("{}::a_program_prints_the_token_of_an_external_account", A::NAME);
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let output = again.args(["--exact", &name]).env(PERMISSION, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let error = mint(&A::new(), &good).unwrap_err();
    assert!(error.to_string().contains("allow_programs()") && !ran.exists(), "{error}");
    let adapter = A::with_programs();
    // The second time what the program left behind does.
    for _ in 0..2 {
        assert!(mint(&adapter, &good).unwrap().access_token().starts_with("ya29.c."));
    }
    let jwt = token_type::JWT;
    let expected = format!("an argument {POOL} {jwt} 0 {SERVICE_ACCOUNT} {}\n", kept.display());
    assert_eq!(std::fs::read_to_string(&ran).unwrap(), expected);
    // Once that has expired, the program is run again.
    std::fs::write(&kept, token(soon - 601).to_string()).unwrap();
    mint(&adapter, &good).unwrap();
    assert_eq!(std::fs::read_to_string(&ran).unwrap().lines().count(), 2);

    let refusal = json!({"version": 1, "success": false, "code": "401", "message": "Caller not authorized."});
    for (name, lines, why) in [
        ("refusal", format!("echo '{refusal}'"), "401: Caller not authorized."),
        ("logs", format!("echo starting; echo '{}'", token(soon)), "no JSON object"),
        ("status", "echo c4n4ry; echo 'not today' >&2; exit 3".into(), "not today"),
        ("expired", format!("echo '{}'", token(soon - 601)), "has expired"),
    ] {
        let error = mint(&adapter, &with(script(folder.path(), name, &lines), json!({}))).unwrap_err();
        let told = format!("{error} {:?}", std::error::Error::source(&error));
        assert!(told.contains(why) && !told.contains("c4n4ry") && !told.contains("subject\""), "{name}: {told}");
    }
    let saml = json!({"version": 1, "success": true, "token_type": token_type::SAML2, "saml_response": "subject"});
    front.server().providers[0].subject_token_type = token_type::SAML2.into();
    let mut by_saml = with(script(folder.path(), "saml", &format!("echo '{saml}'")), json!({}));
    by_saml["subject_token_type"] = token_type::SAML2.into();
    assert!(mint(&adapter, &by_saml).unwrap().access_token().starts_with("ya29.d."));
}

pub(super) fn files_addresses_and_aws_give_subject_tokens_and_an_account_is_impersonated_with_them<A: Adapter>() {
    let key = AwsKey { secret: "secret".into(), session_token: Some("session".into()) };
    let mut google = knowing(token_type::JWT, Takes::Token("subject".into()));
    google.providers.push(Provider {
        audience: "aws".into(),
        subject_token_type: ExternalAccount::AWS.into(),
        takes: Takes::Aws([("AKIDEXAMPLE".to_owned(), key.clone())].into()),
        client: None,
    });
    google.imds = Some(Imds::new("role", "AKIDEXAMPLE", key));
    let front = Front::start(google).unwrap();
    let (adapter, folder) = (A::new(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("token"), "subject\n").unwrap();
    std::fs::write(at("token.json"), json!({"value": "subject"}).to_string()).unwrap();
    let format = json!({"type": "json", "subject_token_field_name": "value"});
    let latest = format!("http://{}/latest", front.address());
    let of = |source: Value| file(&front.server(), token_type::JWT, source);
    let by_file = of(json!({"file": at("token")}));
    let mut by_aws = of(json!({
        "environment_id": "aws1", "imdsv2_session_token_url": format!("{latest}/api/token"),
        "region_url": format!("{latest}/meta-data/placement/availability-zone"),
        "url": format!("{latest}/meta-data/iam/security-credentials"),
        "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
    }));
    (by_aws["audience"], by_aws["subject_token_type"]) = ("aws".into(), ExternalAccount::AWS.into());
    let answer = http::Response::new(json!({"value": "subject"}).to_string().into_bytes());
    front.server().fail(At::Imds, Fault::Answer(answer));
    for account in [
        of(json!({"url": format!("{latest}/platform"), "headers": {"Metadata": "True"}, "format": format.clone()})),
        of(json!({"file": at("token.json"), "format": format})),
        by_file.clone(),
        by_aws,
    ] {
        assert!(mint(&adapter, &account).unwrap().access_token().starts_with("ya29.d."), "{account}");
    }
    let iam = format!("{}{SERVICE_ACCOUNT}:generateAccessToken", front.server().address(At::Iam));
    let impersonated = json!({"type": "impersonated_service_account", "service_account_impersonation_url": iam,
                              "source_credentials": by_file});
    let impersonated = Impersonated::from_json_with_any_server(impersonated.to_string()).unwrap();
    for (want, prefix) in [(Want::access_token(SCOPE), "ya29.c."), (Want::id_token("https://run.example"), "ey")] {
        let token = adapter.run(impersonated.mint(&want, &impersonated.first_state())).unwrap();
        assert!(token.access_token().starts_with(prefix), "{want:?}");
    }
}

pub(super) fn a_certificate_of_an_external_account_is_shown_to_sts_in_the_handshake<A: Adapter>() {
    const MTLS: &str = "urn:ietf:params:oauth:token-type:mtls";
    let (authority, other) = (Authority::new("an authority of tests"), Authority::new("another"));
    let takes = Takes::Certificate(authority.certificate().shown(), "workload.example".into());
    let front = SecureFront::start_google(knowing(MTLS, takes), &authority).unwrap();
    let adapter = A::with_identities(&authority.certificate().pem, &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let config =
        json!({"version": 1, "cert_configs": {"workload": {"cert_path": at("crt.pem"), "key_path": at("key.pem")}}});
    std::fs::write(at("config.json"), config.to_string()).unwrap();
    let source =
        json!({"certificate": {"certificate_config_location": at("config.json"), "trust_chain_path": at("chain.pem")}});
    let account = file(&front.server(), MTLS, source);
    let write = |shown: &grantflow_tests::secure::Certificate| {
        std::fs::write(at("crt.pem"), &shown.pem).unwrap();
        std::fs::write(at("key.pem"), &shown.key).unwrap();
        std::fs::write(at("chain.pem"), format!("{}{}", shown.pem, authority.certificate().pem)).unwrap();
    };
    // One that is renewed is read again.
    for _ in 0..2 {
        write(&authority.signs("workload.example"));
        assert!(mint(&adapter, &account).unwrap().access_token().starts_with("ya29.d."));
    }
    let seen: Vec<Value> = front
        .server()
        .seen_at(At::Sts)
        .iter()
        .map(|seen| seen.param("subject_token").unwrap().parse().unwrap())
        .collect();
    assert!(seen.len() == 2 && seen[0] != seen[1] && seen.iter().all(|chain| chain.as_array().unwrap().len() == 2));
    for wrong in [authority.signs("another.example"), other.signs("workload.example")] {
        write(&wrong);
        let error = mint(&adapter, &account).unwrap_err();
        assert_eq!(error.server().unwrap().error(), "invalid_grant");
    }
    // A key that is not the certificate's is found before anything is sent.
    let count = front.server().seen().len();
    std::fs::write(at("key.pem"), &authority.signs("workload.example").key).unwrap();
    let error = mint(&adapter, &account).unwrap_err();
    assert!(!format!("{error:?}").contains("PRIVATE KEY") && front.server().seen().len() == count, "{error}");
}
