//! A source of tokens that are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use grantflow::source::{GrantState, Mint, Minting, TokenSource, Want};
use grantflow::{Cx, Error, ErrorKind, Machine, Reply, Step, Token};
use http::{HeaderMap, HeaderValue};

/// A source of `token-1`, `token-2` and so on, up to the last. Requests with them name a quota project.
#[derive(Clone, Debug)]
pub struct Counting {
    minted: Arc<AtomicUsize>,
    last: usize,
}

impl Counting {
    /// One with so many tokens. Clones count together.
    pub fn up_to(last: usize) -> Self {
        Self { minted: Arc::default(), last }
    }

    /// How often it was asked.
    pub fn minted(&self) -> usize {
        self.minted.load(SeqCst)
    }
}

impl TokenSource for Counting {
    fn mint(&self, _: &Want, _: &GrantState) -> Mint {
        Box::new(self.clone())
    }
    fn request_headers(&self) -> HeaderMap {
        HeaderMap::from_iter([(
            "x-goog-user-project".parse().expect("a name"),
            HeaderValue::from_static("demo-project"),
        )])
    }
}

impl Minting for Counting {}

impl Machine for Counting {
    type Output = Token;
    fn resume(&mut self, cx: &mut Cx, _: Reply) -> Step<Token> {
        let number = self.minted.fetch_add(1, SeqCst) + 1;
        if number > self.last {
            return Step::Done(Err(Error::new(ErrorKind::Transport, "there are no more")));
        }
        Step::Done(Token::bearer(&format!("token-{number}"), cx.now().wall, None))
    }
}
