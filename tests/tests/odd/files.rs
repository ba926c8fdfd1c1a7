//! Files and variables as people set them: quotes, blanks, UTF-16, and content where a path belongs.

use std::path::PathBuf;

use grantflow::google::{AuthorizedUser, ClientSecrets, DefaultCredentials, GoogleCredential, ServiceAccount};
use grantflow::machine::{Os, Platform};
use grantflow::{Cx, Effect, Error, ErrorKind, Event, Machine, Now, Reply, Step};
use grantflow_tests::google::{authorized_user_json, service_account_json};
use serde_json::{Value, json};

const MARKER: &str = "CANARYcanary0123456789";

/// Runs a machine over a system that has these variables and no files; all that can be seen of the run.
fn seen<M: Machine>(mut machine: M, variables: &[(&str, &str)], debug: fn(&M) -> String) -> (Error, String)
where
    M::Output: std::fmt::Debug,
{
    let (mut reply, mut seen) = (Reply::Start, debug(&machine));
    for _ in 0..100 {
        seen += &format!("{:?}", Event::Reply(&reply));
        reply = match machine.resume(&mut Cx::new(Now::default(), [1; 32]), reply) {
            Step::Done(Err(error)) => {
                let mut source = std::error::Error::source(&error);
                while let Some(reason) = source {
                    seen += &format!("{reason} {reason:?}");
                    source = reason.source();
                }
                seen += &format!("{error} {error:?} {}", debug(&machine));
                return (error, seen);
            }
            Step::Done(Ok(found)) => panic!("{found:?}"),
            Step::Do(effect) => {
                seen += &format!("{:?}", Event::Effect(&effect));
                match effect {
                    Effect::Env(name) => {
                        let value = variables.iter().find(|(other, _)| *other == name);
                        Reply::Env(value.map(|(_, value)| value.into()))
                    }
                    Effect::ReadFile { .. } => Reply::Missing,
                    _ => Reply::Refused,
                }
            }
        };
    }
    panic!("it does not end");
}

fn search(variables: &[(&str, &str)]) -> (Error, String) {
    let platform = Platform { os: Os::Unix, home: Some("/home/alice".into()) };
    seen(DefaultCredentials::new(platform), variables, |machine| format!("{machine:?}"))
}

/// What people put where the path of a key file belongs.
fn contents() -> Vec<String> {
    let json =
        json!({"type": "service_account", "private_key": format!("-----BEGIN PRIVATE KEY-----\n{MARKER}\n-----END")});
    vec![
        serde_json::to_string_pretty(&json).unwrap(),
        json.to_string(),
        format!("\"{}\"", json.to_string().replace('"', "\\\"")),
        format!("'{json}'"),
        format!("  {json}"),
        format!("-----BEGIN PRIVATE KEY-----\\n{MARKER}\\n-----END PRIVATE KEY-----\\n"),
        // In base64, as variables of build servers often are.
        format!("eyJ0eXBlIjoic2VydmljZV9hY2NvdW50Iiwi{MARKER}"),
        format!("ewogICJ0eXBlIjogInNlcnZpY2VfYWNjb3VudCIs{MARKER}=="),
        // Tokens and keys.
        format!("GOCSPX-{MARKER}"),
        format!("ya29.{MARKER}"),
        format!("1//{MARKER}"),
        format!("AIza{MARKER}-x_y"),
        format!("eyJhbGciOiJSUzI1NiJ9.eyJ{MARKER}.c2ln"),
        format!("gho_{MARKER}"),
        format!("https://user:{MARKER}@store.example/key.json"),
        format!("/etc/{}/{MARKER}", "x".repeat(5000)),
    ]
}

#[test]
fn content_in_the_place_of_a_path_is_never_shown() {
    for content in contents() {
        let variable = "GOOGLE_APPLICATION_CREDENTIALS";
        let (error, text) = search(&[(variable, &content)]);
        assert!(!text.contains("CANARY"), "{content}: {text}");
        assert!(error.to_string().contains(variable) && error.to_string().contains("path"), "{error}");
        let (_, text) = search(&[("CLOUDSDK_CONFIG", &content)]);
        assert!(!text.contains("CANARY"), "{content}: {text}");
        for text in [
            seen(GoogleCredential::read(&content), &[], |machine| format!("{machine:?}")).1,
            seen(ServiceAccount::read(&content), &[], |machine| format!("{machine:?}")).1,
            seen(AuthorizedUser::read(&content), &[], |machine| format!("{machine:?}")).1,
            seen(ClientSecrets::read(&content), &[], |machine| format!("{machine:?}")).1,
        ] {
            assert!(!text.contains("CANARY") && text.contains("path"), "{content}: {text}");
        }
    }
}

#[test]
fn a_path_that_is_one_is_shown_so_that_it_can_be_found() {
    for path in [
        "/etc/keys/demo-project-1a2b3c4d5e6f.json",
        "keys/client_secret_1234567890-abcdefghijklmnopqrstuvwxyz012345.apps.googleusercontent.com.json",
        r"C:\Users\Ann Example\AppData\key.json",
        "~/key.json",
        "/home/josé/schlüssel.json",
    ] {
        let error = search(&[("GOOGLE_APPLICATION_CREDENTIALS", path)]).0.to_string();
        assert!(error.contains(path) && error.contains("there is no such file"), "{error}");
    }
    let (_, text) = search(&[("GOOGLE_APPLICATION_CREDENTIALS", "/etc/\u{1b}]0;x\u{7}")]);
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn slips_in_a_path_are_named() {
    for (path, says) in [
        ("\"/etc/key.json\"", "quotes"),
        ("'/etc/key.json'", "quotes"),
        ("“/etc/key.json”", "quotes"),
        ("/etc/key.json ", "blank"),
        (" /etc/key.json", "blank"),
        ("/etc/key.json\r", "blank"),
        ("~/key.json", "shell"),
        ("$HOME/key.json", "shell"),
        ("%USERPROFILE%\\key.json", "shell"),
        ("file:///etc/key.json", "file:"),
    ] {
        let error = search(&[("GOOGLE_APPLICATION_CREDENTIALS", path)]).0;
        assert_eq!(error.kind(), ErrorKind::File);
        assert!(error.to_string().contains(says), "{error}");
        let error = seen(GoogleCredential::read(path), &[], |_| String::new()).0;
        assert!(error.to_string().contains(says), "{error}");
    }
    let error = search(&[("GOOGLE_APPLICATION_CREDENTIALS", "/etc/key.json")]).0.to_string();
    assert!(!error.contains("quotes") && !error.contains("blank") && !error.contains("shell"), "{error}");
}

fn client_file() -> Value {
    json!({"installed": {
        "client_id": "1234567890-demo.apps.googleusercontent.com", "client_secret": "GOCSPX-demo_secret",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth", "token_uri": "https://oauth2.googleapis.com/token",
        "redirect_uris": ["http://localhost"]}})
}

#[test]
fn files_of_every_kind_are_read_in_utf_16_and_with_a_byte_order_mark() {
    let utf16 = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    for text in [client_file().to_string(), authorized_user_json().to_string(), service_account_json().to_string()] {
        let marked = format!("\u{feff}{text}");
        for content in [
            marked.clone().into_bytes(),
            utf16(&marked, u16::to_le_bytes),
            utf16(&marked, u16::to_be_bytes),
            utf16(&text, u16::to_le_bytes),
            utf16(&text, u16::to_be_bytes),
        ] {
            let read = if text.contains("installed") {
                ClientSecrets::from_json(&content).map(drop)
            } else {
                GoogleCredential::from_json_of_any_type(&content).map(drop)
            };
            read.unwrap_or_else(|error| panic!("{error}: {:?}", content.get(..4)));
        }
    }
    // What is UTF-16 only by its mark is named.
    let error = ClientSecrets::from_json(b"\xff\xfe{\x00\"").unwrap_err().to_string();
    assert!(error.contains("UTF-16"), "{error}");
}

#[test]
fn slips_in_the_content_of_a_file_are_named_and_nothing_of_it_is_shown() {
    use base64::Engine as _;
    let mut file: Value = serde_json::from_str(&service_account_json().to_string()).unwrap();
    file["private_key"] = json!(format!("-----BEGIN PRIVATE KEY-----\n{MARKER}\n-----END PRIVATE KEY-----\n"));
    let text = file.to_string();
    for (content, says) in [
        (json!(text).to_string(), "stands in quotes"),
        (format!("'{text}'"), "stands in quotes"),
        (text.replace('"', "\\\""), "its own quotes were escaped"),
        (text.replace('"', "'"), "double quotes"),
        (base64::engine::general_purpose::STANDARD.encode(&text), "base64"),
        (base64::engine::general_purpose::STANDARD.encode(serde_json::to_string_pretty(&file).unwrap()), "base64"),
        (file["private_key"].as_str().unwrap().to_owned(), "a key alone"),
        ("<html><body>Sign in</body></html>".into(), "a web page"),
        ("/etc/keys/key.json\n".into(), "a path: read the file"),
        (text[..text.len() / 2].to_owned(), "line 1"),
    ] {
        for error in [
            ServiceAccount::from_json(&content).unwrap_err(),
            GoogleCredential::from_json_of_any_type(&content).unwrap_err(),
            ClientSecrets::from_json(&content).unwrap_err(),
        ] {
            let shown = format!("{error} {error:?}");
            assert!(error.to_string().contains(says), "{content}: {error}");
            assert!(!shown.contains("CANARY") && error.kind() == ErrorKind::Config, "{shown}");
        }
    }
}

#[test]
fn blanks_around_a_text_in_a_file_are_no_part_of_it() {
    let mut file = client_file();
    file["installed"]["client_id"] = json!("1234567890-demo.apps.googleusercontent.com ");
    file["installed"]["token_uri"] = json!(" https://oauth2.googleapis.com/token\n");
    let secrets = ClientSecrets::from_json(file.to_string()).unwrap();
    assert_eq!(secrets.client().id(), "1234567890-demo.apps.googleusercontent.com");
    let mut file: Value = serde_json::from_str(&authorized_user_json().to_string()).unwrap();
    let token = file["refresh_token"].as_str().unwrap().to_owned();
    file["refresh_token"] = json!(format!("\t{token}\r\n"));
    file["account"] = json!(" ");
    let user = AuthorizedUser::from_json(file.to_string()).unwrap();
    use grantflow::source::TokenSource;
    assert!(user.first_state().refresh_token().unwrap().matches(&token));
    assert_eq!(user.account(), None);
    let mut file: Value = serde_json::from_str(&service_account_json().to_string()).unwrap();
    let email = file["client_email"].as_str().unwrap().to_owned();
    file["client_email"] = json!(format!("{email}\n"));
    assert_eq!(ServiceAccount::from_json(file.to_string()).unwrap().email(), email);
}

#[test]
fn only_googles_own_endpoints_are_googles_and_not_all_that_its_hosts_serve() {
    let secrets = |name: &str, address: &str| {
        let mut file = client_file();
        file["installed"][name] = json!(address);
        ClientSecrets::from_json(file.to_string())
    };
    for address in [
        "https://www.googleapis.com/upload/storage/v1/b/evil/o?uploadType=media&name=loot",
        "https://oauth2.googleapis.com/token?x=y",
        "https://oauth2.googleapis.com/token/x",
        "https://oauth2.googleapis.com:444/token",
        "http://oauth2.googleapis.com/token",
        "https://user@oauth2.googleapis.com/token",
        "https://accounts.google.com/",
        "https://www.googleapis.com/oauth2/v3/certs",
    ] {
        let error = secrets("token_uri", address).unwrap_err();
        assert!(error.to_string().contains("token_uri"), "{error}");
        let mut file: Value = serde_json::from_str(&service_account_json().to_string()).unwrap();
        file["token_uri"] = json!(address);
        assert!(ServiceAccount::from_json(file.to_string()).is_err(), "{address}");
    }
    assert!(secrets("auth_uri", "https://accounts.google.com/ServiceLogin?continue=x").is_err());
    assert!(secrets("auth_uri", "https://oauth2.googleapis.com/token").is_err(), "each in its place");
    for address in [
        "https://oauth2.googleapis.com/token",
        "https://www.googleapis.com/oauth2/v4/token",
        "https://www.googleapis.com/oauth2/v3/token",
        "https://accounts.google.com/o/oauth2/token",
        "https://OAUTH2.googleapis.com:443/token",
    ] {
        secrets("token_uri", address).unwrap();
    }
    for address in ["https://accounts.google.com/o/oauth2/auth", "https://accounts.google.com/o/oauth2/v2/auth"] {
        secrets("auth_uri", address).unwrap();
    }
    let path = PathBuf::from("/nowhere");
    let _ = ClientSecrets::read(path).with_any_server();
}
