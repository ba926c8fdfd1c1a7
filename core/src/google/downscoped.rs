//! Tokens that are good for less than the credential that they come from (Credential Access Boundary, server side).

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::scopes::CLOUD_PLATFORM;
use super::{DEFAULT_UNIVERSE, hosts};
use crate::machine::ask;
use crate::server::Issuer;
use crate::source::{Base, GrantState, Mint, Minting, Refusal, TokenSource, Want, WantKind, cannot};
use crate::{Cx, Error, Machine, Reply, Secret, ServerMetadata, Step, Token, TokenExchange, TokenRequest, token_type};

/// What a boundary may hold at the most.
const MAX_RULES: usize = 10;

/// One rule of a boundary: permissions of a role, on one resource. Only Cloud Storage knows boundaries.
///
/// ```
/// use grantflow::google::AccessBoundaryRule;
///
/// let bucket = "//storage.googleapis.com/projects/_/buckets/demo-bucket";
/// let rule = AccessBoundaryRule::new(bucket, ["inRole:roles/storage.objectViewer"])
///     .condition("resource.name.startsWith('projects/_/buckets/demo-bucket/objects/public/')");
/// # let _ = rule;
/// ```
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessBoundaryRule {
    available_permissions: Vec<String>,
    available_resource: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    availability_condition: Option<Condition>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Condition {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    expression: String,
}

impl AccessBoundaryRule {
    /// A rule with these permissions, each of the form `inRole:roles/storage.objectViewer`, on the resource of this
    /// full name.
    pub fn new<S: Into<String>>(resource: &str, permissions: impl IntoIterator<Item = S>) -> Self {
        Self {
            available_permissions: permissions.into_iter().map(Into::into).collect(),
            available_resource: resource.to_owned(),
            availability_condition: None,
        }
    }

    /// Limits the rule to where this expression in the Common Expression Language is true.
    pub fn condition(self, expression: &str) -> Self {
        self.conditioned(|condition| condition.expression = expression.to_owned())
    }

    /// Gives the condition a title.
    pub fn title(self, title: &str) -> Self {
        self.conditioned(|condition| condition.title = Some(title.to_owned()))
    }

    /// Describes the condition.
    pub fn description(self, description: &str) -> Self {
        self.conditioned(|condition| condition.description = Some(description.to_owned()))
    }

    fn conditioned(mut self, change: impl FnOnce(&mut Condition)) -> Self {
        change(self.availability_condition.get_or_insert_default());
        self
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = |what: &'static str| Err(Error::config(what));
        if self.available_resource.trim().is_empty() {
            return wrong("a rule of an access boundary names no resource");
        }
        if self.available_permissions.is_empty() {
            return wrong("a rule of an access boundary names no permission");
        }
        if !self.available_permissions.iter().all(|permission| permission.starts_with("inRole:")) {
            return wrong("a permission of an access boundary begins with inRole:");
        }
        if self.availability_condition.as_ref().is_some_and(|condition| condition.expression.trim().is_empty()) {
            return wrong("a condition of an access boundary has no expression");
        }
        Ok(())
    }
}

/// A source of tokens that are good only for what their rules name, to be handed to a program that is trusted with no
/// more.
///
/// ```
/// use grantflow::google::{AccessBoundaryRule, Downscoped, MetadataServer};
///
/// let bucket = "//storage.googleapis.com/projects/_/buckets/demo-bucket";
/// let rule = AccessBoundaryRule::new(bucket, ["inRole:roles/storage.objectViewer"]);
/// let source = Downscoped::new(MetadataServer::new(), [rule])?;
/// # let _ = source;
/// # Ok::<(), grantflow::Error>(())
/// ```
///
/// All wants get the same token, unless the rules are made [by the want](Self::by_want): the rules alone say what a
/// token is good for. The base's token is kept for as long as it is good.
#[derive(Clone)]
pub struct Downscoped {
    base: Base,
    base_want: Want,
    server: ServerMetadata,
    rules: Rules,
}

/// Makes the rules of a want.
type ByWant = dyn Fn(&Want) -> Result<Vec<AccessBoundaryRule>, Error> + Send + Sync;

#[derive(Clone)]
enum Rules {
    /// The boundary of every token, as JSON.
    Fixed(Arc<str>),
    OfWant(Arc<ByWant>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Options<'a> {
    access_boundary: Boundary<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Boundary<'a> {
    access_boundary_rules: &'a [AccessBoundaryRule],
}

impl Downscoped {
    /// A source of tokens of `base` within these rules, of which there are 1 to 10.
    ///
    /// # Errors
    ///
    /// If there are no rules or too many, or if a rule is empty.
    pub fn new(base: impl Into<Base>, rules: impl IntoIterator<Item = AccessBoundaryRule>) -> Result<Self, Error> {
        let rules = Rules::Fixed(options(&rules.into_iter().collect::<Vec<_>>())?);
        Ok(Self {
            base: base.into(),
            base_want: Want::access_token(CLOUD_PLATFORM),
            server: server(DEFAULT_UNIVERSE)?,
            rules,
        })
    }

    /// A source of tokens of `base` within rules that this function makes of each want, such as one bucket for each
    /// tenant. One token of the base serves all of them. A want names its tenant by [`audience`](Want::audience) or
    /// [`resource`](Want::resource), which are not sent.
    ///
    /// ```
    /// use grantflow::google::{AccessBoundaryRule, Downscoped, MetadataServer};
    /// use grantflow::source::Want;
    ///
    /// let source = Downscoped::by_want(MetadataServer::new(), |want: &Want| {
    ///     let tenant = want.wanted_audience().unwrap_or("nobody");
    ///     let bucket = format!("//storage.googleapis.com/projects/_/buckets/demo-{tenant}");
    ///     Ok(vec![AccessBoundaryRule::new(&bucket, ["inRole:roles/storage.objectViewer"])])
    /// })?;
    /// // For a `TokenPool` of an adapter, which keeps one token for each tenant.
    /// let want = Want::default().audience("blue");
    /// # let _ = (source, want);
    /// # Ok::<(), grantflow::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// None for the rules: an empty rule is an error of its want.
    pub fn by_want(
        base: impl Into<Base>,
        rules: impl Fn(&Want) -> Result<Vec<AccessBoundaryRule>, Error> + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let rules = Rules::OfWant(Arc::new(rules));
        Ok(Self {
            base: base.into(),
            base_want: Want::access_token(CLOUD_PLATFORM),
            server: server(DEFAULT_UNIVERSE)?,
            rules,
        })
    }

    /// Sets what is wanted of the base; by default an access token with the scope of all of Google Cloud.
    pub fn base_want(mut self, want: Want) -> Self {
        self.base_want = want;
        self
    }

    /// Asks STS of another universe than `googleapis.com`.
    ///
    /// # Errors
    ///
    /// If the text is no domain.
    pub fn with_universe_domain(mut self, domain: &str) -> Result<Self, Error> {
        self.server = server(domain)?;
        Ok(self)
    }

    /// The boundary of this want, as JSON.
    fn options(&self, want: &Want) -> Result<Arc<str>, Error> {
        match &self.rules {
            Rules::Fixed(options) if *want == Want::default() => Ok(options.clone()),
            Rules::Fixed(_) => Err(cannot("gives access tokens for what its rules say, without scopes")),
            Rules::OfWant(rules) => {
                let named = want.wanted_subject().is_some() || want.wanted_account().is_some();
                if want.kind() != WantKind::AccessToken || !want.scopes().is_empty() || named {
                    return Err(cannot("gives access tokens for an audience or resources, without scopes"));
                }
                options(&rules(want)?)
            }
        }
    }

    fn request(&self, subject: &Token, options: &str) -> Result<TokenExchange, Error> {
        let (token, kind) = (Secret::from(subject.access_token()), token_type::ACCESS_TOKEN);
        let request = TokenRequest::token_exchange_of(&self.server, None, &token, kind)?;
        Ok(request.requested_token_type(kind).extra("options", options).exchange())
    }
}

/// A boundary as JSON.
fn options(rules: &[AccessBoundaryRule]) -> Result<Arc<str>, Error> {
    if rules.is_empty() || rules.len() > MAX_RULES {
        return Err(Error::config("an access boundary has 1 to 10 rules"));
    }
    rules.iter().try_for_each(AccessBoundaryRule::check)?;
    let options = Options { access_boundary: Boundary { access_boundary_rules: rules } };
    let options = serde_json::to_string(&options)
        .map_err(|e| Error::config("the access boundary cannot be written as JSON").with_source(e))?;
    Ok(options.into())
}

fn server(universe_domain: &str) -> Result<ServerMetadata, Error> {
    if !hosts::is_domain(universe_domain) {
        return Err(Error::config("the universe is no domain"));
    }
    let address = format!("https://sts.{universe_domain}/v1/token");
    ServerMetadata::new(Issuer::of_origin(&address)?).token_endpoint(&address)
}

impl TokenSource for Downscoped {
    fn mint(&self, want: &Want, state: &GrantState) -> Mint {
        let options = match self.options(want) {
            Ok(options) => options,
            Err(error) => return Box::new(Refusal(error)),
        };
        let source = self.clone();
        let with = move |subject: &Token| -> Result<Mint, Error> {
            let exchange = Box::new(source.request(subject, &options)?);
            Ok(Box::new(Downscoping { exchange, end: subject.expires_at() }))
        };
        self.base.mint(&self.base_want, state, Box::new(with))
    }

    fn first_state(&self) -> GrantState {
        self.base.first_state(&self.base_want)
    }

    fn may_change(&self, state: &GrantState) -> bool {
        state.must_mint_base()
    }
}

impl fmt::Debug for Downscoped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downscoped").field("base", &self.base).finish_non_exhaustive()
    }
}

/// Exchanges the base's token.
struct Downscoping {
    exchange: Box<TokenExchange>,
    /// When the base's token ends, and with it the tokens made of it.
    end: Option<crate::Timestamp>,
}

impl Minting for Downscoping {}

impl Machine for Downscoping {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        let result = ask!(&mut *self.exchange, cx, reply);
        Step::Done(result.map(|token| token.or_ending(self.end)))
    }
}
