//! Software statements (RFC 7591, section 2.3).

use grantflow_tests::IssuerKey;
use grantflow_tests::jwt::PublicKey;

use super::*;

#[test]
fn what_a_software_statement_says_wins_over_what_is_said_beside_it_and_the_client_is_told() {
    let vouching = IssuerKey::es256("directory");
    let mut world = world(|settings| settings.software_key = Some(PublicKey::Es256(vouching.public())));
    let says = json!({"iss": "https://directory.example", "software_id": "4NRB1-0XZABZI9E6", "client_name": "Vouched for",
        "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "client_secret_post"});
    let statement = vouching.sign("JWT", &says);
    let registered = register(&mut world, native().software_statement(&statement)).unwrap();
    assert_eq!(body(&mut world, Place::Registration)["software_statement"], statement.as_str());
    let changes: Vec<_> = registered.changes().map(|change| (change.name, change.registered.cloned())).collect();
    let told = [("client_name", "Vouched for"), ("token_endpoint_auth_method", "client_secret_post")];
    assert_eq!(changes, told.map(|(name, value)| (name, Some(json!(value)))));
    // What nobody asked for is there, and the statement comes back as it was (section 3.2.1).
    assert_eq!(registered.metadata().str("software_id"), Some("4NRB1-0XZABZI9E6"));
    assert_eq!(registered.metadata().str("software_statement"), Some(&*statement));
    let client = registered.client().unwrap();
    sign_in(&mut world, &registered, &client).unwrap();
    assert!(world.server().seen_at(Place::Token)[0].param("client_secret").is_some(), "as the statement says");
    assert!(registered.client_with(ClientAuthentication::none()).is_err(), "and not as the client asked");
    // It may say all that there is to say.
    let alone = ClientMetadata::new().application_type("native").software_statement(&statement);
    let registered = register(&mut world, alone).unwrap();
    let client = registered.client().unwrap();
    sign_in(&mut world, &registered, &client).unwrap();
    // Another key's, one that was changed, and one that names nobody are refused by the server.
    let forged = IssuerKey::es256("directory").sign("JWT", &says);
    let ((signed, _), (_, other)) = (statement.rsplit_once('.').unwrap(), forged.rsplit_once('.').unwrap());
    for (wrong, error) in [
        (forged.clone(), "unapproved_software_statement"),
        (format!("{signed}.{other}"), "unapproved_software_statement"),
        (vouching.sign("JWT", &json!({"client_name": "Vouched for"})), "invalid_software_statement"),
    ] {
        let told = register(&mut world, native().software_statement(&wrong)).unwrap_err();
        assert_eq!(told.server().unwrap().error(), error);
        hidden_in_error(&told, &[&wrong]);
    }
}
