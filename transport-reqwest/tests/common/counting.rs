//! Managers of tokens that are counted.

use grantflow::source::{TokenSource, Want};
use grantflow_reqwest::{TokenManager, Transport};
use grantflow_tests::counting::Counting;

pub(crate) fn tokens(last: usize) -> (Counting, TokenManager) {
    let source = Counting::up_to(last);
    (source.clone(), manager(source))
}

pub(crate) fn manager(source: impl TokenSource + 'static) -> TokenManager {
    TokenManager::new(&Transport::new().unwrap(), source, Want::default())
}
