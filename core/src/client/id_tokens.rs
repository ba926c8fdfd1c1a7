//! What a client is registered for at an OpenID provider: the algorithms of its ID tokens and signed answers.

use crate::crypto::{Algorithm, MacAlgorithm};

/// What the ID tokens of a client are like.
#[derive(Clone, Default)]
pub(crate) struct IdTokens {
    pub(crate) signed: Option<SignedBy>,
    /// By which algorithm its authorization answers are signed.
    pub(crate) answers: Option<Algorithm>,
    /// Who else they may be for.
    pub(crate) audiences: Vec<Box<str>>,
}

/// What they are signed by.
#[derive(Clone, Copy)]
pub(crate) enum SignedBy {
    /// A key of the server's, by this algorithm.
    Key(Algorithm),
    /// A key of the server's, by one of these.
    Keys(&'static [Algorithm]),
    /// The client's secret.
    Secret(MacAlgorithm),
}
