//! A process that shares a grant, one mint at a time, and the desk that it begins with.
//!
//! Whatever is not as it must be ends in a panic.
#![allow(clippy::missing_panics_doc, reason = "they are helpers of tests")]

use std::time::Duration;

use grantflow::source::{GrantState, Minting, TokenSource, Want};
use grantflow::store::{RecordKey, SaveGrant, SharedGrant};
use grantflow::{Error, Token};

use super::Desk;
use crate::demo::{client, signed_in};
use crate::server::{Place, RefreshTokens, Settings};
use crate::{Server, World};

const SECOND: Duration = Duration::from_secs(1);

/// A process that uses the grant.
#[derive(Clone, Debug)]
pub struct Process {
    /// Where the tokens come from.
    pub source: SharedGrant,
    /// What for.
    pub want: Want,
    /// What it remembers.
    pub state: GrantState,
}

impl Process {
    /// One that has just begun.
    pub fn of(source: &SharedGrant) -> Self {
        Self { source: source.clone(), want: Want::access_token("read"), state: source.first_state() }
    }

    /// Asks for a token: the first, or another than the last.
    pub fn mint(&mut self, desk: &mut Desk) -> Result<Token, Error> {
        let mut mint = self.source.mint(&self.want, &self.state);
        let result = desk.run(&mut mint);
        self.state.merge(mint.take_change());
        result
    }
}

/// A person has signed in, and the grant is in the store. Access tokens live for an hour.
pub fn desk_with(change: impl FnOnce(&mut Settings)) -> (Desk, SharedGrant) {
    let mut desk = Desk::new(World::with(Server::demo().with(|settings| {
        settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO };
        change(settings);
    })));
    let metadata = desk.world.server().metadata();
    let key = RecordKey::new(metadata.issuer(), &client(), "alice");
    let token = signed_in(&mut desk.world, "read write");
    desk.run(SaveGrant::new(key.clone(), Want::access_token("read"), &token)).unwrap();
    (desk, SharedGrant::new(key, &metadata, &client()))
}

/// As [`desk_with`], with refresh tokens that are good for one use.
pub fn desk() -> (Desk, SharedGrant) {
    desk_with(|_| {})
}

/// The same an hour later: the token has ended.
pub fn late() -> (Desk, SharedGrant) {
    let (mut desk, source) = desk();
    desk.world.pass(3600 * SECOND);
    (desk, source)
}

/// The refresh tokens that the server has seen.
pub fn sent(desk: &mut Desk) -> Vec<String> {
    let seen = desk.world.server().seen_at(Place::Token);
    seen.iter().filter_map(|seen| seen.param("refresh_token")).collect()
}

/// The refresh token in the store.
pub fn kept(desk: &Desk, source: &SharedGrant) -> String {
    desk.record(source.key())["refresh_token"].as_str().expect("a refresh token").to_owned()
}

/// The intent in the store: how many uses began, and when the last of them ends.
pub fn intent(desk: &Desk, source: &SharedGrant) -> Option<(u64, i64)> {
    let record = desk.record(source.key());
    let intent = record.get("intent")?;
    Some((intent["tries"].as_u64()?, intent["deadline"].as_i64().expect("a number")))
}
