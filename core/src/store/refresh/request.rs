//! The use of the refresh token, up to its request: which server it goes to, the signatures that are made ahead, the intent
//! that is written down, and the time that is left for it.

use super::{Next, SAVING, SharedRefresh, Stage, misused};
use crate::exchange::Within;
use crate::source::Change;
use crate::store::Stored;
use crate::store::record::Intent;
use crate::store::remembered::USE;
use crate::store::shared::ScopesAtRefresh;
use crate::{Error, Now, Rotation, Secret, ServerMetadata, TokenExchange, TokenRequest};

impl SharedRefresh {
    /// Reads the server's metadata and makes the signatures of the request, before anything is leased or written down.
    pub(super) fn prepare(&mut self, now: Now) -> Result<Next, Error> {
        if self.server.is_none() {
            match self.grant.server.known() {
                Ok(server) => self.server = Some(server),
                Err(discovery) => {
                    let within = Within::new(*discovery, now.mono.saturating_add(USE));
                    return Ok(Next::Go(Stage::Discover(Box::new(within))));
                }
            }
        }
        let (used, exchange) = self.request()?;
        let signing = Within::new(exchange.ahead(), now.mono.saturating_add(USE));
        Ok(Next::Go(Stage::Ahead(used, Box::new(signing))))
    }

    pub(super) fn discovered(&mut self, found: Result<ServerMetadata, Error>, now: Now) -> Result<Next, Error> {
        self.server = Some(found?);
        self.prepare(now)
    }

    pub(super) fn signed(
        &mut self,
        used: Secret,
        signed: Result<TokenExchange, Error>,
        now: Now,
    ) -> Result<Next, Error> {
        self.ready = Some((used, Box::new(signed?)));
        // What was not saved was saved first: the lease is there.
        if self.lease.is_some() { self.save_intent(now) } else { self.lease(now) }
    }

    /// The use of the refresh token under our hands.
    fn request(&self) -> Result<(Secret, TokenExchange), Error> {
        let (record, _) = self.current.as_ref().ok_or_else(misused)?;
        let server = self.server.as_ref().ok_or_else(misused)?;
        let request = TokenRequest::refresh_token(server, &self.grant.client, &record.refresh_token)?;
        // Of a rotation that was learned the request is as careful as before.
        let request = request.granted(record.scopes.clone()).rotation(record.rotation);
        let request = match self.grant.at_refresh {
            ScopesAtRefresh::Never => request.wanted_for(&self.want),
            ScopesAtRefresh::Granted if self.want.scopes_text().is_empty() => {
                request.wanted(&self.want).scopes(record.scopes_to_name())
            }
            ScopesAtRefresh::Granted | ScopesAtRefresh::Wanted => request.wanted(&self.want),
        };
        Ok((record.refresh_token.clone(), request.exchange()))
    }

    /// Writes down that the refresh token is about to be used; where it is never replaced, nothing need be.
    pub(super) fn save_intent(&mut self, now: Now) -> Result<Next, Error> {
        let (record, _) = self.current.as_mut().ok_or_else(misused)?;
        let known = record.intent;
        if known.is_none() && record.rotation() == Rotation::Never {
            return self.exchange(now);
        }
        self.before = known;
        record.intent = Some(Intent {
            since: known.map_or(now.wall, |intent| intent.since),
            tries: known.map_or(0, |intent| intent.tries).saturating_add(1),
            deadline: now.wall + USE,
            used: known.and_then(|intent| intent.used),
        });
        self.use_until = now + USE;
        self.save_current(Stage::SaveIntent)
    }

    pub(super) fn saved_intent(&mut self, now: Now) -> Result<Next, Error> {
        let (record, version) = self.current.as_mut().ok_or_else(misused)?;
        *version = version.saturating_add(1);
        self.state.remembered.know(record, *version);
        self.exchange(now)
    }

    /// Takes an intent back of which nothing came, should it be there.
    pub(super) fn loaded_intent(&mut self, found: Option<Stored>) -> Result<Next, Error> {
        let there = self.read(found);
        let (record, version) = self.current.as_mut().ok_or_else(misused)?;
        match there {
            Ok((there, newer)) if there.intent == record.intent => {
                (record.intent, *version) = (self.before, newer);
                self.save_current(Stage::SaveFailure)
            }
            _ => self.give_up(),
        }
    }

    fn exchange(&mut self, now: Now) -> Result<Next, Error> {
        self.used_at = now;
        let (record, _) = self.current.as_ref().ok_or_else(misused)?;
        let exchange = match self.ready.take() {
            Some((used, exchange)) if used.matches(record.refresh_token.expose()) => exchange,
            // Another refresh token came into the record meanwhile.
            _ => match self.request() {
                Ok((_, exchange)) => Box::new(exchange),
                Err(error) => return self.exchanged(Err(error), &Change::default(), now),
            },
        };
        // All of it within the time that the intent tells others, and within the lease.
        let saving = |end: Now| Now { wall: end.wall - SAVING, mono: end.mono.saturating_sub(SAVING) };
        let by_intent = record.intent.map(|_| self.use_until);
        let by_lease = self.lease.flatten().map(saving);
        let end = by_intent.into_iter().chain(by_lease).reduce(Now::earlier);
        let left = |end: Now| end.wall.since(now.wall).min(end.mono.saturating_sub(now.mono));
        let exchange = exchange.total_time(end.map_or(USE, left).min(USE));
        Ok(Next::Go(Stage::Exchange(Box::new(match end {
            Some(end) => exchange.start_before(end),
            None => exchange,
        }))))
    }
}
