//! What shows to Google's STS who a program is: [`SubjectToken`], and where they come from.

use std::fmt;

use crate::machine::Identity;
use crate::{Cx, Error, Machine, Reply, Secret, Step};

/// What a source of subject tokens is asked for.
#[non_exhaustive]
#[derive(Clone, Copy, Debug)]
pub struct SubjectTokenContext<'a> {
    /// The provider that takes the token, as a name of IAM.
    pub audience: &'a str,
    /// Of which kind the token is to be.
    pub subject_token_type: &'a str,
    /// The service account that is impersonated with it.
    pub impersonated: Option<&'a str>,
}

/// What shows to Google's STS who a program is.
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

    /// The certificate to show to STS besides: see [`Request::identity`](crate::exchange::Request::identity).
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

/// Where subject tokens come from. A closure is one, for tokens that are there at once.
pub trait SubjectTokens: Send + Sync {
    /// A machine that gets a subject token: a fresh one each time.
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
