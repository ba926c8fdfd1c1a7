//! What grantflow is tested with: a pretend authorization server, a person with a browser, a virtual
//! world in which time is a number, and a TCP front for those that need a real socket.
//!
//! ```
//! use grantflow_tests::{Front, Server, person};
//!
//! let front = Front::start(Server::demo())?;
//! let url = format!("{}/.well-known/openid-configuration", front.issuer());
//! assert_eq!(person::visit(&url)?.status, 200);
//! # Ok::<(), std::io::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod canary;
pub mod chains;
pub mod command;
pub mod counting;
pub mod demo;
pub mod examples;
pub mod fleet;
pub mod front;
pub mod google;
mod http1;
pub mod jwt;
pub mod keys;
pub mod kms;
pub mod person;
#[cfg(unix)]
pub mod postgres_server;
pub mod processes;
pub mod prop;
pub mod redis_server;
pub mod resource;
pub mod rules;
pub mod secure;
pub mod seeds;
pub mod server;
pub mod simulation;
pub mod world;

pub use front::Front;
pub use google::Google;
pub use keys::IssuerKey;
pub use resource::Resource;
pub use server::{Fault, Place, Registered, Server};
pub use world::{Did, Prints, World, at_once};

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

/// Those of the page about Google's credentials too.
#[cfg(doctest)]
#[doc = include_str!("../../docs/google.md")]
pub struct GooglesCredentials;

/// And those of the page about signing people in.
#[cfg(doctest)]
#[doc = include_str!("../../docs/sign-in.md")]
pub struct SigningPeopleIn;

/// And those of the page about sessions.
#[cfg(doctest)]
#[doc = include_str!("../../docs/sessions.md")]
pub struct Sessions;

/// And those of the page about extensions.
#[cfg(doctest)]
#[doc = include_str!("../../docs/extensions.md")]
pub struct Extensions;

/// And the programs to begin with.
#[cfg(doctest)]
#[doc = include_str!("../../docs/getting-started.md")]
pub struct GettingStarted;

/// And the manager of one's own.
#[cfg(doctest)]
#[doc = include_str!("../../docs/own-manager.md")]
pub struct OwnManager;

/// And protected resources.
#[cfg(doctest)]
#[doc = include_str!("../../docs/resources.md")]
pub struct ProtectedResources;
