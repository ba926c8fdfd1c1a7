//! What each request asks of a client's id and secret: it is found out once, when they are set.

use std::sync::Arc;

use super::{Client, Inner, Method};
use crate::Error;
use crate::exchange::{filled_in, push_encoded, unpadded, vschar};

impl Inner {
    pub(super) fn new(id: Arc<str>, method: Method) -> Self {
        let mut encoded = String::with_capacity(id.len());
        push_encoded(&mut encoded, &id);
        Self {
            encoded_id: if *encoded == *id { id.clone() } else { encoded.into() },
            checked: check(&id, &method),
            id,
            method,
            issuer: None,
            identity: None,
            id_tokens: Default::default(),
            dpop: None,
            fapi: false,
            message_signing: false,
        }
    }

    pub(super) fn authenticate(&mut self, method: Method) {
        self.checked = check(&self.id, &method);
        self.method = method;
    }
}

impl Client {
    /// Refuses an id or a secret that no server can know: what copying or an empty variable left of it. Nobody is sent to
    /// sign in with such a one, since all that the server's page or answer says is that it does not know it.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.0.checked.clone()
    }

    /// The `client_id` as a form holds it.
    pub(crate) fn encoded_id(&self) -> &str {
        &self.0.encoded_id
    }
}

fn check(id: &str, method: &Method) -> Result<(), Error> {
    if id.is_empty() {
        return Err(Error::config("the client_id is empty"));
    }
    unpadded("client_id", id)?;
    vschar("client_id", id)?;
    filled_in(id)?;
    match method {
        Method::Post(secret) => unpadded("client_secret", secret.expose()),
        Method::Basic { secret, raw } => {
            unpadded("client_secret", secret.expose())?;
            vschar("client_secret", secret.expose())?;
            // It would end the user's name too early (RFC 7617, section 2).
            if *raw && id.contains(':') {
                let why = "the client_id holds a colon, which client_secret_basic_unencoded cannot send";
                return Err(Error::config(why));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Client, ClientAuthentication};

    #[test]
    fn the_authentication_that_was_set_last_is_the_one_that_counts() {
        let (none, padded) = (ClientAuthentication::none(), ClientAuthentication::client_secret_post("s3cret "));
        let raw = ClientAuthentication::client_secret_basic_unencoded("s3cret");
        for (client, sound) in [
            (Client::new("app"), true),
            (Client::new(""), false),
            (Client::new("${ID}").authentication(none.clone()), false),
            (Client::new("app").authentication(padded.clone()), false),
            (Client::new("app").authentication(padded.clone()).authentication(none.clone()), true),
            (Client::new("app").authentication(none).authentication(padded.clone()), false),
            (Client::new("app").authentication(padded).without_authentication(), true),
            (Client::new(" app").without_authentication(), false),
            (Client::new("a:b").authentication(raw.clone()), false),
            (Client::new("app").authentication(raw), true),
        ] {
            assert_eq!(client.check().is_ok(), sound, "{client:?}");
        }
    }

    #[test]
    fn an_id_is_encoded_as_a_form_holds_it() {
        for (id, encoded) in [("app-1.example", "app-1.example"), ("a b/ü", "a+b%2F%C3%BC"), ("", "")] {
            assert_eq!(Client::new(id).encoded_id(), encoded);
        }
    }
}
