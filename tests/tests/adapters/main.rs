//! One suite for both adapters, over real sockets: the same machines, the same server, the same answers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use grantflow::jose::IdToken;
use grantflow::machine::Identity;
use grantflow::source::{Credential, TokenSource, Want};
use grantflow::{
    AuthorizationRequest, Cx, Discovery, Error, ErrorKind, InstalledApp, Issuer, Machine, Revocation, ServerMetadata,
    Token, TokenRequest, Verifier,
};
use grantflow_tests::canary::{hidden, hidden_in_debug, hidden_in_error};
use grantflow_tests::demo::{self, batch, client};
use grantflow_tests::server::{Consent, RefreshTokens};
use grantflow_tests::{Fault, Front, Place, Server, person};
use grantflow_ureq::grantflow_store::Store;

mod authorized;
mod calls;
mod cases;
mod certificates;
mod chains;
mod device;
mod documents;
mod dpop;
mod federation;
mod flows;
mod kept;
mod odd_http;
mod odd_places;
mod programs;
mod proxy;
mod receiver;
mod registration;
mod requests;
mod resources;
mod saving;
mod stores;
mod terminal;
mod verifiers;

use authorized::*;
use calls::*;
use certificates::*;
use chains::*;
use device::*;
use documents::*;
use dpop::*;
use federation::*;
use flows::*;
use kept::*;
use odd_http::*;
use odd_places::*;
use programs::*;
use proxy::*;
use receiver::*;
use registration::*;
use requests::*;
use resources::*;
use saving::*;
use stores::*;
use terminal::*;
use verifiers::*;

/// What both adapters can do, in one shape.
trait Adapter: Sized {
    /// With the defaults, and someone who is told of every effect and reply.
    fn watched(watch: impl Fn(String) + Send + Sync + 'static) -> Self;
    /// What names its module of the suite.
    const NAME: &str;
    /// With the defaults, which depend on the environment.
    fn try_new() -> Result<Self, Error>;
    fn with_proxy(address: &str) -> Self;
    fn watched_with_programs(watch: impl Fn(String) + Send + Sync + 'static) -> Self;
    fn with_store(store: Arc<dyn Store>) -> Self;
    /// Trusts this root, and has client certificates by their names.
    fn with_identities(root: &str, named: &[(&str, Given<'_>)]) -> Result<Self, Error>;
    fn run<M: Machine<Output: Send> + Send>(&self, machine: M) -> Result<M::Output, Error>;
    fn sign_in(&self, app: &InstalledApp) -> Result<Token, Error>;
    fn load_or_sign_in(&self, app: &InstalledApp) -> Result<Token, Error>;
    fn sign_out(&self, app: &InstalledApp) -> Result<(), Error>;
    fn forget(&self, app: &InstalledApp) -> Result<(), Error>;
    /// The manager of [`load_or_sign_in`](Self::load_or_sign_in).
    type Tokens: Tokens;
    fn tokens(&self, app: &InstalledApp) -> Result<Self::Tokens, Error>;
    fn cx(&self) -> Cx;
    /// A pool of this source: the first of these wants all at once, then the others when this was done.
    fn pool_tokens(
        &self,
        source: impl TokenSource + 'static,
        wants: [Vec<Want>; 2],
        between: &dyn Fn(),
    ) -> Vec<Result<Token, Error>>;

    /// The status of a request with the program's own HTTP client, which presents this certificate or none.
    fn status(&self, url: &str, token: &Token, identity: Option<&Identity>) -> u16;
    /// A pool of these credentials, whose tokens are all wanted at once.
    fn pool_of(&self, credentials: Vec<Credential>) -> Vec<Result<Token, Error>>;
    /// Verifies the first of these tokens all at once, then the others when this was done; how long each took.
    fn verify_all(
        &self,
        verifier: &Verifier<IdToken>,
        tokens: [Vec<String>; 2],
        between: &dyn Fn(),
    ) -> Vec<(Result<IdToken, Error>, Duration)>;

    fn new() -> Self {
        Self::watched(|_| {})
    }
    fn with_programs() -> Self {
        Self::watched_with_programs(|_| {})
    }
}

struct Blocking(grantflow_ureq::Transport);

impl Adapter for Blocking {
    fn watched(watch: impl Fn(String) + Send + Sync + 'static) -> Self {
        Self(grantflow_ureq::Transport::builder().watch(move |event| watch(format!("{event:?}"))).build().unwrap())
    }
    fn watched_with_programs(watch: impl Fn(String) + Send + Sync + 'static) -> Self {
        let builder = grantflow_ureq::Transport::builder().allow_programs();
        Self(builder.watch(move |event| watch(format!("{event:?}"))).build().unwrap())
    }
    const NAME: &str = "ureq";
    fn try_new() -> Result<Self, Error> {
        grantflow_ureq::Transport::new().map(Self)
    }
    fn with_proxy(address: &str) -> Self {
        Self(grantflow_ureq::Transport::builder().proxy(address).build().unwrap())
    }
    fn with_identities(root: &str, named: &[(&str, Given<'_>)]) -> Result<Self, Error> {
        let builder = grantflow_ureq::Transport::builder().root_certificate_pem(root.as_bytes());
        let builder = named.iter().fold(builder, |builder, (name, given)| match given {
            Given::Pem(certificate, key) => builder.identity(name, certificate, *key),
            Given::Files(certificate, key) => builder.identity_files(name, certificate, key),
        });
        builder.build().map(Self)
    }
    fn with_store(store: Arc<dyn Store>) -> Self {
        Self(Self::new().0.with_store(store))
    }
    fn run<M: Machine<Output: Send> + Send>(&self, machine: M) -> Result<M::Output, Error> {
        self.0.run(machine)
    }
    fn sign_in(&self, app: &InstalledApp) -> Result<Token, Error> {
        self.0.sign_in(app)
    }
    fn load_or_sign_in(&self, app: &InstalledApp) -> Result<Token, Error> {
        Ok(Token::clone(&*self.0.load_or_sign_in(app, "")?.token()?))
    }
    fn sign_out(&self, app: &InstalledApp) -> Result<(), Error> {
        self.0.sign_out(app, "")
    }
    fn forget(&self, app: &InstalledApp) -> Result<(), Error> {
        self.0.forget(app, "")
    }
    type Tokens = grantflow_ureq::TokenManager;
    fn tokens(&self, app: &InstalledApp) -> Result<Self::Tokens, Error> {
        self.0.load_or_sign_in(app, "")
    }
    fn cx(&self) -> Cx {
        self.0.cx().unwrap()
    }
    fn pool_tokens(
        &self,
        source: impl TokenSource + 'static,
        wants: [Vec<Want>; 2],
        between: &dyn Fn(),
    ) -> Vec<Result<Token, Error>> {
        let pool = grantflow_ureq::TokenPool::new(&self.0);
        pool.add("chain", source).unwrap();
        let ask = |want: &Want| pool.token("chain", want).map(|token| Token::clone(&token));
        let mut tokens = Vec::new();
        for wants in &wants {
            std::thread::scope(|scope| {
                let asking: Vec<_> = wants.iter().map(|want| scope.spawn(|| ask(want))).collect();
                tokens.extend(asking.into_iter().map(|asking| asking.join().unwrap()));
            });
            between();
        }
        tokens
    }
    fn status(&self, url: &str, token: &Token, identity: Option<&Identity>) -> u16 {
        let agent = identity.map_or_else(|| self.0.agent(), |identity| self.0.agent_presenting(identity)).unwrap();
        let response = agent.get(url).header("authorization", token.authorization().unwrap()).call();
        response.unwrap().status().as_u16()
    }
    fn pool_of(&self, credentials: Vec<Credential>) -> Vec<Result<Token, Error>> {
        let pool = grantflow_ureq::TokenPool::new(&self.0);
        let ask = |(name, credential): (usize, Credential)| {
            pool.add(&name.to_string(), credential)?;
            pool.token(&name.to_string(), &Want::default()).map(|token| Token::clone(&token))
        };
        std::thread::scope(|scope| {
            let named = credentials.into_iter().enumerate();
            let asking: Vec<_> = named.map(|named| scope.spawn(|| ask(named))).collect();
            asking.into_iter().map(|asking| asking.join().unwrap()).collect()
        })
    }
    fn verify_all(
        &self,
        verifier: &Verifier<IdToken>,
        tokens: [Vec<String>; 2],
        between: &dyn Fn(),
    ) -> Vec<(Result<IdToken, Error>, Duration)> {
        let verifier = grantflow_ureq::TokenVerifier::new(&self.0, verifier.clone());
        let verify = |token: &str| {
            let began = Instant::now();
            (verifier.clone().verify(token), began.elapsed())
        };
        let mut results = Vec::new();
        for tokens in &tokens {
            std::thread::scope(|scope| {
                let verifying: Vec<_> = tokens.iter().map(|token| scope.spawn(|| verify(token))).collect();
                results.extend(verifying.into_iter().map(|verifying| verifying.join().unwrap()));
            });
            between();
        }
        results
    }
}

struct Async(grantflow_reqwest::Transport, tokio::runtime::Runtime);

impl Async {
    fn on(builder: grantflow_reqwest::Builder) -> Self {
        Self(builder.build().unwrap(), runtime())
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

impl Adapter for Async {
    fn watched(watch: impl Fn(String) + Send + Sync + 'static) -> Self {
        Self::on(grantflow_reqwest::Transport::builder().watch(move |event| watch(format!("{event:?}"))))
    }
    fn watched_with_programs(watch: impl Fn(String) + Send + Sync + 'static) -> Self {
        let builder = grantflow_reqwest::Transport::builder().allow_programs();
        Self::on(builder.watch(move |event| watch(format!("{event:?}"))))
    }
    const NAME: &str = "reqwest";
    fn try_new() -> Result<Self, Error> {
        let builder = grantflow_reqwest::Transport::builder();
        builder.build().map(|_| Self::on(grantflow_reqwest::Transport::builder()))
    }
    fn with_proxy(address: &str) -> Self {
        Self::on(grantflow_reqwest::Transport::builder().proxy(address))
    }
    fn with_identities(root: &str, named: &[(&str, Given<'_>)]) -> Result<Self, Error> {
        let builder = grantflow_reqwest::Transport::builder().root_certificate_pem(root.as_bytes());
        let builder = named.iter().fold(builder, |builder, (name, given)| match given {
            Given::Pem(certificate, key) => builder.identity(name, certificate, *key),
            Given::Files(certificate, key) => builder.identity_files(name, certificate, key),
        });
        builder.build().map(|transport| Self(transport, runtime()))
    }
    fn with_store(store: Arc<dyn Store>) -> Self {
        let Self(transport, runtime) = Self::new();
        Self(transport.with_store(store), runtime)
    }
    fn run<M: Machine<Output: Send> + Send>(&self, machine: M) -> Result<M::Output, Error> {
        fn sent<T: Send>(future: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
            future
        }
        self.1.block_on(sent(self.0.run(machine)))
    }
    fn sign_in(&self, app: &InstalledApp) -> Result<Token, Error> {
        self.1.block_on(self.0.sign_in(app))
    }
    fn load_or_sign_in(&self, app: &InstalledApp) -> Result<Token, Error> {
        self.1.block_on(async { Ok(Token::clone(&*self.0.load_or_sign_in(app, "").await?.token().await?)) })
    }
    fn sign_out(&self, app: &InstalledApp) -> Result<(), Error> {
        self.1.block_on(self.0.sign_out(app, ""))
    }
    fn forget(&self, app: &InstalledApp) -> Result<(), Error> {
        self.1.block_on(self.0.forget(app, ""))
    }
    type Tokens = InRuntime;
    fn tokens(&self, app: &InstalledApp) -> Result<Self::Tokens, Error> {
        let runtime = runtime();
        Ok(InRuntime(runtime.block_on(self.0.load_or_sign_in(app, ""))?, runtime))
    }
    fn cx(&self) -> Cx {
        self.0.cx().unwrap()
    }
    fn pool_tokens(
        &self,
        source: impl TokenSource + 'static,
        wants: [Vec<Want>; 2],
        between: &dyn Fn(),
    ) -> Vec<Result<Token, Error>> {
        let pool = grantflow_reqwest::TokenPool::new(&self.0);
        pool.add("chain", source).unwrap();
        let mut tokens = Vec::new();
        for wants in wants {
            self.1.block_on(async {
                let ask = |want: Want| {
                    let pool = pool.clone();
                    tokio::spawn(async move { pool.token("chain", &want).await.map(|token| Token::clone(&token)) })
                };
                for asking in wants.into_iter().map(ask).collect::<Vec<_>>() {
                    tokens.push(asking.await.unwrap());
                }
            });
            between();
        }
        tokens
    }
    fn status(&self, url: &str, token: &Token, identity: Option<&Identity>) -> u16 {
        self.1.block_on(async {
            let builder = match identity {
                Some(identity) => self.0.client_builder_presenting(identity).await.unwrap(),
                None => self.0.client_builder(),
            };
            let request = builder.build().unwrap().get(url).header("authorization", token.authorization().unwrap());
            request.send().await.unwrap().status().as_u16()
        })
    }
    fn pool_of(&self, credentials: Vec<Credential>) -> Vec<Result<Token, Error>> {
        let pool = grantflow_reqwest::TokenPool::new(&self.0);
        let ask = |(name, credential): (usize, Credential)| {
            let pool = pool.clone();
            async move {
                pool.add(&name.to_string(), credential)?;
                pool.token(&name.to_string(), &Want::default()).await.map(|token| Token::clone(&token))
            }
        };
        self.1.block_on(async {
            let asking: Vec<_> = credentials.into_iter().enumerate().map(|named| tokio::spawn(ask(named))).collect();
            let mut tokens = Vec::new();
            for asking in asking {
                tokens.push(asking.await.unwrap());
            }
            tokens
        })
    }
    fn verify_all(
        &self,
        verifier: &Verifier<IdToken>,
        tokens: [Vec<String>; 2],
        between: &dyn Fn(),
    ) -> Vec<(Result<IdToken, Error>, Duration)> {
        let verifier = grantflow_reqwest::TokenVerifier::new(&self.0, verifier.clone());
        let mut results = Vec::new();
        for tokens in tokens {
            self.1.block_on(async {
                let verify = |token: String| {
                    let verifier = verifier.clone();
                    tokio::spawn(async move {
                        let began = Instant::now();
                        (verifier.verify(&token).await, began.elapsed())
                    })
                };
                for verifying in tokens.into_iter().map(verify).collect::<Vec<_>>() {
                    results.push(verifying.await.unwrap());
                }
            });
            between();
        }
        results
    }
}

/// Each function as a test of both adapters.
macro_rules! suite {
    ($($name:ident)*) => {
        mod ureq { $(#[test] fn $name() { super::$name::<super::Blocking>(); })* }
        mod reqwest { $(#[test] fn $name() { super::$name::<super::Async>(); })* }
        /// Their names.
        const SUITE: &[&str] = &[$(stringify!($name)),*];
    };
}

suite! {
    a_person_signs_in_refreshes_and_revokes
    clients_and_passwords_get_tokens
    a_request_is_pushed_or_signed_or_both_and_the_person_signs_in
    a_signed_answer_is_taken_from_the_address_or_a_form_and_a_plain_one_is_refused
    details_of_a_sign_in_are_granted_kept_and_asked_for_at_a_refresh
    a_person_is_asked_without_a_browser_and_the_client_asks_until_they_have_decided
    a_ping_has_the_client_ask_at_once_and_one_of_a_stranger_has_not
    metadata_is_discovered
    a_thousand_credentials_that_begin_at_once_read_their_issuers_metadata_once
    a_document_that_is_being_read_keeps_nobody_from_another
    a_certificate_is_presented_and_sessions_and_connections_are_never_mixed
    a_server_that_needs_a_certificate_gets_it_from_a_request_of_core
    a_client_proves_itself_by_its_certificate_and_its_tokens_are_bound_to_it
    files_of_a_certificate_are_read_again_and_the_old_one_is_kept_if_they_cannot_be
    a_certificate_that_cannot_be_used_is_an_error_without_the_key_and_nothing_is_sent
    a_request_that_stays_global_is_not_sent_to_this_machine_by_any_name
    a_request_does_not_begin_once_either_clock_says_that_it_is_too_late
    no_redirect_is_followed
    bodies_are_cut_at_their_limit_while_they_are_read
    compression_is_not_asked_for_and_undone_if_it_comes
    another_coding_is_named_and_a_bomb_is_cut
    heads_as_odd_servers_write_them_are_read
    every_request_says_who_makes_it
    a_browser_that_comes_twice_has_its_code_exchanged_once
    a_port_that_another_program_holds_is_an_error_at_once_that_names_it
    a_file_of_tokens_that_is_damaged_is_an_error_that_names_it_and_says_what_to_do
    a_file_of_tokens_that_is_a_link_is_refused_and_not_replaced
    proxies_are_named_by_the_environment_as_curl_reads_it
    a_proxy_variable_that_cannot_be_used_is_an_error_and_nothing_goes_direct
    a_failure_on_the_way_through_a_proxy_names_it_without_its_password
    the_total_time_ends_whatever_drags_on
    what_surely_was_not_sent_and_what_may_have_been_are_told_apart
    a_code_whose_answer_is_lost_is_not_sent_again
    calls_that_must_not_be_repeated_go_on_fresh_connections
    no_secure_connection_is_told_as_such
    a_proxy_is_never_used_for_this_machine
    nothing_that_is_watched_shows_a_secret
    no_cookie_is_kept
    a_thousand_tokens_at_once_read_the_keys_once_and_strangers_ask_for_none
    a_new_key_is_asked_for_once_by_all_who_need_it_and_nobody_else_waits
    keys_that_cannot_be_read_are_an_error_for_all_who_wait_and_asked_for_again
    the_receiver_survives_whatever_browsers_and_strangers_do
    the_receiver_survives_more_connections_than_it_holds
    the_receiver_survives_those_that_never_finish
    a_form_that_the_servers_page_posts_is_the_answer
    an_answer_that_names_another_server_ends_the_sign_in_at_once
    an_answer_that_comes_in_a_wrong_way_ends_the_sign_in_at_once_and_says_why
    a_line_that_the_terminal_cuts_is_named_and_the_next_one_is_read
    a_line_of_any_length_is_read_where_the_terminal_cuts_none
    when_a_sign_in_ends_is_told_once_on_the_standard_error
    a_resource_is_named_at_every_request_of_a_sign_in_that_is_kept
    the_receiver_is_reached_from_this_machine_only
    the_page_tells_success_and_keeps_quiet_about_the_code
    the_servers_error_is_shown_and_ends_the_sign_in
    every_redirect_uri_of_an_installed_application_works
    nobody_signs_in
    what_the_token_is_for_goes_into_the_token_request
    what_a_server_grants_in_its_own_words_is_asked_for_once_and_less_again
    a_scope_that_nobody_asked_for_yet_is_asked_for_whatever_was_accepted
    a_token_that_does_not_end_is_kept_without_a_refresh_token
    a_token_that_ends_is_kept_until_then_without_a_refresh_token
    a_refresh_names_scopes_where_the_server_must_be_told_them
    a_refresh_that_is_refused_in_unknown_words_asks_the_person
    a_device_signs_in_once_a_person_has_entered_its_code
    a_device_whose_connection_breaks_asks_again_later
    a_device_is_told_that_the_person_said_no
    a_program_is_run_without_a_shell_and_what_it_prints_and_how_it_ends_is_told
    programs_are_refused_unless_they_are_allowed
    a_program_that_is_not_there_cannot_be_run
    a_program_is_killed_at_its_time_with_those_that_it_has_started
    too_much_output_kills_a_program_while_it_prints
    those_that_keep_the_pipes_of_a_program_open_are_neither_waited_for_nor_killed
    no_event_shows_what_a_program_is_given_or_prints
    a_program_prints_the_token_of_an_external_account
    files_addresses_and_aws_give_subject_tokens_and_an_account_is_impersonated_with_them
    a_certificate_of_an_external_account_is_shown_to_sts_in_the_handshake
    many_wants_at_once_take_one_token_of_their_base_and_drop_it_once
    a_store_of_files_keeps_its_promises
    who_signs_in_while_another_signs_out_stays_signed_in
    what_was_saved_in_the_middle_of_a_sign_out_is_revoked_too
    a_grant_that_cannot_be_revoked_can_be_forgotten
    a_sign_in_that_cannot_be_saved_is_not_thrown_away
    what_could_not_be_saved_is_saved_by_itself_once_that_can_be
    what_could_not_be_saved_is_saved_at_the_end
    a_save_that_is_under_way_at_the_end_is_not_lost
    a_sign_in_that_could_not_be_saved_is_saved_later
    who_was_refused_goes_on_when_somebody_has_signed_in_elsewhere
    a_workforce_users_refresh_token_rotates_in_a_store_that_programs_share
    what_a_file_of_googles_holds_is_taken_over_and_written_again
    a_refusal_that_is_not_of_the_token_goes_to_the_caller_and_the_token_stays
    a_refusal_of_the_token_is_answered_by_one_other
    without_another_token_the_refusal_stays_the_answer_and_says_why
    the_refusal_of_another_managers_token_rejects_nothing
    a_manager_begins_with_the_token_of_the_sign_in
    a_token_of_a_sign_in_that_has_ended_is_not_handed_out
    a_request_with_a_bound_token_proves_its_key_in_every_way
    a_resource_that_wants_another_nonce_for_ever_is_asked_twice
    a_bound_token_that_is_refused_is_replaced_once_and_a_wrong_proof_is_not_its_fault
    a_server_that_answers_for_bearers_where_a_key_was_proved_is_refused
    a_key_that_is_far_away_proves_itself_to_resources_too
    a_sign_in_that_is_kept_is_bound_to_the_key_of_the_store
    a_client_registers_itself_once_and_signs_people_in_at_each_start
    a_resources_address_leads_to_a_token_and_the_next_program_asks_nobody
    a_resources_address_leads_to_a_token_by_a_devices_code
    a_resources_address_leads_to_a_token_by_a_pasted_address
    a_resource_that_refuses_and_serves_by_turns_has_nobody_asked_each_time
    scopes_that_a_resource_demands_are_asked_for_beside_those_before
    a_program_that_declines_gets_the_refusal_and_may_change_its_mind
    a_server_that_cannot_be_found_for_a_while_costs_no_try
    another_sign_in_is_demanded_and_asked_for_once_in_the_same_way
    a_resource_that_is_never_content_is_given_up_after_a_few_requests
    requests_at_once_lead_to_one_sign_in_and_all_get_their_answer
    a_grant_that_has_ended_leads_to_another_sign_in
}

fn app(front: &Front) -> InstalledApp {
    InstalledApp::new(&front.metadata(), &client()).scopes("openid email read").open_browser(false)
}

/// A hook that gets the URL and does something in a thread of its own.
fn meanwhile<T: Send + 'static>(
    app: InstalledApp,
    act: impl Fn(String) -> T + Send + Sync + 'static,
) -> (InstalledApp, mpsc::Receiver<JoinHandle<T>>) {
    let (sender, receiver) = mpsc::channel();
    let act = Arc::new(act);
    let app = app.show(move |url| {
        let (act, url) = (act.clone(), url.to_owned());
        sender.send(std::thread::spawn(move || act(url))).unwrap();
    });
    (app, receiver)
}

/// Signs in with a person who does this, and says how both ended.
fn sign_in<A: Adapter, T: Send + 'static>(
    adapter: &A,
    app: InstalledApp,
    act: impl Fn(String) -> T + Send + Sync + 'static,
) -> (Result<Token, Error>, T) {
    let (app, acting) = meanwhile(app, act);
    let result = adapter.sign_in(&app);
    (result, acting.recv().unwrap().join().unwrap())
}

fn value(url: &str, name: &str) -> String {
    let (_, query) = url.split_once('?').unwrap();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).expect(name).1.into_owned()
}

/// Where the receiver listens.
fn port(url: &str) -> SocketAddr {
    let uri = url::Url::parse(&value(url, "redirect_uri")).unwrap();
    uri.socket_addrs(|| None).unwrap()[0]
}

/// Writes this to a connection of its own and reads whatever comes back.
fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
