//! A pretend server whose every use of a refresh token is written down.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use grantflow_store::grantflow::Timestamp;
use grantflow_tests::front::Site;
use grantflow_tests::server::{Answer, RefreshTokens, Wire};
use grantflow_tests::{Front, Server};
use http::Request;
use serde_json::Value;

/// A server that gives a new refresh token with each refresh, and what came to it.
pub(crate) struct Watched {
    pub(crate) server: Server,
    /// The longest that an answer takes.
    slow: Duration,
    pub(crate) uses: Vec<Use>,
    /// How many proofs were refused, but for want of a nonce (RFC 9449, section 5).
    pub(crate) refused_proofs: usize,
    /// How often it asked for a nonce.
    pub(crate) nonces: usize,
}

/// One use of a refresh token.
pub(crate) struct Use {
    pub(crate) at: Timestamp,
    pub(crate) refresh_token: String,
    /// What it was replaced by, unless it was refused.
    pub(crate) replaced_by: Option<String>,
    /// Whether the server found it used before, and ended the grant.
    pub(crate) reuse: bool,
}

impl Watched {
    pub(crate) fn start(grace: Duration, lifetime: u64, slow: Duration) -> Front<Self> {
        let server = Server::demo().with(|settings| {
            settings.refresh_tokens = RefreshTokens::Rotate { grace };
            settings.lifetime = lifetime;
        });
        Front::start(Self { server, slow, uses: Vec::new(), refused_proofs: 0, nonces: 0 }).unwrap()
    }

    pub(crate) fn issuer(&self) -> &str {
        self.server.issuer()
    }

    pub(crate) fn reuses(&self) -> usize {
        self.uses.iter().filter(|it| it.reuse).count()
    }

    /// How often this refresh token was replaced.
    pub(crate) fn replaced(&self, refresh_token: &str) -> usize {
        self.uses.iter().filter(|it| it.refresh_token == refresh_token && it.replaced_by.is_some()).count()
    }
}

/// A number below `limit`, another one each time.
pub(crate) fn random(limit: Duration) -> Duration {
    let part = RandomState::new().hash_one(0) >> 32;
    limit.mul_f64(part as f64 / f64::from(u32::MAX))
}

impl Site for Watched {
    fn move_to(&mut self, origin: &str) {
        self.server.move_to(origin);
    }

    fn answer(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Answer {
        let mut answer = self.server.answer(now, request);
        let form: BTreeMap<_, _> = url::form_urlencoded::parse(request.body()).into_owned().collect();
        if form.get("grant_type").is_some_and(|grant| grant == "refresh_token") {
            let body = match &answer.wire {
                Wire::Whole(response) => serde_json::from_slice(response.body()).unwrap_or(Value::Null),
                _ => Value::Null,
            };
            if body["error"] == "use_dpop_nonce" {
                // It has not begun.
                self.nonces += 1;
                return answer;
            }
            self.refused_proofs += usize::from(body["error"] == "invalid_dpop_proof");
            self.uses.push(Use {
                at: now,
                refresh_token: form["refresh_token"].clone(),
                replaced_by: body["refresh_token"].as_str().map(str::to_owned),
                reuse: body["error_description"].as_str().is_some_and(|text| text.contains("was used before")),
            });
            answer.delay += random(self.slow);
        }
        answer
    }
}
