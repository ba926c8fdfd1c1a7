//! Sources of tokens: of clients, and by Google's files.

use std::ffi::OsString;

use grantflow::crypto::{Algorithm, SigningKey};
use grantflow::google::{
    AuthorizedUser, ClientSecrets, DefaultCredentials, GoogleCredential, MetadataServer, ServiceAccount, TokenInfo,
};
use grantflow::machine::{Os, Platform};
use grantflow::source::{Change, Credential, ExchangedToken, GrantState, TokenSource as _, Want};
use grantflow::{
    AuthorizationRequest, Client, ClientAuthentication, DeviceAuthorization, Error, InstalledApp, Secret, TokenRequest,
};
use grantflow_tests::demo::{self, REDIRECT, client};
use grantflow_tests::google::private_key;
use serde_json::json;

use super::{asked, device, installed, minted, path, server, started, wanted, world};
use crate::{Entry, Seen};

fn at_google(seen: &mut Seen, source: &dyn grantflow::source::TokenSource) {
    let mut world = grantflow_tests::google::world();
    seen.run(&mut world, source.mint(&Want::access_token("x"), &source.first_state()));
}

fn file<T: std::fmt::Debug>(seen: &mut Seen, text: &str, read: impl Fn(String) -> Result<T, Error>) {
    seen.result("a file", read(text.to_owned()));
    for name in [
        "client_id",
        "client_secret",
        "refresh_token",
        "client_email",
        "private_key_id",
        "project_id",
        "account",
        "quota_project_id",
        "token_uri",
        "auth_uri",
        "universe_domain",
        "type",
        "private_key",
        "redirect_uris",
        "scopes",
    ] {
        for mut whole in
            [grantflow_tests::google::service_account_json(), grantflow_tests::google::authorized_user_json()]
        {
            whole[name] = text.into();
            seen.result("a file", read(whole.to_string()));
            whole[name] = json!([text]);
            seen.result("a file", read(whole.to_string()));
        }
        let mut inner = json!({"client_id": "x", "client_secret": "y", "redirect_uris": ["http://localhost"],
            "auth_uri": "https://accounts.google.com/o/oauth2/auth", "token_uri": "https://oauth2.googleapis.com/token"});
        inner[name] = text.into();
        seen.result("a file", read(json!({"installed": inner}).to_string()));
        inner[name] = json!({text: text});
        seen.result("a file", read(json!({"web": inner}).to_string()));
    }
}

pub(super) fn entries() -> Vec<Entry> {
    [sources(), google()].into_iter().flatten().collect()
}

fn sources() -> Vec<Entry> {
    vec![
        Entry {
            names: &[
                "core TokenRequest::token_exchange",
                "core TokenRequest::actor_token",
                "core TokenRequest::requested_token_type",
                "core ExchangedToken::actor_token",
                "core ExchangedToken::requested_token_type",
                "core ExchangedToken::subject_token_type",
            ],
            try_it: |text, seen| {
                let (server, client) = (server(), demo::batch());
                asked(seen, TokenRequest::token_exchange(&server, &client, &text.into(), text));
                let request = || TokenRequest::token_exchange(&server, &client, &"x".into(), "y").unwrap();
                asked(seen, Ok(request().actor_token(&text.into(), text)));
                asked(seen, Ok(request().requested_token_type(text)));
                let base = Credential::client_credentials(server.clone(), &client);
                let source = ExchangedToken::new(base, server.clone(), &client);
                let source = source.subject_token_type(text).actor_token(text, text).requested_token_type(text);
                seen.debug("a source", &source);
                let mint = source.mint(&Want::default(), &source.first_state());
                seen.run(&mut world(), mint);
            },
        },
        Entry {
            names: &[
                "core Client::new",
                "core Client::trusted_audience",
                "core ClientAuthentication::client_secret_basic",
                "core ClientAuthentication::client_secret_basic_unencoded",
                "core ClientAuthentication::client_secret_post",
                "core ClientAuthentication::private_key_jwt_with_legacy_audience",
                "core ClientAuthentication::client_secret_jwt",
                "core ClientAuthentication::client_secret_jwt_with_legacy_audience",
                "core ClientAuthentication::apple",
            ],
            try_it: |text, seen| {
                let signer = || SigningKey::from_pem(Algorithm::RS256, &private_key()).unwrap();
                for authentication in [
                    ClientAuthentication::client_secret_basic(text),
                    ClientAuthentication::client_secret_basic_unencoded(text),
                    ClientAuthentication::client_secret_post(text),
                    ClientAuthentication::private_key_jwt_with_legacy_audience(signer(), text),
                    ClientAuthentication::client_secret_jwt(text),
                    ClientAuthentication::client_secret_jwt(text.repeat(32)),
                    ClientAuthentication::client_secret_jwt_with_legacy_audience(text.repeat(32), text),
                    ClientAuthentication::apple(text, signer()),
                ] {
                    for client in [Client::new(text), Client::new("app").trusted_audience(text), Client::new("app")] {
                        let client = client.authentication(authentication.clone());
                        seen.debug("a client", &client);
                        asked(seen, TokenRequest::client_credentials(&server(), &client));
                        started(seen, AuthorizationRequest::new(&server(), &client, REDIRECT));
                        device(seen, DeviceAuthorization::new(&server(), &client).unwrap());
                        installed(seen, InstalledApp::new(&server(), &client));
                    }
                }
                asked(seen, TokenRequest::password(&server(), &Client::new(text), "a", "b"));
            },
        },
        Entry {
            names: &["core Credential::password", "core Credential::refresh_token"],
            try_it: |text, seen| {
                minted(seen, Credential::password(server(), &client(), text, text), &Want::default());
                minted(seen, Credential::refresh_token(server(), &client(), text), &Want::default());
            },
        },
        Entry {
            names: &["core Change::successor", "core GrantState::new"],
            try_it: |text, seen| {
                seen.debug("a change", &Change::successor(&text.into(), text));
                seen.debug("a state", &GrantState::new(text));
            },
        },
        Entry {
            names: &[
                "core Want::access_token",
                "core Want::id_token",
                "core Want::account",
                "core Want::subject",
                "core Want::audience",
                "core Want::resource",
            ],
            try_it: |text, seen| {
                wanted(seen, Want::access_token(text));
                wanted(seen, Want::access_token("x").self_signed().audience(text));
                wanted(seen, Want::id_token(text));
                wanted(seen, Want::access_token("x").account(text));
                wanted(seen, Want::access_token("x").subject(text));
                wanted(seen, Want::access_token("x").audience(text));
                wanted(seen, Want::access_token("x").resource(text));
            },
        },
    ]
}

fn google() -> Vec<Entry> {
    vec![
        Entry {
            names: &[
                "core AuthorizedUser::from_json",
                "core AuthorizedUser::from_json_with_any_server",
                "core ClientSecrets::from_json",
                "core ClientSecrets::from_json_with_any_server",
                "core GoogleCredential::from_json_of_any_type",
                "core ServiceAccount::from_json",
                "core ServiceAccount::from_json_with_any_server",
            ],
            try_it: |text, seen| {
                file(seen, text, AuthorizedUser::from_json);
                file(seen, text, AuthorizedUser::from_json_with_any_server);
                file(seen, text, ClientSecrets::from_json);
                file(seen, text, ClientSecrets::from_json_with_any_server);
                file(seen, text, GoogleCredential::from_json_of_any_type);
                file(seen, text, ServiceAccount::from_json);
                file(seen, text, ServiceAccount::from_json_with_any_server);
            },
        },
        Entry {
            names: &[
                "core AuthorizedUser::read",
                "core ClientSecrets::read",
                "core GoogleCredential::read",
                "core ServiceAccount::read",
            ],
            try_it: |text, seen| {
                path(seen, text, AuthorizedUser::read);
                path(seen, text, ClientSecrets::read);
                path(seen, text, GoogleCredential::read);
                path(seen, text, ServiceAccount::read);
                for name in [
                    "GOOGLE_APPLICATION_CREDENTIALS",
                    "CLOUDSDK_CONFIG",
                    "GOOGLE_CLOUD_PROJECT",
                    "GOOGLE_CLOUD_QUOTA_PROJECT",
                    "GCE_METADATA_HOST",
                    "METADATA_SERVER_DETECTION",
                    "NO_GCE_CHECK",
                    "APPDATA",
                ] {
                    for os in [Os::Unix, Os::Windows] {
                        let mut world = grantflow_tests::google::world();
                        world.env.insert(name, OsString::from(text));
                        let home = Some(format!("/home/{text}").into());
                        if let Some(found) = seen.run(&mut world, DefaultCredentials::new(Platform { os, home })) {
                            seen.debug("what was found", &found.credential);
                            seen.debug("where", &found.looked);
                            seen.run(
                                &mut world,
                                found.credential.mint(&Want::access_token("x"), &found.credential.first_state()),
                            );
                        }
                        world.google = None;
                        seen.run(&mut world, DefaultCredentials::new(Platform { os, home: None }));
                    }
                }
            },
        },
        Entry {
            names: &[
                "core AuthorizedUser::quota_project",
                "core ServiceAccount::quota_project",
                "core MetadataServer::quota_project",
                "core MetadataServer::host",
            ],
            try_it: |text, seen| {
                let user =
                    AuthorizedUser::from_json(grantflow_tests::google::authorized_user_json().to_string()).unwrap();
                let account =
                    ServiceAccount::from_json(grantflow_tests::google::service_account_json().to_string()).unwrap();
                let (user, account) = (user.quota_project(text), account.quota_project(text));
                let server = MetadataServer::new().quota_project(text);
                for (what, shown) in
                    [("a user", &user as &dyn std::fmt::Debug), ("an account", &account), ("a server", &server)]
                {
                    seen.debug(what, shown);
                }
                at_google(seen, &user);
                at_google(seen, &account);
                at_google(seen, &server);
                for host in [text.to_owned(), format!("{text}:80"), format!("x@{text}")] {
                    if let Some(server) = seen.result("a server", MetadataServer::new().host(&host)) {
                        at_google(seen, &server);
                    }
                }
            },
        },
        Entry {
            names: &["core api_key", "core by_name", "core ServiceAccount::with_signer"],
            try_it: |text, seen| {
                seen.result("a key", grantflow::google::api_key(text));
                let _ = grantflow::google::scopes::by_name(text);
                let account =
                    ServiceAccount::with_signer(text, SigningKey::from_pem(Algorithm::RS256, &private_key()).unwrap());
                seen.debug("an account", &account);
                at_google(seen, &account);
            },
        },
        Entry {
            names: &["core TokenInfo::of_access_token", "core TokenInfo::of_id_token", "core TokenInfo::at"],
            try_it: |text, seen| {
                let token = Secret::from(text);
                let mut world = grantflow_tests::google::world();
                for asking in [
                    TokenInfo::of_access_token(&token),
                    TokenInfo::of_id_token(&token),
                    TokenInfo::at(text, "access_token", &token),
                ] {
                    if let Some(asking) = seen.result("asking", asking) {
                        seen.run(&mut world, asking);
                    }
                }
            },
        },
    ]
}
