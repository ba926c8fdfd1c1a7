//! The proof of a program's identity for Google's STS: [`SubjectToken`], and its sources.

use std::fmt;

use crate::machine::Identity;
use crate::{Cx, Error, Machine, Reply, Secret, Step};

/// The context in which a subject token is asked for.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct SubjectTokenContext<'a> {
    /// The provider that takes the token, by its name in IAM.
    pub audience: &'a str,
    /// The kind of token to give.
    pub subject_token_type: &'a str,
    /// The service account that is impersonated with the token.
    pub impersonated: Option<&'a str>,
}

/// The proof of a program's identity for Google's STS.
#[derive(Clone)]
pub struct SubjectToken {
    pub(super) token: Secret,
    pub(super) identity: Option<Identity>,
}

impl SubjectToken {
    /// A token of the kind that was asked for.
    pub fn new(token: impl Into<Secret>) -> Self {
        Self { token: token.into(), identity: None }
    }

    /// Adds the certificate to present to STS: see [`Request::identity`](crate::exchange::Request::identity).
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }
}

impl fmt::Debug for SubjectToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubjectToken").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// A machine that gets one subject token.
pub type SubjectTokenMachine = Box<dyn Machine<Output = SubjectToken> + Send>;

/// A source of subject tokens. A closure is one, for tokens that are at hand.
pub trait SubjectTokens: Send + Sync {
    /// The machine that gets a subject token: a fresh one each time.
    fn subject_token(&self, context: &SubjectTokenContext<'_>) -> SubjectTokenMachine;
}

impl<F> SubjectTokens for F
where
    F: Fn() -> Result<SubjectToken, Error> + Send + Sync,
{
    fn subject_token(&self, _: &SubjectTokenContext<'_>) -> SubjectTokenMachine {
        Box::new(There(Some(self())))
    }
}

/// A subject token that is there.
struct There(Option<Result<SubjectToken, Error>>);

impl Machine for There {
    type Output = SubjectToken;
    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<SubjectToken> {
        let there = self.0.take().filter(|_| matches!(reply, Reply::Start));
        Step::Done(there.unwrap_or_else(|| Err(Error::misuse("a subject token"))))
    }
}
