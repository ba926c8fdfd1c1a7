//! The token and revocation endpoints (RFC 6749, section 5; RFC 7009) and the ID tokens.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantflow::{Scopes, Timestamp};
use http::{Request, Response, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Access, CLIENT, ClientCertificate, DEVICE_CODE, Grant, Refresh, RefreshTokens, Refusal, Registered, Server,
    TOKEN_EXCHANGE, answer, params, refuse, text,
};

pub(super) type Params = BTreeMap<String, String>;

/// RFC 7636, section 4.6.
pub(super) fn proves(verifier: &str, challenge: &str, plain: bool) -> bool {
    let own = if plain { verifier.to_owned() } else { URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) };
    (43..=128).contains(&verifier.len()) && own == challenge
}

impl Server {
    pub(super) fn token(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Refusal> {
        let known: &[&str] = match grant_type(request) {
            Some(name) if name == "authorization_code" => {
                &["code", "redirect_uri", "code_verifier", "authorization_details"]
            }
            Some(name) if name == "refresh_token" => &["refresh_token", "scope", "authorization_details"],
            Some(name) if name == "client_credentials" => &["scope"],
            Some(name) if name == "password" => &["username", "password", "scope"],
            Some(name) if name == DEVICE_CODE => &["device_code", "code_verifier"],
            Some(name) if name == super::ciba::GRANT_TYPE => &["auth_req_id"],
            Some(name) if name == TOKEN_EXCHANGE => &super::exchange::PARAMS,
            Some(_) => return refuse("unsupported_grant_type", "no such grant"),
            None => return refuse("invalid_request", "there is no grant_type"),
        };
        let known: Vec<_> =
            ["grant_type"].iter().chain(&CLIENT).chain(known).chain(&self.settings.extra_params).copied().collect();
        let params = form(request, &known)?;
        // Before anything is used up.
        let jkt = self.proven(now, request)?;
        let client = self.authenticate(now, request, &params)?;
        let certificate = self.certificate(request).map(ClientCertificate::thumbprint);
        self.check_binding(&params, certificate.as_deref(), jkt.as_deref())?;
        let body = match params["grant_type"].as_str() {
            "authorization_code" => self.redeem(now, &client, &params),
            "refresh_token" => self.refresh(now, &client, &params),
            DEVICE_CODE => self.poll_device(now, &client, &params),
            super::ciba::GRANT_TYPE => self.poll_backchannel(now, &client, &params),
            TOKEN_EXCHANGE => self.exchange(now, &client, &params),
            "client_credentials" if client.is_public() => refuse("unauthorized_client", "the client is public"),
            "client_credentials" => self.alone(now, &client, client.id.clone(), &params),
            _ => match (params.get("username"), params.get("password")) {
                (Some(user), Some(password)) if self.users.get(user) == Some(password) => {
                    self.alone(now, &client, user.clone(), &params)
                }
                (Some(_), Some(_)) => refuse("invalid_grant", "no such user, or another password"),
                _ => refuse("invalid_request", "username and password are needed"),
            },
        }?;
        let body = self.bind(&client, body, certificate, jkt);
        Ok(answer(StatusCode::OK, &body))
    }

    /// A refresh token of a public client is good only together with its certificate (RFC 8705, section 4), or with a proof of
    /// its key (RFC 9449, section 5); a code only with a proof of the key that it was asked with (section 10).
    fn check_binding(&self, params: &Params, certificate: Option<&str>, jkt: Option<&str>) -> Result<(), Refusal> {
        let code = params.get("code").and_then(|code| self.codes.get(code));
        if let Some(bound) = code.and_then(|code| code.dpop_jkt.as_deref())
            && Some(bound) != jkt
        {
            return refuse("invalid_grant", "the code is bound to another key");
        }
        let grant = params.get("refresh_token").and_then(|token| self.refresh.get(token)).map(|token| token.grant);
        let Some(grant) = grant.map(|grant| &self.grants[grant]) else { return Ok(()) };
        match (&grant.certificate, &grant.jkt) {
            (Some(bound), _) if Some(&**bound) != certificate => {
                refuse("invalid_grant", "the refresh token is bound to another certificate")
            }
            (_, Some(bound)) if Some(&**bound) != jkt => {
                refuse("invalid_grant", "the refresh token is bound to another key")
            }
            _ => Ok(()),
        }
    }

    /// Binds what it gives to the certificate that came along (RFC 8705, sections 3 and 4), or to the key of the proof.
    fn bind(
        &mut self,
        client: &Registered,
        mut body: Value,
        certificate: Option<String>,
        jkt: Option<String>,
    ) -> Value {
        let Some(access) = body["access_token"].as_str().and_then(|token| self.access.get_mut(token)) else {
            return body;
        };
        let grant = access.grant;
        access.certificate.clone_from(&certificate);
        access.jkt.clone_from(&jkt);
        if jkt.is_some() && body["token_type"] == "Bearer" {
            body["token_type"] = "DPoP".into();
            self.settings.alter_token.apply(&mut body);
        }
        if client.is_public() {
            self.grants[grant].certificate = certificate;
            self.grants[grant].jkt = jkt;
        }
        body
    }

    /// RFC 6749, section 4.1.3. A code that comes a second time ends the grant (section 4.1.2).
    fn redeem(&mut self, now: Timestamp, client: &Registered, params: &Params) -> Result<Value, Refusal> {
        let need = |name: &str| params.get(name).map(String::as_str).ok_or(());
        let (Ok(code), Ok(redirect_uri), Ok(verifier)) = (need("code"), need("redirect_uri"), need("code_verifier"))
        else {
            return refuse("invalid_request", "code, redirect_uri and code_verifier are needed");
        };
        let Some(record) = self.codes.get_mut(code) else { return refuse("invalid_grant", "no such code") };
        let grant = record.grant;
        if self.grants[grant].client_id != client.id {
            return refuse("invalid_grant", "the code is another client's");
        }
        if std::mem::replace(&mut record.used, true) {
            self.grants[grant].revoked = true;
            return refuse("invalid_grant", "the code was used before");
        }
        if now >= record.ends {
            return refuse("invalid_grant", "the code has expired");
        }
        if record.redirect_uri != redirect_uri {
            return refuse("invalid_grant", "another redirect_uri");
        }
        if !proves(verifier, &record.challenge, record.plain) {
            return refuse("invalid_grant", "another code_verifier");
        }
        let nonce = self.grants[grant].nonce.clone();
        let details = self.narrowed_details(grant, params)?;
        let mut body = self.access(now, grant, None);
        if let Some(details) = details {
            body["authorization_details"] = details;
        }
        if self.settings.refresh_tokens != RefreshTokens::None {
            body["refresh_token"] = self.new_refresh_token(grant).into();
        }
        self.finish(now, grant, nonce, body)
    }

    /// RFC 6749, section 6.
    fn refresh(&mut self, now: Timestamp, client: &Registered, params: &Params) -> Result<Value, Refusal> {
        let Some(token) = params.get("refresh_token") else {
            return refuse("invalid_request", "refresh_token is needed");
        };
        let Some(record) = self.refresh.get(token) else { return refuse("invalid_grant", "no such refresh token") };
        let (grant, replaced) = (record.grant, record.replaced);
        let Grant { client_id, scopes, revoked, .. } = &self.grants[grant];
        if *revoked || *client_id != client.id {
            return refuse("invalid_grant", "the refresh token is revoked, or another client's");
        }
        let asked = params.get("scope").map(|text| Scopes::from(text.as_str()));
        if asked.is_none() && self.settings.scope_at_refresh {
            return refuse("invalid_request", "AADSTS90009: the application asks for a token for itself");
        }
        if asked.as_ref().is_some_and(|asked| !asked.is_subset(scopes)) {
            return refuse("invalid_scope", "more than was granted");
        }
        let grace = match self.settings.refresh_tokens {
            RefreshTokens::Rotate { grace } => grace,
            _ => Duration::ZERO,
        };
        if replaced.is_some_and(|at| grace.is_zero() || now.since(at) > grace) {
            self.grants[grant].revoked = true;
            return refuse("invalid_grant", "the refresh token was used before: all of its family are revoked");
        }
        let details = self.narrowed_details(grant, params)?;
        let mut body = self.access(now, grant, asked);
        if let Some(details) = details {
            body["authorization_details"] = details;
        }
        match self.settings.refresh_tokens {
            RefreshTokens::None | RefreshTokens::Stay => {}
            RefreshTokens::Repeat => body["refresh_token"] = token.as_str().into(),
            RefreshTokens::Rotate { .. } => {
                body["refresh_token"] = self.new_refresh_token(grant).into();
                self.refresh.get_mut(token).expect("it was there").replaced.get_or_insert(now);
            }
        }
        if !self.settings.id_token_on_refresh {
            self.settings.alter_token.apply(&mut body);
            return Ok(body);
        }
        self.finish(now, grant, None, body)
    }

    /// What the token is good for in detail: what was granted, or some of that (RFC 9396, section 6).
    fn narrowed_details(&self, grant: usize, params: &Params) -> Result<Option<Value>, Refusal> {
        let granted = self.grants[grant].details.clone();
        let Some(asked) = params.get("authorization_details") else { return Ok(granted) };
        let asked = self.details(asked)?;
        let within = |each: &Value| granted.as_ref().and_then(Value::as_array).is_some_and(|all| all.contains(each));
        match asked.as_array().is_some_and(|all| all.iter().all(within)) {
            true => Ok(Some(asked)),
            false => refuse("invalid_authorization_details", "more than was granted"),
        }
    }

    /// Client credentials and password: a grant that nobody was asked for.
    fn alone(
        &mut self,
        now: Timestamp,
        client: &Registered,
        subject: String,
        params: &Params,
    ) -> Result<Value, Refusal> {
        let scopes = self.known_scopes(params)?;
        if scopes.contains("openid") {
            return refuse("invalid_scope", "openid is of no use here");
        }
        let grant = self.grant(now, &client.id, subject, scopes);
        let mut body = self.access(now, grant, None);
        if params.contains_key("username") && self.settings.refresh_tokens != RefreshTokens::None {
            body["refresh_token"] = self.new_refresh_token(grant).into();
        }
        self.finish(now, grant, None, body)
    }

    /// The scopes that are asked for, each of which must be known.
    pub(super) fn known_scopes(&self, params: &Params) -> Result<Scopes, Refusal> {
        let scopes = Scopes::from(params.get("scope").map(String::as_str).unwrap_or_default());
        if scopes.is_subset(&self.settings.scopes) { Ok(scopes) } else { refuse("invalid_scope", "a scope is unknown") }
    }

    /// A new grant.
    pub(super) fn grant(&mut self, now: Timestamp, client_id: &str, subject: String, scopes: Scopes) -> usize {
        self.grants.push(Grant {
            client_id: client_id.to_owned(),
            subject,
            scopes,
            nonce: None,
            details: None,
            max_age: false,
            auth_time: now,
            revoked: false,
            certificate: None,
            jkt: None,
        });
        self.grants.len() - 1
    }

    /// A new access token, for all that was granted or for less.
    pub(super) fn access(&mut self, now: Timestamp, grant: usize, narrowed: Option<Scopes>) -> Value {
        let lifetime = self.settings.lifetime;
        let narrow = narrowed.as_ref().unwrap_or(&self.grants[grant].scopes).as_str().to_owned();
        let mut token = self.fresh("at");
        if self.settings.jwt_access_tokens {
            let Grant { client_id, subject, auth_time, .. } = &self.grants[grant];
            let claims = json!({
                "iss": self.issuer, "aud": self.settings.resource, "sub": subject, "client_id": client_id,
                "iat": now.as_unix(), "exp": now.as_unix().saturating_add_unsigned(lifetime), "jti": token, "scope": narrow,
                "auth_time": auth_time.as_unix(),
            });
            token = self.signed(&json!({"typ": "at+jwt"}), &claims);
        }
        let mut body = json!({"access_token": token, "token_type": "Bearer", "expires_in": lifetime});
        let granted = &self.grants[grant].scopes;
        let scopes = narrowed.clone().unwrap_or_else(|| granted.clone());
        // What was asked is not known here any more: scopes are named whenever they may differ.
        if self.settings.always_scope || narrowed.is_some() || self.settings.consent != super::Consent::Grant {
            body["scope"] = scopes.as_str().into();
        }
        let ends = now + Duration::from_secs(lifetime);
        self.access.insert(token, Access { grant, scopes, ends, revoked: false, certificate: None, jkt: None });
        body
    }

    pub(super) fn new_refresh_token(&mut self, grant: usize) -> String {
        let token = self.fresh("rt");
        self.refresh.insert(token.clone(), Refresh { grant, replaced: None });
        token
    }

    /// Adds the ID token if `openid` was granted, and what faults were asked for.
    pub(super) fn finish(
        &mut self,
        now: Timestamp,
        grant: usize,
        nonce: Option<String>,
        mut body: Value,
    ) -> Result<Value, Refusal> {
        let Grant { client_id, subject, scopes, auth_time, max_age, .. } = &self.grants[grant];
        if scopes.contains("openid") {
            let access_token = body["access_token"].as_str().unwrap_or_default();
            let mut claims = json!({
                "iss": self.issuer,
                "sub": subject,
                "aud": client_id,
                "exp": now.as_unix() + 3600,
                "iat": now.as_unix(),
                "at_hash": URL_SAFE_NO_PAD.encode(&Sha256::digest(access_token)[..16]),
            });
            if *max_age {
                claims["auth_time"] = auth_time.as_unix().into();
            }
            if let Some(nonce) = nonce {
                claims["nonce"] = nonce.into();
            }
            if scopes.contains("email") {
                claims["email"] = format!("{subject}@example.com").into();
                claims["email_verified"] = true.into();
            }
            let mut header = json!({"alg": "RS256", "kid": "1"});
            self.settings.alter_id_header.apply(&mut header);
            self.settings.alter_id_claims.apply(&mut claims);
            body["id_token"] = self.signed(&header, &claims).into();
        }
        self.settings.alter_token.apply(&mut body);
        Ok(body)
    }

    /// RFC 7009. A refresh token takes its whole grant along, an access token goes alone.
    pub(super) fn revoke(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Refusal> {
        let params = form(request, &[&CLIENT[..], &["token", "token_type_hint"]].concat())?;
        let client = self.authenticate(now, request, &params)?.id;
        let Some(token) = params.get("token") else { return refuse("invalid_request", "token is needed") };
        if !matches!(params.get("token_type_hint").map(String::as_str), None | Some("access_token" | "refresh_token")) {
            return refuse("unsupported_token_type", "no such kind of token");
        }
        let grant = self.refresh.get(token).map(|r| r.grant).or_else(|| self.access.get(token).map(|a| a.grant));
        let live = grant.filter(|grant| !self.grants[*grant].revoked);
        match live {
            Some(grant) if self.grants[grant].client_id != client => {
                refuse("invalid_grant", "the token is another client's")
            }
            Some(grant) => {
                match self.access.get_mut(token) {
                    Some(access) => access.revoked = true,
                    None => self.grants[grant].revoked = true,
                }
                Ok(text(StatusCode::OK, ""))
            }
            None if self.settings.revoke_like_google => refuse("invalid_token", "Token expired or revoked"),
            None => Ok(text(StatusCode::OK, "")),
        }
    }
}

/// A JWT with a signature that is none. Over TLS from the token endpoint it needs none (OpenID Connect
/// Core 1.0, section 3.1.3.7, rule 6).
pub(crate) fn jwt(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(Sha256::digest(&signed));
    format!("{signed}.{signature}")
}

fn grant_type(request: &Request<Vec<u8>>) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(request.body());
    pairs.find(|(name, _)| name == "grant_type").map(|(_, value)| value.into_owned())
}

/// The parameters of a posted form. They must not be in the address (RFC 6749, section 2.3.1).
pub(super) fn form(request: &Request<Vec<u8>>, known: &[&str]) -> Result<Params, Refusal> {
    let types: Vec<_> = request.headers().get_all(header::CONTENT_TYPE).iter().collect();
    if types != ["application/x-www-form-urlencoded"] {
        return refuse("invalid_request", "the content type must be application/x-www-form-urlencoded");
    }
    if request.uri().query().is_some() {
        return refuse("invalid_request", "parameters belong into the body");
    }
    params(request.body(), known)
}
