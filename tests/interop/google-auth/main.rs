//! The files of user credentials that grantflow and google-auth write for each other, each refreshed with by the
//! other at a pretend Google. `tests/interop/google-auth/run` installs google-auth and starts this. It ends with an
//! error at the first thing that is wrong.

mod federation;

use std::error::Error as StdError;
use std::path::Path;
use std::process::Command;

use grantflow::google::{AuthorizedUser, GoogleCredential};
use grantflow::source::{GrantState, TokenSource, Want};
use grantflow::{Scopes, Token};
use grantflow_tests::google::{GRANTED, Place, authorized_user_json};
use grantflow_tests::{Front, Google};
use grantflow_ureq::Transport;
use grantflow_ureq::grantflow_store::write_private;
use serde_json::Value;

type Done = Result<(), Box<dyn StdError>>;

fn main() -> Done {
    let python = std::env::args().nth(1).ok_or("usage: google_auth PYTHON")?;
    let folder = std::env::temp_dir().join(format!("grantflow-google-auth-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let stage = Stage { google: Front::start(Google::demo())?, python, folder: &folder, transport: Transport::new()? };
    let result = token_json(&stage)
        .and_then(|()| default_credentials(&stage))
        .and_then(|()| federation::compare(&stage.python, stage.folder));
    std::fs::remove_dir_all(&folder)?;
    result
}

struct Stage<'a> {
    google: Front<Google>,
    python: String,
    folder: &'a Path,
    transport: Transport,
}

impl Stage<'_> {
    /// Reads a file, but for its token endpoint, which is that of the pretend Google.
    fn read(&self, mut file: Value) -> Result<AuthorizedUser, Box<dyn StdError>> {
        file["token_uri"] = self.google.server().address(Place::Token).into();
        Ok(AuthorizedUser::from_json_with_any_server(file.to_string())?)
    }

    fn mint(&self, user: &AuthorizedUser) -> Result<(Token, GrantState), Box<dyn StdError>> {
        let mut state = user.first_state();
        let mut mint = user.mint(&Want::default(), &state);
        let token = self.transport.run(&mut mint)?;
        state.merge(mint.take_change());
        self.lives(token.access_token())?;
        Ok((token, state))
    }

    fn lives(&self, token: &str) -> Done {
        let now = self.transport.now().wall;
        check(self.google.server().scopes_of(token, now) == Some(&Scopes::from(GRANTED)), "the token is good")
    }

    /// Lets google-auth read, refresh and write a file. What it saw, and what it wrote.
    fn python(&self, read: &str) -> Result<(Value, Value), Box<dyn StdError>> {
        let (server, written) = (format!("http://{}", self.google.address()), self.folder.join("theirs.json"));
        let peer = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/google-auth/peer.py");
        let mut command = Command::new(&self.python);
        command.args([peer, &server, read]).arg(&written).env("CLOUDSDK_CONFIG", self.folder);
        let output = command.env_remove("GOOGLE_APPLICATION_CREDENTIALS").output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let saw: Value = serde_json::from_slice(&output.stdout)?;
        self.lives(saw["new_token"].as_str().unwrap_or_default())?;
        Ok((saw, serde_json::from_slice(&std::fs::read(written)?)?))
    }
}

fn token_json(stage: &Stage<'_>) -> Done {
    let ours = stage.folder.join("token.json");
    let user = stage.read(authorized_user_json())?;
    let (token, state) = stage.mint(&user)?;
    write_private(&ours, user.to_json(&state, Some(&token)).expose().as_bytes())?;

    let (saw, theirs) = stage.python(&ours.to_string_lossy())?;
    check(saw["token"] == token.access_token() && saw["valid"] == true, "our token is good for google-auth")?;
    let scopes: Scopes = saw["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    check(scopes == Scopes::from(GRANTED), "it knows our scopes")?;
    check(saw["quota_project_id"] == "demo-project", "it knows our quota project")?;
    check(saw["new_token"] != token.access_token(), "it has refreshed")?;
    step("google-auth reads our token.json and refreshes with it");

    let user = stage.read(theirs.clone())?;
    let found = user.token().ok_or("there is no token in the file of google-auth")?;
    check(theirs["token"] == saw["new_token"] && found.access_token() == theirs["token"], "its token is the newest")?;
    check(!found.is_expired(stage.transport.now().wall), "its token is fresh")?;
    check(user.scopes() == &Scopes::from(GRANTED), "we know its scopes")?;
    let (token, _) = stage.mint(&user)?;
    check(token.access_token() != found.access_token(), "we have refreshed")?;
    step("we read the token.json of google-auth and refresh with it");

    let mut old = theirs;
    old["expiry"] = "2020-01-01T00:00:00.123456Z".into();
    let user = stage.read(old)?;
    check(user.token().is_some_and(|token| token.is_expired(stage.transport.now().wall)), "an old token is old")?;
    write_private(&ours, user.to_json(&user.first_state(), None).expose().as_bytes())?;
    let (saw, _) = stage.python(&ours.to_string_lossy())?;
    check(saw["valid"] == false, "an old token of ours is old for google-auth")?;
    step("an expired token is refreshed on both sides");
    Ok(())
}

fn default_credentials(stage: &Stage<'_>) -> Done {
    // What gcloud wrote, and what we write of it.
    let gcloud = authorized_user_json();
    let user = stage.read(gcloud.clone())?;
    let ours = user.to_json(&user.first_state(), None);
    for (whose, file) in [("gcloud", gcloud.to_string()), ("our", ours.expose().to_owned())] {
        write_private(stage.folder.join("application_default_credentials.json"), file.as_bytes())?;
        let (saw, theirs) = stage.python("default")?;
        check(saw["quota_project_id"] == "demo-project", "the quota project is kept")?;
        stage.mint(&stage.read(theirs)?)?;
        check(GoogleCredential::from_json_of_any_type(file)?.kind() == "authorized_user", "the type is named")?;
        step(&format!("{whose} application default credentials, in google-auth and here"));
    }
    Ok(())
}

fn check(holds: bool, what: &str) -> Done {
    if holds { Ok(()) } else { Err(format!("not so: {what}").into()) }
}

fn step(what: &str) {
    println!("  ok  {what}");
}
