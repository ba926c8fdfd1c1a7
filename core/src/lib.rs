//! OAuth 2.0, OpenID Connect and Google sign-in as pure state machines.
//!
//! Most programs take this crate by way of `grantflow-ureq` (blocking) or `grantflow-reqwest` (async): both have it as
//! `grantflow`, and a `Transport` that runs its machines. Where to begin:
//!
//! | to | see |
//! |---|---|
//! | sign a person in to a program of their own, in a browser or by a device's code | [`InstalledApp`] |
//! | sign people in to a web application | [`AuthorizationRequest`], [`PendingAuthorization`] |
//! | have a person sign in on a device of their own, without a browser here | [`BackchannelAuthentication`] |
//! | get a token by another grant, or refresh one | [`TokenRequest`] |
//! | get tokens again and again | [`source`], for the `TokenManager` of an adapter |
//! | sign in to a protected resource, such as an MCP server | [`resource`] |
//! | keep a grant, and share it among processes | [`store`], for the stores of `grantflow-store` |
//! | use Google's credentials | [`google`] |
//! | read a server's metadata | [`Discovery`], [`ServerMetadata`] |
//! | register a client at a server | [`register`] |
//! | ask who signed in; revoke a token | [`UserInfo`], [`Revocation`] |
//! | sign people out, here and at the server | [`EndSession`], [`jose::LogoutToken`], [`FrontChannelLogout`] |
//! | verify the tokens of others | [`Verifier`], [`Introspection`], [`Protection`] |
//! | drive the machines yourself | [`machine`] |
//!
//! # Features
//!
//! None is on by default; the adapters turn `ring` on. `ring`, `aws-lc-rs` and `rust-crypto` sign and verify: see
//! [`crypto`].
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::arithmetic_side_effects,
        clippy::iter_over_hash_type
    )
)]

pub mod authorize;
mod call;
pub mod cell;
mod challenge;
mod client;
pub mod crypto;
pub mod documents;
pub mod dpop;
mod error;
pub mod exchange;
mod failure;
mod global;
pub mod google;
mod grant;
mod hosts;
mod identity;
mod introspect;
pub mod jose;
mod json;
mod logout;
pub mod loopback;
pub mod machine;
mod pkce;
mod program;
mod protect;
pub mod proxy;
pub mod register;
pub mod resource;
mod revoke;
mod secret;
mod server;
mod shown;
pub mod source;
pub mod store;
pub mod table;
mod time;
mod token;
mod userinfo;

/// The crate whose types requests, answers and headers are of.
pub use http;

pub use authorize::{
    Authorization, AuthorizationRequest, FinishAuthorization, PendingAuthorization, StartAuthorization,
};
pub use call::Call;
pub use challenge::Challenge;
pub use client::{Client, ClientAuthentication, x5t_s256};
pub use dpop::DpopKey;
pub use error::{Advice, Error, ErrorKind, Interaction, ServerError};
pub use exchange::Exchange;
pub use failure::Failure;
pub use grant::ciba::{
    BackchannelAuthentication, BackchannelHeard, PendingBackchannel, PingReceiver, StartBackchannel,
};
pub use grant::device::{DeviceAuthorization, DeviceCode, DeviceExchange, DevicePolling};
pub use grant::{TokenExchange, TokenRequest, token_type};
pub use hosts::Hosts;
pub use introspect::{Introspect, Introspection};
pub use jose::{IdToken, Verifier};
pub use logout::{EndSession, EndingSession, FrontChannelLogout, LogoutReplays, PendingLogout};
pub use loopback::InstalledApp;
pub use machine::{Cx, Effect, Event, Machine, Reply, Step};
pub use protect::{Protection, Refusal};
pub use revoke::Revocation;
pub use secret::Secret;
pub use server::{Discovery, Endpoint, Issuer, ServerMetadata};
pub use shown::Shown;
pub use time::{Now, Timestamp};
pub use token::{Deviation, Deviations, Rotation, Scopes, Token, TokenType};
pub use userinfo::{AskUserInfo, UserInfo};
