//! One grant for all processes of an agent that is written with rmcp: [`GrantStore`] is where rmcp gets its tokens from.
//!
//! ```text
//! rmcp ── load ─────────────────▶ a token that is valid, refreshed if it is due   ┐
//!      ── acquire_refresh_guard ▶ the resource has refused it: another one        ├─ grantflow, under the lease of its store
//!      ── refresh (HTTP) ───────▶ that one                                        ┘
//! ```
//!
//! rmcp's own refresh cannot be shared by processes as it is. Under the guard it loads the credentials and sends their
//! refresh token without a look at whether they are fresh again (`refresh_token` in its `transport/auth.rs`), so that eight
//! processes refresh eight times for each expiry; and what the server answered is lost with a process that ends before it has saved
//! that. So the refresh token stays with grantflow, which writes down an intent before it uses one: rmcp is given access
//! tokens alone, none of them about to end, and where it wants another one, its request is answered here and sent to nobody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use grantflow_reqwest::grantflow::resource::ProtectedResource;
use grantflow_reqwest::grantflow::{Advice, Error, ErrorKind, InstalledApp};
use grantflow_reqwest::{TokenManager, TokenRef, Transport};
use oauth2::basic::BasicTokenType;
use oauth2::{AccessToken, HttpRequest, HttpResponse, RefreshToken, TokenResponse as _};
use reqwest::redirect::Policy;
use rmcp::transport::auth::{OAuthTokenResponse, VendorExtraTokenFields};
use rmcp::transport::{
    AuthError, AuthorizationManager, CredentialRefreshGuard, CredentialStore, OAuthHttpClient, OAuthHttpClientFuture,
    OAuthHttpRequest, StoredCredentials,
};
use serde_json::json;

/// Where the reading of a document ends.
const MAX_DOCUMENT: usize = 1024 * 1024;
/// What rmcp is told in place of the refresh token, so that it asks for another access token at all.
const KEPT: &str = "kept-by-grantflow";

/// A person's grant for one resource, which all processes of the agent share that are bound to the same store.
#[derive(Clone)]
pub struct GrantStore(Arc<Inner>);

struct Inner {
    transport: Transport,
    app: InstalledApp,
    label: String,
    address: String,
    tokens: TokenManager,
    /// The token that rmcp was given last.
    given: Mutex<Option<TokenRef>>,
    /// Held while rmcp wants another one.
    refreshing: Arc<tokio::sync::Mutex<()>>,
    /// For requests that are no refresh, which are rmcp's discovery.
    http: reqwest::Client,
}

impl GrantStore {
    /// Loads what the person granted before, or has them sign in: once, however many processes begin at the same time.
    pub async fn sign_in(transport: &Transport, resource: &ProtectedResource, label: &str) -> Result<Self, Error> {
        let access = transport.run(resource.find()).await?;
        let app = access.app()?;
        let tokens = transport.load_or_sign_in(&app, label).await?;
        let http = transport.client_builder().redirect(Policy::none()).timeout(Duration::from_secs(30)).build();
        Ok(Self(Arc::new(Inner {
            transport: transport.clone(),
            app,
            label: label.to_owned(),
            address: resource.address().to_owned(),
            tokens,
            given: Mutex::default(),
            refreshing: Arc::default(),
            http: http.map_err(|error| Error::new(ErrorKind::Config, error.to_string()))?,
        })))
    }

    /// rmcp's manager of tokens, for its [`AuthClient`](rmcp::transport::AuthClient).
    pub async fn manager(&self) -> Result<AuthorizationManager, AuthError> {
        let http = Arc::new(self.clone());
        let mut manager = AuthorizationManager::new_with_oauth_http_client(&*self.0.address, http).await?;
        manager.set_credential_store(self.clone());
        manager.initialize_from_store().await?;
        Ok(manager)
    }

    /// A token that is valid for a while.
    async fn token(&self) -> Result<TokenRef, Error> {
        let token = self.0.tokens.token().await?;
        *self.0.given.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(token)
    }

    /// A public document.
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, reqwest::Error> {
        let mut response = self.0.http.execute(request.try_into()?).await?;
        let (status, mut body) = (response.status(), Vec::new());
        while let Some(chunk) = response.chunk().await?
            && body.len() < MAX_DOCUMENT
        {
            body.extend_from_slice(&chunk);
        }
        let mut answer = HttpResponse::new(body);
        (*answer.status_mut(), *answer.headers_mut()) = (status, response.headers().clone());
        Ok(answer)
    }

    fn given(&self) -> Option<TokenRef> {
        self.0.given.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl CredentialStore for GrantStore {
    async fn load(&self) -> Result<Option<StoredCredentials>, AuthError> {
        let token = match self.token().await {
            Ok(token) => token,
            Err(error) if error.advice() == Some(Advice::SignInAgain) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let access_token = AccessToken::new(token.access_token().to_owned());
        let mut answer =
            OAuthTokenResponse::new(access_token, BasicTokenType::Bearer, VendorExtraTokenFields::default());
        answer.set_refresh_token(Some(RefreshToken::new(KEPT.to_owned())));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = token.expires_at().map(|end| end.since(self.0.transport.now().wall));
        answer.set_expires_in(left.as_ref());
        let scopes = token.scopes().iter().map(str::to_owned).collect();
        let client_id = self.0.app.client().id().to_owned();
        let credentials = StoredCredentials::new(client_id, Some(answer), scopes, Some(now.as_secs()));
        Ok(Some(credentials.with_issuer(Some(self.0.app.server().issuer().to_string()))))
    }

    /// What rmcp got here lies in the store already. What it got itself is none of this grant.
    async fn save(&self, credentials: StoredCredentials) -> Result<(), AuthError> {
        let given = self.given();
        let saved = credentials.token_response.as_ref().map(|answer| answer.access_token().secret());
        match saved {
            Some(saved) if given.is_some_and(|given| given.access_token() == saved) => Ok(()),
            _ => Err(AuthError::CredentialStoreError("people sign in by GrantStore::sign_in".into())),
        }
    }

    /// Signs out: the grant is revoked, and gone for all processes.
    async fn clear(&self) -> Result<(), AuthError> {
        self.0.transport.sign_out(&self.0.app, &self.0.label).await.map_err(failed)
    }

    /// rmcp wants this where the resource has refused the token: it is refused for all processes, and the next one that is asked
    /// for is another. Which process refreshes, the lease of the store decides.
    async fn acquire_refresh_guard(&self) -> Result<Option<CredentialRefreshGuard>, AuthError> {
        let refused = self.given();
        let guard = self.0.refreshing.clone().lock_owned().await;
        if let Some(token) = refused {
            // If another one came meanwhile, this changes nothing.
            self.0.tokens.invalidate(&token);
        }
        Ok(Some(CredentialRefreshGuard::new(guard)))
    }
}

/// Answers a refresh with the token that there is now, and sends everything else.
impl OAuthHttpClient for GrantStore {
    fn execute(&self, request: OAuthHttpRequest) -> OAuthHttpClientFuture<'_> {
        Box::pin(async move {
            let mut form = url::form_urlencoded::parse(request.request.body());
            if !form.any(|(name, value)| name == "grant_type" && value == "refresh_token") {
                return Ok(self.send(request.request).await?);
            }
            let token = self.token().await?;
            let mut answer = json!({"access_token": token.access_token(), "token_type": "Bearer"});
            if let Some(end) = token.expires_at() {
                answer["expires_in"] = end.since(self.0.transport.now().wall).as_secs().into();
            }
            let answer = HttpResponse::new(answer.to_string().into_bytes());
            Ok(answer)
        })
    }
}

fn failed(error: Error) -> AuthError {
    AuthError::CredentialStoreError(error.to_string())
}
