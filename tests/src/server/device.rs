//! The device authorization endpoint, the page where a person enters the code, and the questions of the
//! device meanwhile (RFC 8628).

use std::time::Duration;

use grantflow::{Scopes, Timestamp};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::token::{Params, form, proves};
use super::{CLIENT, Place, RefreshTokens, Refusal, Registered, Server, answer, params, refuse, text};

/// The pause between two questions unless a server names another (section 3.2), and what each `slow_down`
/// adds (section 3.5).
const FIVE: Duration = Duration::from_secs(5);

/// A device that waits.
#[derive(Debug)]
pub(super) struct Device {
    client_id: String,
    user_code: String,
    scopes: Scopes,
    /// The challenge by S256, if one came.
    challenge: Option<String>,
    ends: Timestamp,
    interval: Duration,
    /// When it last asked, or got its code.
    asked: Timestamp,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Waiting,
    /// The person said yes: this is the grant.
    Granted(usize),
    /// The person said no: this is the error.
    Denied(&'static str),
    /// The token was handed out.
    Over,
}

impl Server {
    /// Section 3.1 and 3.2.
    pub(super) fn authorize_device(
        &mut self,
        now: Timestamp,
        request: &Request<Vec<u8>>,
    ) -> Result<Response<Vec<u8>>, Refusal> {
        // Google does not say that it knows PKCE here.
        let pkce: &[_] =
            if self.settings.device_like_google { &[] } else { &["code_challenge", "code_challenge_method"] };
        let known = [&CLIENT[..], &["scope"], pkce, &self.settings.extra_params[..]].concat();
        let params = form(request, &known)?;
        let challenge = match (params.get("code_challenge_method"), params.get("code_challenge")) {
            (Some(method), Some(challenge)) if method == "S256" && challenge.len() == 43 => Some(challenge.clone()),
            (None, None) if !self.settings.device_pkce => None,
            _ => return refuse("invalid_request", "PKCE is needed, with S256 by name"),
        };
        let client_id = self.authenticate(now, request, &params)?.id;
        let scopes = self.known_scopes(&params)?;
        let device_code = self.fresh("dc");
        let user_code = user_code(&device_code);
        let mut body = json!({"device_code": device_code, "user_code": user_code});
        let uri = self.address(Place::Verification);
        if self.settings.device_like_google {
            body["verification_url"] = uri.into();
        } else {
            body["verification_uri_complete"] = format!("{uri}?user_code={user_code}").into();
            body["verification_uri"] = uri.into();
        }
        body["expires_in"] = self.settings.device_lifetime.into();
        if let Some(interval) = self.settings.device_interval {
            body["interval"] = interval.into();
        }
        let device = Device {
            client_id,
            user_code,
            scopes,
            challenge,
            ends: now + Duration::from_secs(self.settings.device_lifetime),
            interval: self.settings.device_interval.map_or(FIVE, Duration::from_secs),
            asked: now,
            stage: Stage::Waiting,
        };
        self.devices.insert(device_code, device);
        self.settings.alter_device.apply(&mut body);
        Ok(answer(StatusCode::OK, &body))
    }

    /// Section 3.3: a person opens the page, with the code that they type or that is in the address, and
    /// decides.
    pub(super) fn verify_device(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        let query = request.uri().query().unwrap_or_default();
        let Ok(params) = params(query.as_bytes(), &["user_code"]) else {
            return text(StatusCode::BAD_REQUEST, "a parameter is unknown, empty or repeated");
        };
        let Some(user_code) = params.get("user_code") else {
            return text(StatusCode::OK, "enter the code that your device shows");
        };
        let known = self.devices.iter().find(|(_, device)| device.user_code == *user_code);
        let Some((device_code, device)) = known.filter(|(_, device)| now < device.ends) else {
            return text(StatusCode::NOT_FOUND, "no such code");
        };
        if !matches!(device.stage, Stage::Waiting) {
            return text(StatusCode::CONFLICT, "the code was entered before");
        }
        let (device_code, client_id, asked) = (device_code.clone(), device.client_id.clone(), device.scopes.clone());
        let (stage, told) = match self.consent(asked) {
            Ok(scopes) => {
                let subject = self.settings.subject.clone();
                (Stage::Granted(self.grant(now, &client_id, subject, scopes)), "you may go back to your device")
            }
            Err(refusal) => (Stage::Denied(refusal.error), "your device is told that you said no"),
        };
        self.devices.get_mut(&device_code).expect("it was there").stage = stage;
        text(StatusCode::OK, told)
    }

    /// Section 3.4 and 3.5. Who asks too soon is told so, whatever the person decided meanwhile.
    pub(super) fn poll_device(
        &mut self,
        now: Timestamp,
        client: &Registered,
        params: &Params,
    ) -> Result<Value, Refusal> {
        let google = self.settings.device_like_google;
        let wait = |error, description, status| {
            let status = if google { status } else { StatusCode::BAD_REQUEST };
            Err(Refusal { status, error, description })
        };
        if google && client.is_public() {
            return refuse("invalid_request", "client_secret is missing.");
        }
        let Some(device_code) = params.get("device_code") else {
            return refuse("invalid_request", "device_code is needed");
        };
        let Some(device) = self.devices.get_mut(device_code) else {
            return refuse("invalid_grant", "no such device_code");
        };
        if device.client_id != client.id {
            return refuse("invalid_grant", "the device_code is another client's");
        }
        let proved = match (params.get("code_verifier"), &device.challenge) {
            (Some(verifier), Some(challenge)) => proves(verifier, challenge, false),
            (verifier, challenge) => verifier.is_none() && challenge.is_none(),
        };
        if !proved {
            return refuse("invalid_grant", "another code_verifier than the challenge's, or one of the two alone");
        }
        if now >= device.ends {
            return refuse("expired_token", "the device_code has expired");
        }
        if now.since(std::mem::replace(&mut device.asked, now)) < device.interval {
            device.interval += FIVE;
            return wait("slow_down", "asked too soon", StatusCode::FORBIDDEN);
        }
        let grant = match device.stage {
            Stage::Waiting => {
                return wait("authorization_pending", "nobody has decided yet", StatusCode::PRECONDITION_REQUIRED);
            }
            Stage::Denied(error) => return wait(error, "the person said no", StatusCode::FORBIDDEN),
            Stage::Over => return refuse("invalid_grant", "the device_code was used before"),
            Stage::Granted(grant) => grant,
        };
        device.stage = Stage::Over;
        let mut body = self.access(now, grant, None);
        if self.settings.refresh_tokens != RefreshTokens::None {
            body["refresh_token"] = self.new_refresh_token(grant).into();
        }
        self.finish(now, grant, None, body)
    }
}

/// Eight letters that make no words (section 6.1).
fn user_code(device_code: &str) -> String {
    const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
    let digest = Sha256::digest(device_code);
    let mut code: String = digest[..8].iter().map(|byte| char::from(LETTERS[usize::from(*byte) % 20])).collect();
    code.insert(4, '-');
    code
}
