//! Subject tokens of AWS: a signed request that proves the identity of this machine, which Google's STS repeats at AWS.
//!
//! ```text
//! Variables ─▶ Session (IMDSv2) ─▶ Region ─▶ Role ─▶ Credentials ─▶ done: the request, signed
//!     │            (each only if what it gives is not known yet)      ▲
//!     └─────────────────────────────────────────────────────────────┘
//! ```
//!
//! The signed request is never sent from here.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use url::{Url, form_urlencoded};

use super::imds;
use super::sigv4::{self, AwsCredentials, Unsigned};
use super::subject::{SubjectToken, SubjectTokenContext, SubjectTokenMachine, SubjectTokens};
use crate::exchange::Request;
use crate::google::file::File;
use crate::google::hosts::Trust;
use crate::machine::ask;
use crate::server::Endpoint;
use crate::{Cx, Effect, Error, ErrorKind, Exchange, Machine, Reply, Secret, Step};

const DOING: &str = "asking AWS who this machine is";
const VERIFY: &str = "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15";
const VARIABLES: [&str; 5] =
    ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// What gives credentials of AWS, where neither variables nor the instance's metadata do, as on Lambda, ECS and EKS.
type Supplier = Arc<dyn Fn() -> Result<AwsCredentials, Error> + Send + Sync>;

/// The AWS account that a program runs in, as a source of subject tokens: from `AWS_REGION`, `AWS_ACCESS_KEY_ID` and
/// the variables beside them, or else from the metadata of an EC2 instance.
///
/// ```
/// use grantflow::google::{AwsCredentials, AwsIdentity, ExternalAccount};
///
/// // On Lambda, ECS and EKS the credentials come from elsewhere, such as AWS's own SDK.
/// let aws = AwsIdentity::supplied("us-east-2", || Ok(AwsCredentials::new("ASIAEXAMPLE", "s3cret").with_session_token("t")));
/// let audience = "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/pool/providers/aws";
/// let source = ExternalAccount::new(audience, ExternalAccount::AWS, aws)?;
/// # let _ = source;
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct AwsIdentity {
    region_url: Option<Endpoint>,
    credentials_url: Option<Endpoint>,
    session_url: Option<Endpoint>,
    verification_url: Box<str>,
    supplied: Option<(Box<str>, Supplier)>,
}

impl Default for AwsIdentity {
    fn default() -> Self {
        let at = |path: &str| Endpoint::metadata_server(&format!("http://169.254.169.254/latest/{path}")).ok();
        Self {
            region_url: at("meta-data/placement/availability-zone"),
            credentials_url: at("meta-data/iam/security-credentials"),
            session_url: at("api/token"),
            verification_url: VERIFY.into(),
            supplied: None,
        }
    }
}

impl AwsIdentity {
    /// Takes the credentials from variables, or from the metadata of the EC2 instance, which is asked by its second
    /// version.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the credentials that the caller gives, each time that a token is wanted.
    pub fn supplied(
        region: &str,
        credentials: impl Fn() -> Result<AwsCredentials, Error> + Send + Sync + 'static,
    ) -> Self {
        Self { supplied: Some((region.into(), Arc::new(credentials))), ..Self::default() }
    }

    /// The source that a file describes.
    pub(super) fn parse(source: &File<'_>, trust: Trust) -> Result<Self, Error> {
        let id = source.need("environment_id")?;
        match id.strip_prefix("aws").map(str::parse::<u32>) {
            Some(Ok(1)) => {}
            Some(Ok(_)) => return Err(source.wrong("environment_id", "is of a later version than this library knows")),
            _ => return Err(source.wrong("environment_id", "is no environment that is known: aws1 is")),
        }
        let at = |name: &str| -> Result<Option<Endpoint>, Error> {
            let Some(address) = source.text(name)? else { return Ok(None) };
            if trust < Trust::Server && !imds::is_at(address) {
                return Err(source.wrong(name, "is not at 169.254.169.254, where instances of AWS have their metadata"));
            }
            imds::endpoint(address).map(Some).map_err(|error| source.wrong(name, "cannot be used").with_source(error))
        };
        let verification_url = source.text("regional_cred_verification_url")?.unwrap_or(VERIFY);
        let verify = Verify::new(verification_url, "us-east-1");
        if verify.is_none_or(|verify| trust < Trust::Server && !verify.is_of_aws()) {
            let why = "is not GetCallerIdentity at AWS, which alone is signed for";
            return Err(source.wrong("regional_cred_verification_url", why));
        }
        Ok(Self {
            region_url: at("region_url")?,
            credentials_url: at("url")?,
            session_url: at("imdsv2_session_token_url")?,
            verification_url: verification_url.into(),
            supplied: None,
        })
    }
}

impl fmt::Debug for AwsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsIdentity").field("supplied", &self.supplied.is_some()).finish_non_exhaustive()
    }
}

/// The request that is signed.
struct Verify {
    url: Url,
}

impl Verify {
    fn new(template: &str, region: &str) -> Option<Self> {
        let url = Url::parse(&template.replace("{region}", region)).ok()?;
        let plain = url.scheme() == "https" && url.username().is_empty() && url.password().is_none();
        (plain && url.host_str().is_some() && url.fragment().is_none()).then_some(Self { url })
    }

    fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    fn service(&self) -> &str {
        let label = self.host().split('.').next().unwrap_or_default();
        label.strip_suffix("-fips").unwrap_or(label)
    }

    /// Whether it asks AWS, and nothing else than who asks.
    fn is_of_aws(&self) -> bool {
        let domains = [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"];
        let asks = |(name, value): (Cow<'_, str>, Cow<'_, str>)| name == "Action" && value == "GetCallerIdentity";
        let mut query = self.url.query_pairs();
        self.service() == "sts"
            && domains.iter().any(|domain| self.host().ends_with(domain))
            && self.url.port().is_none()
            && self.url.path() == "/"
            && query.clone().any(asks)
            && query.all(|pair| pair.0 == "Version" || asks(pair))
    }
}

impl SubjectTokens for AwsIdentity {
    fn subject_token(&self, context: &SubjectTokenContext<'_>) -> SubjectTokenMachine {
        Box::new(Asking {
            source: self.clone(),
            audience: context.audience.into(),
            stage: Stage::Begin,
            variables: Default::default(),
            session: None,
            region: None,
            credentials: None,
        })
    }
}

struct Asking {
    source: AwsIdentity,
    audience: Box<str>,
    stage: Stage,
    /// What is set and not empty, in the order of [`VARIABLES`].
    variables: [Option<Secret>; VARIABLES.len()],
    session: Option<Secret>,
    region: Option<Box<str>>,
    credentials: Option<AwsCredentials>,
}

enum Stage {
    Begin,
    /// The variable with this number was asked for.
    Variables(usize),
    Session(Box<Exchange<Secret>>),
    Region(Box<Exchange<String>>),
    Role(Box<Exchange<String>>),
    Credentials(Box<Exchange<AwsCredentials>>),
    Ended,
}

impl Machine for Asking {
    type Output = SubjectToken;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<SubjectToken> {
        loop {
            let next = match &mut self.stage {
                Stage::Begin => match std::mem::take(&mut reply) {
                    Reply::Start => match self.source.supplied.clone() {
                        Some((region, supplier)) => self.supplied(region, &supplier),
                        None => match self.variable(0) {
                            Some(effect) => return Step::Do(effect),
                            None => Ok(()),
                        },
                    },
                    _ => Err(Error::misuse("asking AWS")),
                },
                Stage::Variables(nth) => {
                    let nth = *nth;
                    match self.set(nth, std::mem::take(&mut reply)) {
                        Ok(()) => match self.variable(nth.saturating_add(1)) {
                            Some(effect) => return Step::Do(effect),
                            None => self.variables_read(),
                        },
                        Err(error) => Err(error),
                    }
                }
                Stage::Session(exchange) => {
                    let session = ask!(&mut **exchange, cx, reply);
                    session.and_then(|session| {
                        self.session = Some(session);
                        self.go_on()
                    })
                }
                Stage::Region(exchange) => {
                    let zone = ask!(&mut **exchange, cx, reply).map_err(|error| self.demands_session(error));
                    zone.and_then(|zone| {
                        self.region = Some(imds::region_of(&zone)?);
                        self.go_on()
                    })
                }
                Stage::Role(exchange) => {
                    let role = ask!(&mut **exchange, cx, reply).map_err(|error| self.demands_session(error));
                    role.and_then(|role| self.ask_credentials(&role))
                }
                Stage::Credentials(exchange) => {
                    let credentials = ask!(&mut **exchange, cx, reply);
                    credentials.and_then(|credentials| {
                        self.credentials = Some(credentials);
                        self.go_on()
                    })
                }
                Stage::Ended => Err(Error::misuse("asking AWS")),
            };
            if let Err(error) = next {
                self.stage = Stage::Ended;
                return Step::Done(Err(error.during(DOING, None)));
            }
            if let (Some(region), Some(credentials)) = (&self.region, &self.credentials) {
                let signed = self.signed(region, credentials, cx.now().wall);
                self.stage = Stage::Ended;
                return Step::Done(signed.map_err(|error| error.during(DOING, None)));
            }
        }
    }
}

impl Asking {
    fn supplied(&mut self, region: Box<str>, supplier: &Supplier) -> Result<(), Error> {
        self.region = Some(imds::check_region(&region)?);
        self.credentials = Some(supplier()?);
        Ok(())
    }

    /// Asks for the variable with this number, if there is one.
    fn variable(&mut self, nth: usize) -> Option<Effect> {
        let name = VARIABLES.get(nth)?;
        self.stage = Stage::Variables(nth);
        Some(Effect::Env(name))
    }

    fn set(&mut self, nth: usize, reply: Reply) -> Result<(), Error> {
        let value = match reply {
            Reply::Env(value) => value,
            Reply::Refused => None,
            _ => return Err(Error::misuse("asking AWS")),
        };
        let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(()) };
        let text = value
            .into_string()
            .map_err(|_| Error::config(format!("{} is no text", VARIABLES.get(nth).copied().unwrap_or_default())))?;
        let text = Secret::from(text);
        if let Some(variable) = self.variables.get_mut(nth) {
            let trimmed = text.expose().trim();
            *variable = (!trimmed.is_empty()).then(|| Secret::from(trimmed));
        }
        Ok(())
    }

    fn variables_read(&mut self) -> Result<(), Error> {
        let [region, default_region, id, secret, session] = std::mem::take(&mut self.variables);
        self.region = region.or(default_region).map(|region| imds::check_region(region.expose())).transpose()?;
        self.credentials = match (id, secret) {
            (Some(id), Some(secret)) => {
                let credentials = AwsCredentials::new(id.expose(), secret);
                Some(session.into_iter().fold(credentials, AwsCredentials::with_session_token))
            }
            (None, None) => None,
            _ => {
                return Err(Error::config(
                    "of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY one is set, and both are needed",
                ));
            }
        };
        self.go_on()
    }

    /// Asks the instance's metadata for what is not known yet.
    fn go_on(&mut self) -> Result<(), Error> {
        if self.region.is_some() && self.credentials.is_some() {
            return Ok(());
        }
        if let (None, Some(address)) = (&self.session, &self.source.session_url) {
            self.stage = Stage::Session(Box::new(imds::session(address)));
            return Ok(());
        }
        if self.region.is_none() {
            let address = self.source.region_url.as_ref();
            let address = address.ok_or_else(|| nowhere("region_url", "AWS_REGION"))?;
            self.stage = Stage::Region(Box::new(self.get("asking EC2 for its region", address).exchange(imds::text)));
            return Ok(());
        }
        let address = self.source.credentials_url.as_ref();
        let address = address.ok_or_else(|| nowhere("url", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"))?;
        let exchange = self.get("asking EC2 for its role", address).exchange(imds::text);
        self.stage = Stage::Role(Box::new(exchange));
        Ok(())
    }

    /// What an instance says that answers the second version alone, to one who asks by the first.
    fn demands_session(&self, error: Error) -> Error {
        if error.status() != Some(401) || self.source.session_url.is_some() {
            return error;
        }
        let why = "this instance demands IMDSv2, and the file has no `imdsv2_session_token_url`: create it with --enable-imdsv2";
        Error::config(why).with_status(401).with_source(error)
    }

    fn ask_credentials(&mut self, role: &str) -> Result<(), Error> {
        let sound =
            !role.is_empty() && role.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte));
        let Some(address) = self.source.credentials_url.as_ref().filter(|_| sound) else {
            return Err(Error::new(ErrorKind::InvalidResponse, "EC2 names no role: attach one to this instance"));
        };
        let address = imds::endpoint(&format!("{}/{role}", address.as_str().trim_end_matches('/')))?;
        let exchange = self.get("asking EC2 for the credentials of its role", &address).exchange(imds::credentials);
        self.stage = Stage::Credentials(Box::new(exchange));
        Ok(())
    }

    fn get(&self, doing: &'static str, address: &Endpoint) -> Request {
        imds::get(doing, address, self.session.as_ref())
    }

    fn signed(&self, region: &str, credentials: &AwsCredentials, now: crate::Timestamp) -> Result<SubjectToken, Error> {
        let template = &*self.source.verification_url;
        let verify = Verify::new(template, region).ok_or_else(|| Error::config("the region is none"))?;
        let unsigned = Unsigned {
            method: "POST",
            host: verify.host(),
            path: verify.url.path(),
            query: verify.url.query().unwrap_or_default(),
            headers: &[("x-goog-cloud-target-resource", &self.audience)],
            region,
            service: verify.service(),
        };
        let signed = sigv4::sign(&unsigned, credentials, now);
        let headers = signed.iter().map(|(key, value)| Header { key, value: value.expose() }).collect();
        let url = template.replace("{region}", region);
        let json = serde_json::to_string(&SignedRequest { url: &url, method: "POST", headers });
        let json = zeroize::Zeroizing::new(json.map_err(|e| Error::config("the request is no JSON").with_source(e))?);
        let mut encoded = String::with_capacity(json.len().saturating_mul(3));
        // What the server decodes is no form.
        encoded.extend(
            form_urlencoded::byte_serialize(json.as_bytes()).map(|part| if part == "+" { "%20" } else { part }),
        );
        Ok(SubjectToken::new(encoded))
    }
}

/// The signed request, as Google's STS takes it.
#[derive(Serialize)]
struct SignedRequest<'a> {
    url: &'a str,
    method: &'static str,
    headers: Vec<Header<'a>>,
}

#[derive(Serialize)]
struct Header<'a> {
    key: &'a str,
    value: &'a str,
}

fn nowhere(member: &str, variable: &str) -> Error {
    Error::config(format!("{variable} is not set, and the file's credential_source has no `{member}` to ask instead"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_signed_but_the_question_who_asks() {
        let is_of_aws = |address: &str| Verify::new(address, "us-east-2").is_some_and(|verify| verify.is_of_aws());
        for good in [
            VERIFY,
            "https://sts.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15",
            "https://sts-fips.{region}.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15",
            "https://sts.cn-north-1.amazonaws.com.cn?Action=GetCallerIdentity&Version=2011-06-15",
        ] {
            assert!(is_of_aws(good), "{good}");
        }
        for bad in [
            "https://iam.amazonaws.com?Action=DeleteUser&UserName=x",
            "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Action=AssumeRole",
            "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&RoleArn=x",
            "https://sts.amazonaws.com.attacker.example?Action=GetCallerIdentity",
            "https://sts.evilamazonaws.com?Action=GetCallerIdentity",
            "http://sts.amazonaws.com?Action=GetCallerIdentity",
            "https://sts.amazonaws.com/x?Action=GetCallerIdentity",
            "https://sts.amazonaws.com",
        ] {
            assert!(!is_of_aws(bad), "{bad}");
        }
    }
}
