//! What is Google's own beyond keys and users: federation, impersonation, downscoping.

use grantflow::google::{
    AccessBoundaryRule, AccessTokenFile, AwsCredentials, AwsIdentity, Downscoped, ExternalAccount, ExternalUser,
    GdchServiceAccount, GoogleCredential, IamSigner, Impersonated, MetadataServer, RegionalAccess, ServiceAccount,
    SubjectToken, sign_blob,
};
use grantflow::source::{TokenSource, Want};
use grantflow::{Error, Timestamp, Token, token_type};
use grantflow_tests::google::world;
use grantflow_tests::{Prints, World};
use serde_json::{Value, json};

use super::core::path;
use super::{Entry, Seen};

const EMAIL: &str = "robot@demo-project.iam.gserviceaccount.com";
const BUCKET: &str = "//storage.googleapis.com/projects/_/buckets/b";

pub(crate) fn entries() -> Vec<Entry> {
    [files(), accounts(), chains()].into_iter().flatten().collect()
}

fn at_google(seen: &mut Seen, source: &dyn TokenSource) {
    for want in [Want::access_token("x"), Want::id_token("x"), Want::default()] {
        seen.run(&mut everything(), source.mint(&want, &source.first_state()));
    }
}

/// A world in which every source of subject tokens has something to give.
fn everything() -> World {
    let mut world = world();
    world.env.insert("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1".into());
    world.files.insert("/token".into(), b"t".to_vec());
    world
}

/// Each member of each kind of file, in turn.
fn file<T: std::fmt::Debug + TokenSource>(seen: &mut Seen, text: &str, read: impl Fn(String) -> Result<T, Error>) {
    let sources = [
        json!({"file": text}),
        json!({"url": text}),
        json!({"url": format!("https://platform.example/{text}"), "headers": {"x": text}}),
        json!({"file": "/token", "format": {"type": "json", "subject_token_field_name": text}}),
        json!({"file": "/token", "format": {"type": text}}),
        json!({"executable": {"command": text}}),
        json!({"executable": {"command": "x", "output_file": text}}),
        json!({"certificate": {"certificate_config_location": text}}),
        json!({"environment_id": text}),
        json!({"environment_id": "aws1", "region_url": text}),
        json!({"environment_id": "aws1", "regional_cred_verification_url": text}),
    ];
    let external = |source: &Value| json!({"type": "external_account", "audience": "a", "subject_token_type": token_type::JWT, "credential_source": source});
    let user = json!({"type": "external_account_authorized_user", "client_id": "x", "client_secret": "y", "refresh_token": "z"});
    let impersonated = json!({"type": "impersonated_service_account", "source_credentials": user,
        "service_account_impersonation_url": format!("https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken")});
    let mut files: Vec<Value> = sources.iter().map(external).collect();
    for whole in [external(&json!({"file": "/token"})), user, impersonated, grantflow_tests::google::gdch_json()] {
        for name in [
            "type",
            "audience",
            "subject_token_type",
            "token_url",
            "token_info_url",
            "revoke_url",
            "client_id",
            "client_secret",
            "refresh_token",
            "token",
            "expiry",
            "quota_project_id",
            "universe_domain",
            "workforce_pool_user_project",
            "service_account_impersonation_url",
            "service_account_impersonation",
            "delegates",
            "source_credentials",
            "credential_source",
            "format_version",
            "project",
            "private_key",
            "private_key_id",
            "name",
            "ca_cert_path",
            "token_uri",
        ] {
            for value in [json!(text), json!([text]), json!({"type": text})] {
                let mut changed = whole.clone();
                changed[name] = value;
                files.push(changed);
            }
        }
    }
    seen.result("a file", read(text.to_owned()).map(drop));
    for file in files {
        if let Some(source) = seen.result("a file", read(file.to_string())) {
            at_google(seen, &source);
        }
    }
}

fn files() -> Vec<Entry> {
    vec![
        Entry {
            names: &[
                "core ExternalAccount::from_json",
                "core ExternalAccount::from_json_with_any_source",
                "core ExternalAccount::from_json_with_any_server",
                "core ExternalUser::from_json",
                "core ExternalUser::from_json_with_any_server",
                "core Impersonated::from_json",
                "core Impersonated::from_json_with_any_source",
                "core Impersonated::from_json_with_any_server",
                "core GdchServiceAccount::from_json_with_any_server",
            ],
            try_it: |text, seen| {
                file(seen, text, ExternalAccount::from_json);
                file(seen, text, ExternalAccount::from_json_with_any_source);
                file(seen, text, ExternalAccount::from_json_with_any_server);
                file(seen, text, ExternalUser::from_json);
                file(seen, text, ExternalUser::from_json_with_any_server);
                file(seen, text, Impersonated::from_json);
                file(seen, text, Impersonated::from_json_with_any_source);
                file(seen, text, Impersonated::from_json_with_any_server);
                file(seen, text, GdchServiceAccount::from_json_with_any_server);
            },
        },
        Entry {
            names: &[
                "core ExternalAccount::read",
                "core ExternalUser::read",
                "core ExternalUser::record_key",
                "core GdchServiceAccount::read",
                "core GdchServiceAccount::quota_project",
                "core Impersonated::read",
            ],
            try_it: |text, seen| {
                path(seen, text, ExternalAccount::read);
                path(seen, text, ExternalUser::read);
                let user = json!({"type": "external_account_authorized_user", "client_id": "x", "client_secret": "y",
                                  "refresh_token": "z"});
                let user = ExternalUser::from_json(user.to_string()).unwrap();
                seen.debug("a key", &user.record_key(text).unwrap());
                path(seen, text, Impersonated::read);
                path(seen, text, GdchServiceAccount::read);
                let gdch =
                    GdchServiceAccount::from_json_with_any_server(grantflow_tests::google::gdch_json().to_string());
                let gdch = gdch.unwrap().quota_project(text);
                seen.debug("an account", &gdch);
                let want = Want::default().audience(text);
                seen.run(&mut everything(), gdch.mint(&want, &gdch.first_state()));
            },
        },
    ]
}

fn accounts() -> Vec<Entry> {
    vec![
        Entry {
            names: &[
                "core ExternalAccount::new",
                "core ExternalAccount::impersonate",
                "core ExternalAccount::quota_project",
                "core ExternalAccount::workforce_pool_user_project",
                "core ExternalUser::quota_project",
                "core SubjectToken::new",
            ],
            try_it: |text, seen| {
                let token = text.to_owned();
                let tokens = move || Ok(SubjectToken::new(token.clone()));
                seen.result("a token", tokens());
                let workforce = format!("//iam.googleapis.com/locations/global/workforcePools/{text}/providers/x");
                for (audience, kind) in [(text, "x"), ("x", text), ("x", "x"), (&workforce, "x")] {
                    let account = ExternalAccount::new(audience, kind, tokens.clone());
                    let Some(account) = seen.result("an account", account) else { continue };
                    let account = account.quota_project(text);
                    at_google(seen, &account);
                    for changed in [account.clone().impersonate(text), account.workforce_pool_user_project(text)] {
                        if let Some(account) = seen.result("an account", changed) {
                            at_google(seen, &account);
                        }
                    }
                }
                let user = json!({"type": "external_account_authorized_user", "client_id": "x", "client_secret": "y", "refresh_token": "z"});
                let user = ExternalUser::from_json(user.to_string()).unwrap().quota_project(text);
                seen.debug("a user", &user);
                at_google(seen, &user);
            },
        },
        Entry {
            names: &[
                "core AwsCredentials::new",
                "core AwsCredentials::with_session_token",
                "core AwsIdentity::supplied",
            ],
            try_it: |text, seen| {
                let credentials = AwsCredentials::new(text, text).with_session_token(text);
                seen.debug("credentials", &credentials);
                for region in [text, "us-east-2"] {
                    let credentials = credentials.clone();
                    let aws = AwsIdentity::supplied(region, move || Ok(credentials.clone()));
                    seen.debug("an account of AWS", &aws);
                    at_google(seen, &ExternalAccount::new("x", ExternalAccount::AWS, aws).unwrap());
                }
                for name in ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HOME"] {
                    let mut world = everything();
                    world.env.insert(name, text.into());
                    world.programs.insert("x".into(), Prints::failing(1, text));
                    let source = ExternalAccount::new("x", ExternalAccount::AWS, AwsIdentity::new()).unwrap();
                    seen.run(&mut world, source.mint(&Want::access_token("x"), &source.first_state()));
                }
            },
        },
    ]
}

fn chains() -> Vec<Entry> {
    vec![
        Entry {
            names: &[
                "core Impersonated::new",
                "core Impersonated::delegates",
                "core Impersonated::quota_project",
                "core GoogleCredential::quota_project",
                "core GoogleCredential::quota_project_from_env",
                "core Impersonated::with_universe_domain",
                "core IamSigner::new",
                "core IamSigner::delegates",
                "core IamSigner::with_universe_domain",
                "core IamSigner::sign_with",
                "core ServiceAccount::sign_blob",
                "core ServiceAccount::with_universe_domain",
                "core sign_blob",
            ],
            try_it: |text, seen| {
                for email in [text, EMAIL] {
                    if let Some(source) = seen.result("an account", Impersonated::new(MetadataServer::new(), email)) {
                        let source = source.quota_project(text);
                        at_google(seen, &source);
                        seen.result("delegates", source.clone().delegates([text]));
                        seen.result("a universe", source.clone().with_universe_domain(text));
                        let any = GoogleCredential::Impersonated(source).quota_project(text);
                        at_google(seen, &any);
                        seen.result("a quota project", any.quota_project_from_env(|_| Some(text.into())));
                    }
                    if let Some(signer) = seen.result("a signer", IamSigner::new(MetadataServer::new(), email)) {
                        at_google(seen, &ServiceAccount::with_signer(email, signer.clone()));
                        seen.result("a signer's delegates", signer.clone().delegates([text]));
                        let token = Token::bearer(text, Timestamp::default(), None);
                        if let Some(token) = seen.result("a token", token)
                            && let Some(machine) = seen.result("a signature", signer.sign_with(&token, text.as_bytes()))
                        {
                            seen.run(&mut everything(), machine);
                        }
                        let keyless = ServiceAccount::with_signer(email, signer.clone());
                        seen.run(&mut everything(), keyless.sign_blob(text.as_bytes()));
                        seen.result("a signer's universe", signer.with_universe_domain(text));
                        seen.result("an account's universe", keyless.with_universe_domain(text));
                    }
                    let token = Token::bearer("t", Timestamp::default(), None).unwrap();
                    if let Some(machine) = seen.result("a signature", sign_blob(email, &token, text.as_bytes())) {
                        seen.run(&mut everything(), machine);
                    }
                }
            },
        },
        Entry {
            names: &[
                "core RegionalAccess::of_service_account",
                "core RegionalAccess::of_pool",
                "core AccessTokenFile::new",
            ],
            try_it: |text, seen| {
                let pool = format!("//iam.googleapis.com/locations/global/workforcePools/{text}/providers/x");
                for source in [
                    RegionalAccess::of_service_account(MetadataServer::new(), text),
                    RegionalAccess::of_pool(MetadataServer::new(), text),
                    RegionalAccess::of_pool(MetadataServer::new(), &pool),
                ] {
                    if let Some(source) = seen.result("a boundary", source) {
                        at_google(seen, &source);
                    }
                }
                let file = AccessTokenFile::new(text);
                seen.debug("a file", &file);
                at_google(seen, &file);
                let mut world = everything();
                world.files.insert("/token".into(), text.into());
                for path in ["/token", text] {
                    world.env.insert("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", path.into());
                    let file = AccessTokenFile::of_gcloud();
                    seen.run(&mut world, file.mint(&Want::default(), &file.first_state()));
                }
            },
        },
        Entry {
            names: &[
                "core AccessBoundaryRule::new",
                "core AccessBoundaryRule::condition",
                "core AccessBoundaryRule::title",
                "core AccessBoundaryRule::description",
                "core Downscoped::with_universe_domain",
            ],
            try_it: |text, seen| {
                for rule in [
                    AccessBoundaryRule::new(text, ["inRole:x"]),
                    AccessBoundaryRule::new(BUCKET, [text]),
                    AccessBoundaryRule::new(BUCKET, ["inRole:x"]).condition(text).title(text).description(text),
                    AccessBoundaryRule::new(BUCKET, ["inRole:x"]).title(text),
                ] {
                    if let Some(source) = seen.result("a boundary", Downscoped::new(MetadataServer::new(), [rule])) {
                        at_google(seen, &source);
                        seen.result("a universe", source.with_universe_domain(text));
                    }
                }
            },
        },
    ]
}
