//! What most tests begin with: the clients of [`Server::demo`] and a person who has signed in.

use grantflow::{AuthorizationRequest, Client, ClientAuthentication, DeviceAuthorization, DeviceCode, Token};

use crate::{Server, World};

/// A redirect URI of the client `demo`.
pub const REDIRECT: &str = "http://127.0.0.1:49152/callback";

/// The public client.
pub fn client() -> Client {
    Client::new("demo")
}

/// The confidential client.
pub fn batch() -> Client {
    Client::new("batch").authentication(ClientAuthentication::client_secret_basic("batch-secret"))
}

/// A request of the public client for these scopes.
pub fn request(server: &Server, scopes: &str) -> AuthorizationRequest {
    AuthorizationRequest::new(&server.metadata(), &client(), REDIRECT).scopes(scopes)
}

/// The token of a person who signed in and allowed these scopes.
///
/// # Panics
///
/// If that does not succeed.
pub fn signed_in(world: &mut World, scopes: &str) -> Token {
    let request = request(world.server(), scopes);
    world.sign_in(request, &client()).expect("the person signs in")
}

/// The code that a device of the public client shows to get these scopes.
///
/// # Panics
///
/// If it gets none.
pub fn device_code(world: &mut World, scopes: &str) -> DeviceCode {
    let request = DeviceAuthorization::new(&world.server().metadata(), &client()).expect("the server takes devices");
    world.run(request.scopes(scopes).exchange()).expect("a code")
}
