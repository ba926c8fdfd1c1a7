//! Public documents over real sockets: read once for all who ask, and in nobody's way.

use super::*;

/// How often the addresses of metadata were asked: OpenID's and OAuth's.
fn read(front: &Front) -> [usize; 2] {
    [Place::OpenIdMetadata, Place::OAuthMetadata].map(|place| front.server().seen_at(place).len())
}

pub(super) fn a_thousand_credentials_that_begin_at_once_read_their_issuers_metadata_once<A: Adapter>() {
    for (has_openid, expected) in [(true, [1, 0]), (false, [1, 1])] {
        let front = Front::start(Server::demo()).unwrap();
        front.server().settings.openid_metadata = has_openid;
        let issuer = Issuer::new(front.issuer()).unwrap();
        let credentials = (0..1000).map(|_| Credential::client_credentials(issuer.clone(), &batch())).collect();
        for token in A::new().pool_of(credentials) {
            token.unwrap();
        }
        assert_eq!((read(&front), front.server().seen_at(Place::Token).len()), (expected, 1000));
    }
}

pub(super) fn a_document_that_is_being_read_keeps_nobody_from_another<A: Adapter>() {
    let [slow, known, new] = [0; 3].map(|_| Front::start(Server::demo()).unwrap());
    let credential = |front: &Front| Credential::client_credentials(Issuer::new(front.issuer()).unwrap(), &batch());
    let adapter = A::new();
    adapter.run(Discovery::new(&Issuer::new(known.issuer()).unwrap())).unwrap();
    slow.server().fail(Place::OpenIdMetadata, Fault::Delay(Duration::from_secs(2)));
    for token in adapter.pool_of([&slow, &known, &new].map(credential).into()) {
        token.unwrap();
    }
    let [slow, known, new] = [slow, known, new].map(|front| front.server().seen_at(Place::Token)[0].at);
    let before = slow - Duration::from_secs(1);
    assert!(known < before && new < before, "{known:?} {new:?} {slow:?}");
}
