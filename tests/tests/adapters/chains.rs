//! Chains in both adapters' pools: many wants at once over one token of the base.

use grantflow::source::{Credential, ExchangedToken, TokenSource as _, Want};

use super::*;

fn asked(front: &Front, grant_type: &str) -> usize {
    let server = front.server();
    let seen = server.seen_at(Place::Token);
    seen.iter().filter(|seen| seen.param("grant_type").is_some_and(|it| it.ends_with(grant_type))).count()
}

pub(super) fn many_wants_at_once_take_one_token_of_their_base_and_drop_it_once<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    front.server().settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO };
    let server = front.metadata();
    let adapter = A::new();
    let (token, _) = sign_in(&adapter, app(&front), |url| person::visit(&url).unwrap());
    let refresh_token = token.unwrap().refresh_token().unwrap().clone();
    let base = Credential::refresh_token(&server, &client(), refresh_token);
    let source = ExchangedToken::new(base, &server, &batch());
    assert!(source.may_change(&source.first_state()));
    let wants = |from: usize| -> Vec<Want> {
        (from..from + 40).map(|nth| Want::access_token("read").resource(&format!("https://{nth}.example/"))).collect()
    };
    let revoke = || front.server().end_access_tokens();
    let tokens = adapter.pool_tokens(source, [wants(0), wants(40)], &revoke);
    for token in tokens {
        token.unwrap();
    }
    // The second forty find that the token of the base is refused.
    assert_eq!(asked(&front, "refresh_token"), 2);
    let exchanges = asked(&front, "token-exchange");
    assert!((80..=80 + 40 + 1).contains(&exchanges), "{exchanges}");
}
