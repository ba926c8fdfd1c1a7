//! The search for default credentials: which places, in which order, on which system, and what it says.

use std::path::PathBuf;
use std::time::Duration;

use grantflow::google::{AuthorizedUser, DefaultCredentials, Found, GoogleCredential, ServiceAccount};
use grantflow::machine::{Os, Platform};
use grantflow::source::{TokenSource, Want};
use grantflow::{Advice, Error, ErrorKind, Machine, Reply, Step};
use grantflow_tests::google::{
    CLIENT_SECRET, Local, Metadata, Place, REFRESH_TOKEN, SERVICE_ACCOUNT, authorized_user_json, private_key,
    service_account_json, world,
};
use grantflow_tests::world::Did;
use grantflow_tests::{World, canary};
use serde_json::json;

use super::{NOW, whole};

const LINUX: &str = "/home/alice/.config/gcloud/application_default_credentials.json";
const FIRMWARE: &str = "/sys/class/dmi/id/product_name";
const KEY_FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";

fn platform(os: Os) -> Platform {
    let home = match os {
        Os::Windows => r"C:\Users\alice",
        Os::MacOs => "/Users/alice",
        _ => "/home/alice",
    };
    Platform { os, home: Some(home.into()) }
}

fn search(world: &mut World, os: Os) -> Result<Found, Error> {
    world.run(DefaultCredentials::new(platform(os)))
}

fn file(world: &mut World, path: &str, content: impl ToString) {
    world.files.insert(path.into(), content.to_string().into_bytes());
}

fn env(world: &mut World, name: &'static str, value: &str) {
    world.env.insert(name, value.into());
}

fn cloud(world: &mut World) {
    world.google().local = Local::Server(Metadata::new(SERVICE_ACCOUNT));
}

fn files_read(world: &World) -> Vec<PathBuf> {
    let read = world.did().iter().filter_map(|did| match did {
        Did::ReadFile(path) => Some(path.clone()),
        _ => None,
    });
    read.collect()
}

#[test]
fn the_named_file_comes_first_then_gclouds_then_the_metadata_server() {
    let mut world = world();
    env(&mut world, KEY_FILE, "/etc/key.json");
    file(&mut world, "/etc/key.json", service_account_json());
    file(&mut world, LINUX, authorized_user_json());
    file(&mut world, FIRMWARE, "Google Compute Engine\n");
    cloud(&mut world);
    let found = search(&mut world, Os::Unix).unwrap();
    assert_eq!((found.credential.kind(), found.project_id.as_deref()), ("service_account", Some("demo-project")));
    assert_eq!(found.looked.len(), 1);
    assert_eq!(found.looked[0].to_string(), "GOOGLE_APPLICATION_CREDENTIALS=/etc/key.json: service_account");
    assert_eq!(files_read(&world), [PathBuf::from("/etc/key.json")]);

    // 21.16: empty is not set.
    env(&mut world, KEY_FILE, "");
    let found = search(&mut world, Os::Unix).unwrap();
    assert_eq!((found.credential.kind(), found.project_id), ("authorized_user", None));
    let looked: Vec<_> = found.looked.iter().map(ToString::to_string).collect();
    assert_eq!(looked, [format!("{KEY_FILE}: not set"), format!("gcloud's {LINUX}: authorized_user")]);

    world.files.remove(&PathBuf::from(LINUX));
    let found = search(&mut world, Os::Unix).unwrap();
    assert_eq!((found.credential.kind(), found.project_id.as_deref()), ("metadata server", Some("demo-project")));
    let looked: Vec<_> = found.looked.iter().map(ToString::to_string).collect();
    assert_eq!(
        looked,
        [
            format!("{KEY_FILE}: not set"),
            format!("gcloud's {LINUX}: there is no such file"),
            format!("the metadata server: {FIRMWARE} says Google"),
        ]
    );
    assert!(world.mint(&found.credential, &Want::default()).is_ok());
}

#[test]
fn gclouds_file_is_where_each_system_keeps_it() {
    for (os, name, value, path) in [
        (Os::Unix, "", "", LINUX),
        (Os::MacOs, "", "", "/Users/alice/.config/gcloud/application_default_credentials.json"),
        (Os::Unix, "CLOUDSDK_CONFIG", "/srv/gcloud", "/srv/gcloud/application_default_credentials.json"),
        (Os::MacOs, "CLOUDSDK_CONFIG", "/srv/gcloud", "/srv/gcloud/application_default_credentials.json"),
        // Never XDG.
        (Os::Unix, "XDG_CONFIG_HOME", "/xdg", LINUX),
        (Os::Unix, "APPDATA", "/appdata", LINUX),
    ] {
        let mut world = world();
        if !name.is_empty() {
            env(&mut world, name, value);
        }
        file(&mut world, path, authorized_user_json());
        let found = search(&mut world, os).unwrap_or_else(|error| panic!("{os:?} {name}: {error}"));
        assert_eq!(found.looked[1].to_string(), format!("gcloud's {path}: authorized_user"));
    }
    // Paths of Windows, put together as this system does it.
    let name = "application_default_credentials.json";
    for (variable, value, path) in [
        (
            "APPDATA",
            r"C:\Users\alice\AppData\Roaming",
            PathBuf::from(r"C:\Users\alice\AppData\Roaming").join("gcloud").join(name),
        ),
        ("CLOUDSDK_CONFIG", r"D:\gcloud", PathBuf::from(r"D:\gcloud").join(name)),
    ] {
        let mut world = world();
        env(&mut world, variable, value);
        world.files.insert(path.clone(), authorized_user_json().to_string().into_bytes());
        search(&mut world, Os::Windows).unwrap();
        // 21.18: gcloud's own store is never looked at, nor is firmware.
        assert_eq!(files_read(&world), [path]);
    }
}

#[test]
fn a_variable_that_is_set_and_wrong_ends_the_search() {
    let external = json!({"type": "external_account", "audience": "//iam.googleapis.com/x"});
    for (content, kind, says) in [
        // 21.16
        (None, ErrorKind::File, "there is no such file"),
        (Some(String::new()), ErrorKind::Config, "no JSON object"),
        (Some("{".into()), ErrorKind::Config, "no JSON object (line 1, column 1)"),
        (Some(json!({}).to_string()), ErrorKind::Config, "`type` is missing"),
        (Some(external.to_string()), ErrorKind::Config, "`subject_token_type` is missing"),
        (Some(json!({"type": "gdch_service_account"}).to_string()), ErrorKind::Config, "`format_version` is missing"),
        (Some(json!({"type": "service_account"}).to_string()), ErrorKind::Config, "`private_key` is missing"),
        (Some(json!({"installed": {}}).to_string()), ErrorKind::Config, "`type` is missing"),
        (Some(" ".repeat(70_000)), ErrorKind::File, "larger than 64 KiB"),
    ] {
        let mut world = world();
        env(&mut world, KEY_FILE, "/etc/key.json");
        file(&mut world, LINUX, authorized_user_json());
        cloud(&mut world);
        let missing = content.is_none();
        content.into_iter().for_each(|content| file(&mut world, "/etc/key.json", content));
        let error = search(&mut world, Os::Unix).unwrap_err();
        let text = whole(&error);
        assert!(text.contains("GOOGLE_APPLICATION_CREDENTIALS=/etc/key.json") && text.contains(says), "{text}");
        assert_eq!(error.kind(), kind, "{text}");
        assert_eq!(error.advice(), Some(Advice::FixConfiguration), "{text}");
        assert_eq!(files_read(&world), [PathBuf::from("/etc/key.json")], "missing: {missing}");
        assert!(world.sent().is_empty());
    }
}

#[test]
fn other_variables_that_are_wrong_end_it_too() {
    for name in ["GCE_METADATA_HOST", "GOOGLE_CLOUD_QUOTA_PROJECT"] {
        let mut world = world();
        env(&mut world, "GCE_METADATA_HOST", "metadata.example");
        env(&mut world, "GOOGLE_CLOUD_PROJECT", "demo-project");
        env(&mut world, name, "a\nb");
        let error = search(&mut world, Os::Unix).unwrap_err();
        assert_eq!((error.kind(), error.advice()), (ErrorKind::Config, Some(Advice::FixConfiguration)), "{name}");
        assert!(error.to_string().contains(name), "{error}");
        // What is no text is not passed over either.
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStringExt as _;
            world.env.insert(name, std::ffi::OsString::from_vec(vec![0xff]));
            let error = search(&mut world, Os::Unix).unwrap_err();
            assert!(error.kind() == ErrorKind::Config && error.to_string().contains(name), "{error}");
        }
        assert!(world.sent().is_empty());
    }
}

#[test]
fn a_file_of_gclouds_that_is_wrong_ends_the_search() {
    for content in ["", "{", "[]", r#"{"type":"authorized_user"}"#, r#"{"type":"impersonated_service_account"}"#] {
        let mut world = world();
        file(&mut world, LINUX, content);
        file(&mut world, FIRMWARE, "Google");
        cloud(&mut world);
        let error = search(&mut world, Os::Unix).unwrap_err();
        assert_eq!((error.kind(), error.advice()), (ErrorKind::Config, Some(Advice::FixConfiguration)), "{content}");
        assert!(whole(&error).contains(LINUX), "{error}");
        assert!(world.sent().is_empty());
    }
}

#[test]
fn a_hostile_file_is_refused_before_any_request() {
    let mut key = service_account_json();
    key["token_uri"] = "https://attacker.example/token".into();
    let mut world = world();
    env(&mut world, KEY_FILE, "/etc/key.json");
    file(&mut world, "/etc/key.json", &key);
    let error = search(&mut world, Os::Unix).unwrap_err();
    assert!(whole(&error).contains("`token_uri` does not lead to Google"), "{error}");
    canary::hidden("the error", &whole(&error), &[private_key().lines().nth(1).unwrap()]);
    assert!(world.sent().is_empty());
    let trusting = DefaultCredentials::new(platform(Os::Unix)).with_any_server();
    assert_eq!(world.run(trusting).unwrap().credential.kind(), "service_account");
}

#[test]
fn nothing_found_lists_every_place_and_what_to_do() {
    for (os, home, places) in [
        (Os::Unix, true, vec![format!("gcloud's {LINUX}: there is no such file")]),
        (
            Os::MacOs,
            true,
            vec![
                "gcloud's /Users/alice/.config/gcloud/application_default_credentials.json: there is no such file"
                    .into(),
            ],
        ),
        (Os::Windows, true, vec!["gcloud's application_default_credentials.json: APPDATA is not set".into()]),
        (
            Os::Unix,
            false,
            vec!["gcloud's application_default_credentials.json: the home directory is not known".into()],
        ),
    ] {
        let mut world = world();
        let platform = Platform { home: platform(os).home.filter(|_| home), os };
        let error = world.run(DefaultCredentials::new(platform)).unwrap_err();
        assert_eq!((error.kind(), error.advice()), (ErrorKind::Config, Some(Advice::FixConfiguration)));
        let text = error.to_string();
        for line in places.iter().map(String::as_str).chain([
            "no Google credentials were found",
            "GOOGLE_APPLICATION_CREDENTIALS: not set",
            "the metadata server: it does not answer: ",
            "gcloud auth application-default login",
        ]) {
            assert!(text.contains(line), "{os:?}: {line} is not in {text}");
        }
    }
}

#[test]
fn a_laptop_is_told_within_a_second() {
    for local in [Local::Nobody, Local::Closed, Local::Portal(200), Local::Portal(302), Local::Portal(511)] {
        for os in [Os::Unix, Os::MacOs, Os::Windows] {
            let mut world = world();
            world.google().local = local.clone();
            world.latency = Duration::from_millis(2);
            file(&mut world, FIRMWARE, "ThinkPad X1\n");
            let error = search(&mut world, os).unwrap_err();
            // 21.15: a portal that answers everything is not Google Cloud.
            let says = match local {
                Local::Portal(_) => "the metadata server: something else answers in its place",
                _ => "the metadata server: it does not answer",
            };
            assert!(error.to_string().contains(says), "{local:?}: {error}");
            let took = world.now.wall.since(NOW);
            assert!(took < Duration::from_secs(1), "{local:?} {os:?}: {took:?}");
            // By its address, so that no name server is waited for.
            assert!(world.sent().iter().all(|sent| sent.request.uri() == "http://169.254.169.254/"));
        }
    }
}

#[test]
fn the_metadata_server_is_detected_by_the_signs_of_googles_libraries() {
    let server = "metadata server";
    // Variables, firmware, system; what is found, and how often anybody was asked before the project.
    for (variables, firmware, os, found, pings) in [
        (&[("K_SERVICE", "demo")][..], "", Os::Unix, server, 0),
        (&[("FUNCTION_NAME", "demo")], "", Os::Unix, server, 0),
        (&[("CLOUD_RUN_JOB", "demo")], "", Os::Unix, server, 0),
        (&[], "Google", Os::Unix, server, 0),
        (&[], "Google Compute Engine\n", Os::Unix, server, 0),
        (&[], "", Os::Unix, server, 1),
        (&[], "ThinkPad", Os::Unix, server, 1),
        // Firmware is a file of Linux alone.
        (&[], "Google", Os::Windows, server, 1),
        (&[], "Google", Os::MacOs, server, 1),
        (&[("GCE_METADATA_HOST", "169.254.169.254")], "", Os::Unix, server, 0),
        (&[("GCE_METADATA_HOST", "169.254.169.254"), ("NO_GCE_CHECK", "true")], "", Os::Unix, server, 0),
        (&[("NO_GCE_CHECK", "true")], "Google", Os::Unix, "", 0),
        (&[("NO_GCE_CHECK", "TRUE")], "Google", Os::Unix, "", 0),
        (&[("NO_GCE_CHECK", "false")], "Google", Os::Unix, server, 0),
        (&[("NO_GCE_CHECK", "true"), ("K_SERVICE", "demo")], "", Os::Unix, "", 0),
        (&[("METADATA_SERVER_DETECTION", "assume-present")], "", Os::Unix, server, 0),
        (&[("METADATA_SERVER_DETECTION", "none"), ("K_SERVICE", "demo")], "Google", Os::Unix, "", 0),
        (&[("METADATA_SERVER_DETECTION", "bios-only")], "Google", Os::Unix, server, 0),
        (&[("METADATA_SERVER_DETECTION", "bios-only")], "ThinkPad", Os::Unix, "", 0),
        (&[("METADATA_SERVER_DETECTION", "bios-only")], "", Os::Windows, "", 0),
        (&[("METADATA_SERVER_DETECTION", "bios-only")], "", Os::MacOs, "", 0),
        (&[("METADATA_SERVER_DETECTION", "ping-only")], "Google", Os::Unix, server, 1),
        (&[("METADATA_SERVER_DETECTION", "made-up")], "Google", Os::Unix, "", 0),
        (&[("NO_GCE_CHECK", "1")], "Google", Os::Unix, server, 0),
        (&[("K_SERVICE", "")], "", Os::Unix, server, 1),
    ] {
        let mut world = world();
        cloud(&mut world);
        variables.iter().for_each(|(name, value)| env(&mut world, name, value));
        if !firmware.is_empty() {
            file(&mut world, FIRMWARE, firmware);
        }
        let result = search(&mut world, os);
        let kind = result.as_ref().map_or("", |found| found.credential.kind());
        assert_eq!(kind, found, "{variables:?} {firmware} {os:?}: {result:?}");
        let asked: Vec<_> = world.sent().iter().map(|sent| sent.request.uri().to_string()).collect();
        assert_eq!(asked.iter().filter(|uri| uri.ends_with("254/")).count(), pings, "{variables:?} {asked:?}");
        assert_eq!(asked.len(), pings + usize::from(!kind.is_empty()), "{variables:?} {asked:?}");
        let read = files_read(&world).contains(&FIRMWARE.into());
        let ping_only = variables.contains(&("METADATA_SERVER_DETECTION", "ping-only"));
        assert!(!read || (os == Os::Unix && !ping_only), "{variables:?}");
    }
}

#[test]
fn what_a_variable_says_in_other_words_is_told() {
    for value in ["1", "yes"] {
        let mut world = world();
        cloud(&mut world);
        env(&mut world, "NO_GCE_CHECK", value);
        file(&mut world, FIRMWARE, "Google");
        let found = search(&mut world, Os::Unix).unwrap();
        let last = found.looked.last().unwrap().to_string();
        assert!(last.contains("NO_GCE_CHECK is passed over"), "{last}");
    }
    for value in ["made-up", "ping_only"] {
        let mut world = world();
        cloud(&mut world);
        env(&mut world, "METADATA_SERVER_DETECTION", value);
        let error = search(&mut world, Os::Unix).unwrap_err().to_string();
        assert!(error.contains("METADATA_SERVER_DETECTION is none of assume-present, none, bios-only"), "{error}");
        assert!(!error.contains(value), "{error}");
    }
}

#[test]
fn a_client_file_in_place_of_a_credential_is_told_what_it_is() {
    let client = r#"{"installed":{"client_id":"c","client_secret":"canary"}}"#;
    for error in [
        ServiceAccount::from_json(client).unwrap_err(),
        AuthorizedUser::from_json(client).unwrap_err(),
        GoogleCredential::from_json_of_any_type(client.replace("installed", "web")).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(text.contains("this is an OAuth client, which a user must sign in with first"), "{text}");
        assert!(text.contains("service_account") || text.contains("authorized_user"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn a_named_metadata_host_is_used_for_everything() {
    let mut world = world();
    cloud(&mut world);
    env(&mut world, "GCE_METADATA_HOST", "169.254.169.254");
    let found = search(&mut world, Os::Unix).unwrap();
    world.mint(&found.credential, &Want::default()).unwrap();
    for sent in world.sent() {
        assert!(sent.request.uri().to_string().starts_with("http://169.254.169.254/computeMetadata/v1/"));
    }
    for host in ["a b", "http://x", "a/b", "user@x"] {
        env(&mut world, "GCE_METADATA_HOST", host);
        let error = search(&mut world, Os::Unix).unwrap_err();
        assert!(whole(&error).contains("GCE_METADATA_HOST is no host"), "{host}: {error}");
    }
}

#[test]
fn a_server_that_starts_late_is_found_where_a_sign_promises_it() {
    // 21.14: on Cloud Run and Kubernetes Engine, for some seconds.
    for (variable, firmware) in [(Some("K_SERVICE"), ""), (None, "Google Compute Engine")] {
        let mut world = world();
        let mut metadata = Metadata::new(SERVICE_ACCOUNT);
        metadata.ready_from = NOW + Duration::from_secs(2);
        world.google().local = Local::Server(metadata);
        variable.into_iter().for_each(|name| env(&mut world, name, "demo"));
        file(&mut world, FIRMWARE, firmware);
        let found = search(&mut world, Os::Unix).unwrap();
        assert_eq!(found.project_id.as_deref(), Some("demo-project"));
    }
}

#[test]
fn a_machine_whose_project_cannot_be_told_has_a_credential_nevertheless() {
    let mut world = world();
    cloud(&mut world);
    env(&mut world, "K_SERVICE", "demo");
    world.google().fail(Place::Metadata, grantflow_tests::Fault::html(404).header("metadata-flavor", "Google"));
    let found = search(&mut world, Os::Unix).unwrap();
    assert_eq!((found.credential.kind(), found.project_id), ("metadata server", None));
}

#[test]
fn projects_are_named_by_variables_first() {
    for (variables, project, quota) in [
        (&[][..], Some("demo-project"), None),
        (&[("GOOGLE_CLOUD_PROJECT", "one")], Some("one"), None),
        (&[("GCLOUD_PROJECT", "two")], Some("two"), None),
        (&[("GCLOUD_PROJECT", "two"), ("GOOGLE_CLOUD_PROJECT", "one")], Some("one"), None),
        (&[("GOOGLE_CLOUD_PROJECT", "")], Some("demo-project"), None),
        (&[("GOOGLE_CLOUD_QUOTA_PROJECT", "three")], Some("demo-project"), Some("three")),
    ] {
        // From the file, and from the metadata server, which is then not asked for it.
        for on_cloud in [false, true] {
            let mut world = world();
            cloud(&mut world);
            variables.iter().for_each(|(name, value)| env(&mut world, name, value));
            if on_cloud {
                env(&mut world, "K_SERVICE", "demo");
            } else {
                env(&mut world, KEY_FILE, "/key.json");
                file(&mut world, "/key.json", service_account_json());
            }
            let found = search(&mut world, Os::Unix).unwrap();
            assert_eq!(found.project_id.as_deref(), project, "{variables:?}");
            let header = found.credential.request_headers();
            assert_eq!(header.get("x-goog-user-project").map(|value| value.to_str().unwrap()), quota);
            let asked = on_cloud && project == Some("demo-project");
            assert_eq!(world.sent().len(), usize::from(asked), "{variables:?}");
        }
    }
    // The variable beats the file.
    let mut world = world();
    file(&mut world, LINUX, authorized_user_json());
    let project = |found: Found| found.credential.request_headers()["x-goog-user-project"].clone();
    assert_eq!(project(search(&mut world, Os::Unix).unwrap()), "demo-project");
    env(&mut world, "GOOGLE_CLOUD_QUOTA_PROJECT", "three");
    assert_eq!(project(search(&mut world, Os::Unix).unwrap()), "three");
}

#[test]
fn a_file_that_a_program_names_heeds_the_variable_of_the_quota_project_too() {
    let project = |value: &'static str| {
        let credential = GoogleCredential::from_json_of_any_type(authorized_user_json().to_string()).unwrap();
        let set = move |name: &str| (name == "GOOGLE_CLOUD_QUOTA_PROJECT" && value != "unset").then(|| value.into());
        let header = credential.quota_project_from_env(set)?.request_headers()["x-goog-user-project"].clone();
        Ok(header.to_str().unwrap().to_owned())
    };
    for (value, heeded) in [("unset", "demo-project"), ("", "demo-project"), (" ", "demo-project"), ("three ", "three")]
    {
        assert_eq!(project(value).map_err(|error: Error| error.to_string()), Ok(heeded.to_owned()), "{value:?}");
    }
    let error = project("my\nproject").unwrap_err();
    assert_eq!(error.to_string(), "GOOGLE_CLOUD_QUOTA_PROJECT is no project; fix the configuration");
}

#[test]
fn an_embedder_that_does_less_finds_less_and_is_told() {
    // No variables: as if none were set.
    let mut world = world();
    env(&mut world, KEY_FILE, "/key.json");
    file(&mut world, LINUX, authorized_user_json());
    world.refuse = vec!["Env"];
    assert_eq!(search(&mut world, Os::Unix).unwrap().credential.kind(), "authorized_user");
    // No files: on to the metadata server.
    world.refuse = vec!["Env", "ReadFile"];
    cloud(&mut world);
    let found = search(&mut world, Os::Unix).unwrap();
    assert_eq!(found.credential.kind(), "metadata server");
    assert!(found.looked.iter().any(|looked| looked.result == "the driver reads no files"));
    // But a file that is named is wanted.
    world.refuse = vec!["ReadFile"];
    let error = search(&mut world, Os::Unix).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(whole(&error).contains("/key.json") && whole(&error).contains("ReadFile"), "{error}");
    // Nothing at all: all places, with reasons.
    world.refuse = vec!["Env", "ReadFile", "Http", "Sleep"];
    let error = search(&mut world, Os::Unix).unwrap_err();
    assert!(error.to_string().contains("the driver reads no files"), "{error}");
    assert!(error.to_string().contains("does not carry out the effect Http"), "{error}");
}

#[test]
fn replies_that_do_not_fit_end_in_an_error() {
    let mut world = world();
    for steps in 1..16 {
        let mut search = DefaultCredentials::new(platform(Os::Unix));
        let mut reply = Reply::Start;
        let mut asked = String::new();
        for _ in 0..steps {
            let Step::Do(effect) = search.resume(&mut world.cx(), reply) else { panic!("it ended early") };
            asked = format!("{effect:?}");
            reply = world.carry_out(effect);
        }
        // At once, and from then on. Only the request is of a machine within, which may fail without harm.
        let first = search.resume(&mut world.cx(), Reply::Slept);
        assert!(matches!(&first, Step::Done(Err(_))), "{asked}: {first:?}");
        for step in [first, search.resume(&mut world.cx(), Reply::Slept)] {
            let Step::Done(Err(error)) = step else { panic!("{asked}: {step:?}") };
            assert!(error.kind() == ErrorKind::Misuse || asked.starts_with("Http"), "{asked}: {error}");
        }
    }
    let Step::Done(Err(error)) = DefaultCredentials::new(platform(Os::Unix)).resume(&mut world.cx(), Reply::Slept)
    else {
        panic!("it began without a start")
    };
    assert_eq!(error.kind(), ErrorKind::Misuse);
}

#[test]
fn what_was_found_works_and_shows_no_secret() {
    let mut world = world();
    let key = private_key();
    let secrets = [REFRESH_TOKEN, CLIENT_SECRET, key.lines().nth(2).unwrap()];
    for content in [service_account_json(), authorized_user_json()] {
        file(&mut world, LINUX, content);
        let mut search = DefaultCredentials::new(platform(Os::Unix));
        let found = world.run(&mut search).unwrap();
        canary::hidden_in_debug("the search", &search, &secrets);
        canary::hidden_in_debug("what was found", &found, &secrets);
        let source = &found.credential;
        canary::hidden_in_debug("its state", &source.first_state(), &secrets);
        let token = world.mint(source, &Want::access_token("https://www.googleapis.com/auth/cloud-platform")).unwrap();
        canary::hidden_in_debug("its token", &token, &[token.access_token()]);
        assert!(!source.may_change(&source.first_state()));
    }
    assert_eq!(world.google().seen_at(Place::Token).len(), 2);
}

#[test]
fn a_file_is_read_by_what_it_should_be() {
    let mut world = world();
    file(&mut world, "/key.json", service_account_json());
    file(&mut world, "/user.json", authorized_user_json());
    let mut hostile = service_account_json();
    hostile["token_uri"] = "https://attacker.example/token".into();
    file(&mut world, "/hostile.json", hostile);
    assert_eq!(world.run(ServiceAccount::read("/key.json")).unwrap().email(), SERVICE_ACCOUNT);
    world.run(AuthorizedUser::read("/user.json")).unwrap();
    for (path, kind) in [("/key.json", "service_account"), ("/user.json", "authorized_user")] {
        assert_eq!(world.run(GoogleCredential::read(path)).unwrap().kind(), kind);
    }
    let account = |path| ServiceAccount::read(path).with_any_server();
    assert_eq!(world.run(account("/hostile.json")).unwrap().email(), SERVICE_ACCOUNT);
    let mut errors = vec![
        ("/user.json", world.run(ServiceAccount::read("/user.json")).unwrap_err(), "service_account is needed"),
        ("/key.json", world.run(AuthorizedUser::read("/key.json")).unwrap_err(), "authorized_user is needed"),
        ("/hostile.json", world.run(ServiceAccount::read("/hostile.json")).unwrap_err(), "`token_uri`"),
        ("/hostile.json", world.run(GoogleCredential::read("/hostile.json")).unwrap_err(), "`token_uri`"),
        ("/none.json", world.run(ServiceAccount::read("/none.json")).unwrap_err(), "there is no such file"),
    ];
    file(&mut world, "/large.json", " ".repeat(70_000));
    errors.push(("/large.json", world.run(AuthorizedUser::read("/large.json")).unwrap_err(), "larger than 64 KiB"));
    for (path, error, says) in errors {
        assert_eq!(error.advice(), Some(Advice::FixConfiguration), "{error}");
        assert!(whole(&error).contains(path) && whole(&error).contains(says), "{path}: {error}");
    }
    world.refuse = vec!["ReadFile"];
    let error = world.run(ServiceAccount::read("/key.json")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
