//! The requests of grantflow for credentials of all kinds, beside those that google-auth makes for the same files: decoded, all of them must be alike but for the differences that `docs/google.md` lists.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use grantflow::google::{
    AccessBoundaryRule, AuthorizedUser, Downscoped, GdchServiceAccount, GoogleCredential, Impersonated, MetadataServer,
    RegionalAccess, ServiceAccount, sign_blob,
};
use grantflow::source::{TokenSource, Want};
use grantflow::{Timestamp, Token, token_type};
use grantflow_tests::google::{AwsKey, Imds, Local, Metadata, Place, Provider, SERVICE_ACCOUNT, Takes, jwt_parts};
use grantflow_tests::secure::Authority;
use grantflow_tests::{Fault, Google, Prints, World, google};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::{Done, check};

const POOL: &str =
    "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/demo-pool/providers/p";
const WORKFORCE: &str = "//iam.googleapis.com/locations/global/workforcePools/demo-workforce/providers/p";
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_only";
const TARGET: &str = "target@demo-project.iam.gserviceaccount.com";
const MIDDLE: &str = "middle@demo-project.iam.gserviceaccount.com";
const SUBJECT: &str = "subject";
const SCOPES: &str =
    "https://www.googleapis.com/auth/devstorage.read_only https://www.googleapis.com/auth/cloud-platform";
const VARIABLES: [(&str, &str); 3] =
    [("AWS_REGION", "us-east-2"), ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")];

pub(crate) fn compare(python: &str, folder: &Path) -> Done {
    let own = [
        ("key.json", google::service_account_json()),
        ("gdch.json", google::gdch_json()),
        ("authorized_user.json", google::authorized_user_json()),
    ];
    for (name, file) in files(folder).into_iter().chain(own) {
        std::fs::write(folder.join(name), file.to_string())?;
    }
    let (workload, authority) = (Authority::new("workload.example"), Authority::new("an authority"));
    let paths = json!({"cert_path": folder.join("crt.pem"), "key_path": folder.join("key.pem")});
    let config = json!({"version": 1, "cert_configs": {"workload": paths}}).to_string();
    let (leaf, above) = (workload.certificate(), authority.certificate());
    let kept = [
        ("token.txt", SUBJECT),
        ("config.json", &config),
        ("crt.pem", &leaf.pem),
        ("key.pem", &leaf.key),
        ("chain.pem", &format!("{}{}", leaf.pem, above.pem)),
    ];
    for (name, content) in kept {
        std::fs::write(folder.join(name), content)?;
    }
    let printed =
        json!({"version": 1, "success": true, "token_type": token_type::JWT, "id_token": SUBJECT}).to_string();
    let program = folder.join("print.sh");
    std::fs::write(&program, format!("#!/bin/sh\necho '{printed}'\n"))?;
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/google-auth/federation.py");
    let mut command = Command::new(python);
    command.arg(script).arg(folder).arg(world().now.wall.as_unix().to_string());
    command.env("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1");
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID"] {
        command.env_remove(name);
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let theirs: Value = serde_json::from_slice(&output.stdout)?;

    for (name, file) in files(folder) {
        let mut world = world();
        for (name, content) in kept {
            world.files.insert(folder.join(name), content.into());
        }
        world.programs.insert(program.clone(), Prints::new(printed.clone()));
        world.env.insert("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1".into());
        let path = folder.join(name);
        world.files.insert(path.clone(), file.to_string().into_bytes());
        let credential = world.run(GoogleCredential::read(path).with_any_source())?;
        if name == "url.json" {
            // Whatever the platform's address answers.
            let answer = http::Response::new(json!({"value": SUBJECT}).to_string().into_bytes());
            world.google().fail(Place::Imds, Fault::Answer(answer));
        }
        if name == "variables.json" {
            world.google().imds = None;
            for (name, value) in VARIABLES {
                world.env.insert(name, value.into());
            }
        }
        let want = if name == "user.json" { Want::default() } else { Want::access_token(SCOPE) };
        let _ = world.run(credential.mint(&want, &credential.first_state()));
        same(name, &world, &theirs[name])?;
        if ["imds.json", "variables.json"].contains(&name) {
            signature(name, &world, &theirs[format!("signature of {name}")])?;
        }
    }
    for (name, source, want) in by_code()? {
        let mut world = world();
        let _ = world.run(source.mint(&want, &source.first_state()));
        same(name, &world, &theirs[name])?;
    }
    let mut world = world();
    let token = Token::bearer("ya29.user", Timestamp::default(), None)?;
    let _ = world.run(sign_blob(SERVICE_ACCOUNT, &token, b"hello")?);
    same("signBlob", &world, &theirs["signBlob"])?;
    for (name, want) in [
        ("self-signed for scopes", Want::access_token(SCOPES).self_signed()),
        ("self-signed for an audience", Want::default().self_signed().audience("https://storage.googleapis.com/")),
    ] {
        let token = world.mint(&account()?, &want)?;
        let ours = json!({"method": "SIGN", "url": "", "headers": {"authorization": format!("Bearer {}", token.access_token())}});
        let (ours, theirs) = (decoded(name, &ours), decoded(name, &theirs[name][0]));
        check(ours == theirs, &format!("{name}: {ours:#} is as {theirs:#}"))?;
        println!("  ok  {name}: as google-auth signs it");
    }
    Ok(())
}

fn account() -> Result<ServiceAccount, grantflow::Error> {
    ServiceAccount::from_json(google::service_account_json().to_string())
}

/// A Google that knows everything that the cases need.
fn world() -> World {
    let mut world = google::world();
    let known = google::Account { email: TARGET.into(), ..world.google().account_mut(google::SERVICE_ACCOUNT).clone() };
    let middle = google::Account { email: MIDDLE.into(), ..known.clone() };
    world.google = world.google.take().map(|google: Google| google.account(known).account(middle));
    let provider = |audience: &str, takes| Provider {
        audience: audience.into(),
        subject_token_type: token_type::JWT.into(),
        takes,
        client: None,
    };
    let key = AwsKey { secret: "secret".into(), session_token: Some("token".into()) };
    let google = world.google();
    google.local = Local::Server(Metadata::new(SERVICE_ACCOUNT));
    google.providers = vec![
        provider(POOL, Takes::Token(SUBJECT.into())),
        provider(WORKFORCE, Takes::Token(SUBJECT.into())),
        Provider {
            subject_token_type: "urn:ietf:params:aws:token-type:aws4_request".into(),
            ..provider("aws", Takes::Aws([("AKIDEXAMPLE".to_owned(), key.clone())].into()))
        },
        Provider {
            client: Some(("demo-client".into(), "s3cret".into())),
            ..provider("client", Takes::Token(SUBJECT.into()))
        },
    ];
    google.imds = Some(Imds::new("demo-role", "AKIDEXAMPLE", key));
    let pairs = [(POOL, TARGET), (google::ALICE, MIDDLE), (MIDDLE, TARGET)];
    google.impersonators = pairs.map(|(who, whom)| (who.to_owned(), whom.to_owned())).into();
    google.workforce_user = Some(("demo-client".into(), "s3cret".into(), "r/1+=".into()));
    world
}

fn files(folder: &Path) -> Vec<(&'static str, Value)> {
    let path = |name: &str| folder.join(name).display().to_string();
    let external = |audience: &str, source: Value| {
        json!({"type": "external_account", "audience": audience, "subject_token_type": token_type::JWT,
               "token_url": "https://sts.googleapis.com/v1/token", "credential_source": source})
    };
    let file = json!({"file": path("token.txt")});
    let url = json!({"url": "http://169.254.169.254/latest/platform?x=y", "headers": {"Metadata": "True"},
                     "format": {"type": "json", "subject_token_field_name": "value"}});
    let mut workforce = external(WORKFORCE, file.clone());
    workforce["workforce_pool_user_project"] = "123".into();
    let mut client = external("client", file.clone());
    (client["client_id"], client["client_secret"]) = ("demo-client".into(), "s3cret".into());
    let mut impersonating = external(POOL, file.clone());
    impersonating["service_account_impersonation_url"] =
        format!("https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{TARGET}:generateAccessToken")
            .into();
    impersonating["service_account_impersonation"] = json!({"token_lifetime_seconds": 2800});
    let mut imds = external(
        "aws",
        json!({"environment_id": "aws1",
               "region_url": "http://169.254.169.254/latest/meta-data/placement/availability-zone",
               "url": "http://169.254.169.254/latest/meta-data/iam/security-credentials",
               "regional_cred_verification_url": "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
               "imdsv2_session_token_url": "http://169.254.169.254/latest/api/token"}),
    );
    imds["subject_token_type"] = "urn:ietf:params:aws:token-type:aws4_request".into();
    let mut certificate = external(
        POOL,
        json!({"certificate": {"certificate_config_location": path("config.json"), "trust_chain_path": path("chain.pem")}}),
    );
    certificate["subject_token_type"] = "urn:ietf:params:oauth:token-type:mtls".into();
    certificate["token_url"] = "https://sts.mtls.googleapis.com/v1/token".into();
    let user = json!({"type": "external_account_authorized_user", "audience": WORKFORCE, "client_id": "demo-client",
                      "client_secret": "s3cret", "refresh_token": "r/1+=", "token_url": "https://sts.googleapis.com/v1/oauthtoken"});
    vec![
        ("file.json", external(POOL, file)),
        ("url.json", external(POOL, url)),
        ("workforce.json", workforce),
        ("client.json", client),
        ("impersonating.json", impersonating),
        (
            "executable.json",
            external(POOL, json!({"executable": {"command": path("print.sh"), "timeout_millis": 5000}})),
        ),
        ("variables.json", imds.clone()),
        ("imds.json", imds),
        ("certificate.json", certificate),
        ("user.json", user),
    ]
}

type Case = (&'static str, Box<dyn TokenSource>, Want);

/// The cases that are no files.
fn by_code() -> Result<Vec<Case>, grantflow::Error> {
    let user = || AuthorizedUser::from_json(google::authorized_user_json().to_string());
    let impersonated = || {
        let lifetime = std::time::Duration::from_secs(1800);
        Impersonated::new(user()?, TARGET)?.delegates([MIDDLE])?.lifetime(lifetime)
    };
    let gdch = GdchServiceAccount::from_json_with_any_server(google::gdch_json().to_string())?;
    let bounded = RegionalAccess::of_service_account(account()?, SERVICE_ACCOUNT)?;
    let rule = AccessBoundaryRule::new(
        "//storage.googleapis.com/projects/_/buckets/demo-bucket",
        ["inRole:roles/storage.objectViewer"],
    );
    let rule = rule.condition("resource.name.startsWith('x')").title("t").description("d");
    Ok(vec![
        ("impersonated", Box::new(impersonated()?), Want::access_token(SCOPE)),
        ("id token", Box::new(impersonated()?), Want::id_token("https://run.example")),
        ("subject", Box::new(impersonated()?), Want::access_token(SCOPE).subject("alice@example.com")),
        ("downscoped", Box::new(Downscoped::new(user()?, [rule])?), Want::default()),
        ("assertion", Box::new(account()?), Want::access_token(SCOPES)),
        ("assertion for a user", Box::new(account()?), Want::access_token(SCOPE).subject(google::ALICE)),
        ("ID token of a key", Box::new(account()?), Want::id_token("https://run.example")),
        ("user", Box::new(user()?), Want::default()),
        ("metadata server", Box::new(MetadataServer::new()), Want::access_token(SCOPES)),
        ("ID token of the metadata server", Box::new(MetadataServer::new()), Want::id_token("https://run.example")),
        ("GDCH", Box::new(gdch), Want::default().audience("https://storage.demo.example")),
        ("regional access boundary", Box::new(bounded), Want::access_token(SCOPES)),
    ])
}

/// Compares the requests one by one, as far as both got.
fn same(name: &str, world: &World, theirs: &Value) -> Done {
    let theirs = theirs.as_array().ok_or("no requests")?;
    let mut theirs: Vec<_> = theirs.iter().map(|request| decoded(name, request)).collect();
    let ours: Vec<_> = world.sent().iter().map(|sent| {
        let headers: BTreeMap<_, _> = sent.request.headers().iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect();
        let body = String::from_utf8_lossy(sent.request.body()).into_owned();
        decoded(name, &json!({"method": sent.request.method().as_str(), "url": sent.request.uri().to_string(), "headers": headers, "body": body}))
    }).collect();
    // google-auth asks AWS for a session once for the region and once for the credentials, and the metadata server for the
    // account's address before each token.
    let mut seen = Vec::new();
    theirs.retain(|request| {
        let again = request["method"] == "PUT" && seen.contains(request);
        seen.push(request.clone());
        !again && request["url"]["recursive"] != "true"
    });
    // Their user has a token already, and ours refreshes it first; so with what looks up a boundary.
    let before = |ours: &Value| match name {
        "user" | "user.json" => false,
        "regional access boundary" => ours["method"] != "GET",
        _ => ours["body"]["grant_type"] == "refresh_token",
    };
    let mut ours: Vec<_> = ours.into_iter().filter(|ours| !before(ours)).collect();
    if name == "GDCH" {
        // Nobody answers here, and it is sent again.
        ours.dedup();
    }
    check(!ours.is_empty(), "there are requests")?;
    for nth in 0..ours.len().max(theirs.len()) {
        let (ours, theirs) = (ours.get(nth).unwrap_or(&Value::Null), theirs.get(nth).unwrap_or(&Value::Null));
        if ours != theirs {
            return Err(format!("{name}: request {nth} is\n{ours:#}\nand google-auth's\n{theirs:#}").into());
        }
    }
    println!("  ok  {name}: {} requests as google-auth makes them", ours.len());
    Ok(())
}

/// A request without what may differ: see `docs/google.md`.
fn decoded(name: &str, request: &Value) -> Value {
    let text = |member: &str| request[member].as_str().unwrap_or_default();
    let headers = request["headers"].as_object().cloned().unwrap_or_default();
    // What says which library it is, and what HTTP clients set.
    let counted = [
        "authorization",
        "content-type",
        "metadata",
        "metadata-flavor",
        "x-aws-ec2-metadata-token",
        "x-aws-ec2-metadata-token-ttl-seconds",
    ];
    let mut kept = BTreeMap::new();
    for (key, value) in headers {
        let key = key.to_ascii_lowercase();
        if counted.contains(&key.as_str()) {
            kept.insert(key, value);
        }
    }
    let body = text("body");
    let body = match serde_json::from_str::<Value>(body) {
        Ok(mut json) => {
            if let Some(members) = json.as_object_mut() {
                // Absent, null or empty; an option that is false; the claims, which are a text of JSON.
                members.retain(|name, value| !value.is_null() && *value != json!([]) && name != "useEmailAzp");
                if let Some(claims) = members.get("payload").and_then(Value::as_str)
                    && name != "signBlob"
                {
                    let claims = undated(serde_json::from_str(claims).unwrap_or_default());
                    members.insert("payload".into(), claims);
                }
                if let Some(subject) = members.get("subject_token").and_then(Value::as_str) {
                    let subject = jwt(subject);
                    members.insert("subject_token".into(), subject);
                }
            }
            json
        }
        Err(_) => {
            let mut form: BTreeMap<String, Value> = form_urlencoded::parse(body.as_bytes())
                .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
                .collect();
            for (key, value) in &mut form {
                let text = value.as_str().unwrap_or_default().to_owned();
                *value = match key.as_str() {
                    // They encode it twice.
                    "options" => json_of(&text),
                    // They leave out of the signature what names the provider.
                    "subject_token" if ["imds.json", "variables.json"].contains(&name) => unsigned(&text),
                    "subject_token" if name == "certificate.json" => serde_json::from_str(&text).unwrap_or_default(),
                    // They ask for the scope of IAM alone to impersonate.
                    "scope" if name == "impersonating.json" => "that of an impersonation".into(),
                    "subject_token" if text.starts_with("ya29.") => "a token".into(),
                    // Theirs is of a pretend IAM.
                    "assertion" if name == "subject" => "an assertion".into(),
                    "assertion" => jwt(&text),
                    _ => text.into(),
                };
            }
            json!(form)
        }
    };
    if let Some(shown) = kept.get_mut("authorization") {
        match shown.as_str().and_then(|shown| shown.strip_prefix("Bearer ")) {
            Some(token) if token.starts_with("ya29.") => *shown = "Bearer of the step before".into(),
            Some(token) => *shown = jwt(token),
            None => {}
        }
    }
    let (address, query) = text("url").split_once('?').unwrap_or((text("url"), ""));
    let mut url: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    url.insert("?".into(), address.into());
    json!({"method": text("method"), "url": url, "headers": kept, "body": body})
}

/// What a JWT says, but for when.
fn jwt(text: &str) -> Value {
    let (header, claims) = jwt_parts(text);
    json!({"header": header, "claims": undated(claims)})
}

/// Claims of which only how long they are good for is kept: they are dated back by ten seconds here.
fn undated(mut claims: Value) -> Value {
    if let (Some(from), Some(to)) = (claims["iat"].as_i64(), claims["exp"].as_i64()) {
        claims["iat"] = Value::Null;
        claims["exp"] = (to - from).into();
    }
    claims
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| {
        let decoded: String =
            form_urlencoded::parse(format!("x={text}").as_bytes()).map(|(_, value)| value.into_owned()).collect();
        serde_json::from_str(&decoded).unwrap_or_default()
    })
}

/// A subject token of AWS without its signature.
fn unsigned(text: &str) -> Value {
    let mut request = json_of(text);
    let headers = request["headers"].as_array().cloned().unwrap_or_default();
    let headers: BTreeMap<String, Value> = headers
        .iter()
        .map(|header| (header["key"].as_str().unwrap_or_default().to_ascii_lowercase(), header["value"].clone()))
        .filter(|(key, _)| key != "authorization")
        .collect();
    request["headers"] = json!(headers);
    request
}

/// The signature is the one that AWS's own signer makes.
fn signature(name: &str, world: &World, theirs: &Value) -> Done {
    let sts = world.sent().last().map(|sent| sent.request.body().clone()).unwrap_or_default();
    let subject =
        form_urlencoded::parse(&sts).find(|(name, _)| name == "subject_token").map(|(_, value)| value.into_owned());
    let request = json_of(&subject.unwrap_or_default());
    let ours = request["headers"].as_array().and_then(|headers| headers.iter().find(|it| it["key"] == "Authorization"));
    let ours = ours.map(|header| header["value"].clone()).unwrap_or_default();
    check(ours == *theirs, &format!("AWS's own signer says {theirs}, and not {ours}"))?;
    println!("  ok  {name}: signed as botocore signs it");
    Ok(())
}
