//! The exchange of a subject token at Google's STS, as a source by itself.
//!
//! ```text
//! Subject ─▶ Exchange ─▶ done
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::subject::{SubjectToken, SubjectTokenContext, SubjectTokenMachine, SubjectTokens};
use crate::exchange::Within;
use crate::machine::ask;
use crate::server::{Endpoint, Issuer};
use crate::source::{GrantState, Mint, Minting, Refusal, TokenSource, Want, WantKind, cannot};
use crate::{Client, Cx, Error, Machine, Reply, ServerMetadata, Step, Token, TokenExchange, TokenRequest, token_type};

/// How long it may take to get a subject token by requests. A program has a time of its own.
const SUBJECT: Duration = Duration::from_secs(30);

/// The exchange at STS, as a source by itself.
#[derive(Clone)]
pub(super) struct Sts(pub(super) Arc<Inner>);

#[derive(Clone)]
pub(super) struct Inner {
    pub(super) audience: Box<str>,
    pub(super) subject_token_type: Box<str>,
    pub(super) subject_tokens: Arc<dyn SubjectTokens>,
    pub(super) server: ServerMetadata,
    pub(super) client: Option<Client>,
    pub(super) user_project: Option<Box<str>>,
    pub(super) token_info: Option<Endpoint>,
    pub(super) impersonated: Option<Box<str>>,
    pub(super) universe_domain: Box<str>,
}

/// STS at this address; nothing else is known of it.
pub(super) fn sts_at(address: &str) -> Result<ServerMetadata, Error> {
    ServerMetadata::new(Issuer::of_origin(address)?).token_endpoint(address)
}

impl Inner {
    fn context(&self) -> SubjectTokenContext<'_> {
        SubjectTokenContext {
            audience: &self.audience,
            subject_token_type: &self.subject_token_type,
            impersonated: self.impersonated.as_deref(),
        }
    }

    fn check(&self, want: &Want) -> Result<(), Error> {
        let scopes = want.scopes();
        scopes.check()?;
        if want.kind() != WantKind::AccessToken {
            return Err(cannot("has access tokens alone, unless it impersonates a service account"));
        }
        if want.wanted_subject().is_some() || want.wanted_account().is_some() {
            return Err(cannot("has no subjects and no accounts, unless it impersonates a service account"));
        }
        if want.wanted_audience().is_some() || want.names_resources() {
            return Err(cannot("takes scopes for an access token, and no audience and no resource"));
        }
        if scopes.is_empty() {
            return Err(cannot("needs at least one scope"));
        }
        Ok(())
    }

    fn exchange(&self, subject: &SubjectToken, want: &Want) -> Result<TokenExchange, Error> {
        let kind = &self.subject_token_type;
        let request = TokenRequest::token_exchange_of(&self.server, self.client.as_ref(), &subject.token, kind)?
            .audience(&self.audience)
            .requested_token_type(token_type::ACCESS_TOKEN)
            .wanted(want);
        // Where there is a client, its project is charged.
        let request = match (&self.user_project, &self.client) {
            (Some(project), None) => {
                request.extra("options", &serde_json::json!({ "userProject": project }).to_string())
            }
            _ => request,
        };
        Ok(match &subject.identity {
            Some(identity) => request.identity(identity.clone()),
            None => request,
        }
        .exchange())
    }
}

impl TokenSource for Sts {
    fn mint(&self, want: &Want, _: &GrantState) -> Mint {
        match self.0.check(want) {
            Ok(()) => Box::new(Exchanging { stage: Stage::Begin, source: self.0.clone(), want: want.clone() }),
            Err(error) => Box::new(Refusal(error)),
        }
    }
}

/// Mints at STS.
struct Exchanging {
    stage: Stage,
    source: Arc<Inner>,
    want: Want,
}

enum Stage {
    Begin,
    Subject(Within<SubjectTokenMachine>),
    Exchange(Box<TokenExchange>),
    Ended,
}

impl Minting for Exchanging {}

impl Machine for Exchanging {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        loop {
            let next = match (&mut self.stage, &reply) {
                (Stage::Begin, Reply::Start) => {
                    let until = cx.now().mono.saturating_add(SUBJECT);
                    let subject = self.source.subject_tokens.subject_token(&self.source.context());
                    Ok(Stage::Subject(Within::new(subject, until)))
                }
                (Stage::Subject(machine), _) => {
                    let subject = ask!(machine, cx, reply);
                    let exchange = subject.and_then(|subject| self.source.exchange(&subject, &self.want));
                    exchange.map(|exchange| Stage::Exchange(Box::new(exchange)))
                }
                (Stage::Exchange(exchange), _) => {
                    let result = ask!(&mut **exchange, cx, reply);
                    self.stage = Stage::Ended;
                    return Step::Done(result.map_err(Error::of_no_person));
                }
                (Stage::Begin | Stage::Ended, _) => Err(Error::misuse("an external account")),
            };
            match next {
                Ok(stage) => self.stage = stage,
                Err(error) => {
                    self.stage = Stage::Ended;
                    return Step::Done(Err(error.during("minting for an external account", None)));
                }
            }
        }
    }
}
