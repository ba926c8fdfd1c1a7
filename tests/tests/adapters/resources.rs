//! Requests to a protected resource, which lead to sign-ins and to no endless ones.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use grantflow::resource::{Demand, DemandKind, ProtectedResource};
use grantflow_tests::resource::{Protected, resources_named};
use grantflow_ureq::grantflow_store::FileStore;

use super::*;

/// What an adapter has for protected resources.
pub(super) trait Resources: Adapter {
    type Api;
    /// For requests to this resource, with the one who is asked before anything is done.
    fn api(&self, resource: ProtectedResource, may: impl Fn(&Demand) -> bool + Send + Sync + 'static) -> Self::Api;
    /// The statuses of these requests, which are made all at once.
    fn get(&self, api: &Self::Api, urls: &[String]) -> Vec<Result<u16, Error>>;
    /// The token that requests carry is no good any more.
    fn reject_token(&self, api: &Self::Api);
    /// The token of `load_or_sign_in_to`.
    fn token_for(&self, resource: &ProtectedResource) -> Result<Token, Error>;

    fn status_of(&self, api: &Self::Api, url: &str) -> u16 {
        self.get(api, &[url.to_owned()]).remove(0).unwrap()
    }
}

impl Resources for Blocking {
    type Api = grantflow_ureq::ResourceAgent;
    fn api(&self, resource: ProtectedResource, may: impl Fn(&Demand) -> bool + Send + Sync + 'static) -> Self::Api {
        grantflow_ureq::ResourceAgent::asking(&self.0, resource, "", may).unwrap()
    }
    fn get(&self, api: &Self::Api, urls: &[String]) -> Vec<Result<u16, Error>> {
        use grantflow_ureq::ureq;
        let get = |url: &str| match api.run(http::Request::get(url).body(()).unwrap()) {
            Ok(response) => Ok(response.status().as_u16()),
            Err(ureq::Error::Other(inner)) => Err(*inner.downcast::<Error>().expect("an error of grantflow's")),
            Err(error) => panic!("{error:?}"),
        };
        std::thread::scope(|scope| {
            let getting: Vec<_> = urls.iter().map(|url| scope.spawn(move || get(url))).collect();
            getting.into_iter().map(|getting| getting.join().unwrap()).collect()
        })
    }
    fn reject_token(&self, api: &Self::Api) {
        let tokens = api.tokens().unwrap();
        assert!(tokens.invalidate(&tokens.token().unwrap()));
    }
    fn token_for(&self, resource: &ProtectedResource) -> Result<Token, Error> {
        Ok(Token::clone(&*self.0.load_or_sign_in_to(resource, "")?.token()?))
    }
}

impl Resources for Async {
    type Api = grantflow_reqwest::ResourceClient;
    fn api(&self, resource: ProtectedResource, may: impl Fn(&Demand) -> bool + Send + Sync + 'static) -> Self::Api {
        grantflow_reqwest::ResourceClient::asking(&self.0, resource, "", may).unwrap()
    }
    fn get(&self, api: &Self::Api, urls: &[String]) -> Vec<Result<u16, Error>> {
        use grantflow_reqwest::AuthorizedError;
        let get = |url: &String| {
            let (api, request) = (api.clone(), api.get(url));
            tokio::spawn(async move {
                match api.send(request).await {
                    Ok(response) => Ok(response.status().as_u16()),
                    Err(AuthorizedError::Token(error)) => Err(error),
                    Err(AuthorizedError::Http(error)) => panic!("{error:?}"),
                }
            })
        };
        self.1.block_on(async {
            let mut statuses = Vec::new();
            for getting in urls.iter().map(get).collect::<Vec<_>>() {
                statuses.push(getting.await.unwrap());
            }
            statuses
        })
    }
    fn reject_token(&self, api: &Self::Api) {
        let tokens = api.tokens().unwrap();
        self.1.block_on(async { assert!(tokens.invalidate(&tokens.token().await.unwrap())) });
    }
    fn token_for(&self, resource: &ProtectedResource) -> Result<Token, Error> {
        self.1.block_on(async { Ok(Token::clone(&*self.0.load_or_sign_in_to(resource, "").await?.token().await?)) })
    }
}

/// A resource and its server, whose user consents as soon as they are asked, and where their grants are kept.
struct Stage<A> {
    front: Front<Protected>,
    folder: PathBuf,
    asked: Arc<AtomicUsize>,
    adapter: PhantomData<A>,
}

impl<A: Resources> Stage<A> {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("resources").join(A::NAME).join(name);
        let _ = std::fs::remove_dir_all(&folder);
        let mut protected = Protected::new(Server::demo());
        protected.resource.needs = vec![("mcp", "read".into()), ("files", "write".into())];
        protected.resource.scopes = Some(vec!["read"]);
        let front = Front::start(protected).unwrap();
        Self { front, folder, asked: Arc::default(), adapter: PhantomData }
    }

    /// A program that has just been started.
    fn program(&self) -> A {
        A::with_store(Arc::new(FileStore::new(&self.folder)))
    }

    fn resource(&self) -> ProtectedResource {
        let client = client().registered_at(Issuer::new(self.front.server().server.issuer()).unwrap());
        let asked = self.asked.clone();
        ProtectedResource::mcp(&self.url("")).unwrap().client(client).app(move |app| {
            let asked = asked.clone();
            app.open_browser(false).timeout(Duration::from_secs(20)).show(move |url| {
                asked.fetch_add(1, SeqCst);
                drop(person::visit_in_background(url));
            })
        })
    }

    /// An address at the resource, or below it.
    fn url(&self, below: &str) -> String {
        format!("{}{below}", self.front.server().resource.address())
    }

    /// How often the person was asked.
    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }

    /// This parameter of the last request to authorize.
    fn last_asked(&self, name: &str) -> Option<String> {
        self.front.server().server.seen_at(Place::Authorize).last().unwrap().param(name)
    }

    /// Requests with a good token are refused like this.
    fn refuse(&self, status: u16, challenge: &str) {
        self.front.server().resource.refuses = Some((status, challenge.to_owned()));
    }
}

pub(super) fn a_resources_address_leads_to_a_token_and_the_next_program_asks_nobody<A: Resources>() {
    let stage = Stage::<A>::new("address");
    for _ in 0..2 {
        let program = stage.program();
        let token = program.token_for(&stage.resource()).unwrap();
        assert_eq!(program.status(&stage.url(""), &token, None), 200);
        assert_eq!(stage.asked(), 1);
    }
    let address = stage.url("");
    for place in [Place::Authorize, Place::Token] {
        let named = resources_named(&stage.front.server().server, place);
        assert!(!named.is_empty() && named.iter().all(|resources| *resources == [&*address]), "{place:?}: {named:?}");
    }
}

pub(super) fn a_resources_address_leads_to_a_token_by_a_devices_code<A: Resources>() {
    let stage = Stage::<A>::new("device");
    {
        let settings = &mut stage.front.server().server.settings;
        settings.device_interval = Some(1);
        settings.extra_params = vec!["resource", "code_challenge", "code_challenge_method"];
    }
    let asked = stage.asked.clone();
    let resource = stage.resource().app(move |app| {
        let asked = asked.clone();
        app.timeout(Duration::from_secs(20)).show_code(move |code| {
            asked.fetch_add(1, SeqCst);
            drop(person::enter_code_in_background(code.verification_uri(), code.user_code()));
        })
    });
    for _ in 0..2 {
        let program = stage.program();
        let token = program.token_for(&resource).unwrap();
        assert_eq!((program.status(&stage.url(""), &token, None), stage.asked()), (200, 1));
    }
    // More scopes are asked for in the same way.
    let program = stage.program();
    let api = program.api(resource, |_| true);
    assert_eq!((program.status_of(&api, &stage.url("/files")), stage.asked()), (200, 2));
    let address = stage.url("");
    let server = &stage.front.server().server;
    assert!(server.seen_at(Place::Authorize).is_empty());
    for place in [Place::Device, Place::Token] {
        let named = resources_named(server, place);
        assert!(!named.is_empty() && named.iter().all(|resources| *resources == [&*address]), "{place:?}: {named:?}");
    }
}

pub(super) fn a_resources_address_leads_to_a_token_by_a_pasted_address<A: Resources>() {
    let folder = |name: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join("resources").join(A::NAME).join(name);
    let pasting = |address: &str, issuer: &str| {
        let client = client().registered_at(Issuer::new(issuer).unwrap());
        let resource = ProtectedResource::mcp(address).unwrap().client(client);
        resource.app(|app| app.open_browser(false).paste(true).show(|url| eprintln!("URL {url} END")))
    };
    let program = || A::with_store(Arc::new(FileStore::new(folder("paste"))));
    if let Some((address, issuer)) = terminal::given().as_deref().and_then(|given| given.split_once(' ')) {
        program().token_for(&pasting(address, issuer)).unwrap();
        return eprintln!("SIGNED IN");
    }
    if !cfg!(target_os = "linux") {
        return;
    }
    let stage = Stage::<A>::new("paste");
    let (address, issuer) = (stage.url(""), stage.front.server().server.issuer().to_owned());
    let name = "a_resources_address_leads_to_a_token_by_a_pasted_address";
    let mut there = terminal::There::start::<A>(name, &format!("{address} {issuer}"), "-echo");
    let url = terminal::address(&there.wait_for("Paste that address here:"));
    there.paste(&person::answer(&url).unwrap());
    there.wait_for("SIGNED IN");
    // It is kept for the programs that come after.
    let token = program().token_for(&pasting(&address, &issuer)).unwrap();
    assert_eq!(program().status(&address, &token, None), 200);
    let named = resources_named(&stage.front.server().server, Place::Authorize);
    assert_eq!(named, [[&*address]]);
}

pub(super) fn scopes_that_a_resource_demands_are_asked_for_beside_those_before<A: Resources>() {
    let stage = Stage::<A>::new("scopes");
    for _ in 0..2 {
        let program = stage.program();
        let api = program.api(stage.resource(), |_| true);
        for below in ["", "/files", "", "/files"] {
            assert_eq!(program.status_of(&api, &stage.url(below)), 200, "{below}");
        }
        assert_eq!(stage.asked(), 2);
    }
    let scopes = grantflow::Scopes::from(stage.last_asked("scope").unwrap());
    assert!(scopes.contains("read") && scopes.contains("write"), "{scopes}");
}

pub(super) fn a_program_that_declines_gets_the_refusal_and_may_change_its_mind<A: Resources>() {
    let stage = Stage::<A>::new("declines");
    let (may, told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let program = stage.program();
    let api = program.api(stage.resource(), {
        let (may, told) = (may.clone(), told.clone());
        move |demand: &Demand| {
            assert_eq!((demand.kind(), demand.scopes().as_str()), (DemandKind::Token, "read"));
            told.fetch_add(1, SeqCst);
            may.load(SeqCst)
        }
    });
    for nth in 1..=5 {
        assert_eq!(program.status_of(&api, &stage.url("")), 401);
        assert_eq!((told.load(SeqCst), stage.asked()), (nth, 0));
    }
    assert!(stage.front.server().server.seen().is_empty(), "nothing is looked for either");
    may.store(true, SeqCst);
    assert_eq!(program.status_of(&api, &stage.url("")), 200);
    assert_eq!((told.load(SeqCst), stage.asked()), (6, 1));
}

pub(super) fn a_server_that_cannot_be_found_for_a_while_costs_no_try<A: Resources>() {
    let stage = Stage::<A>::new("not found");
    let program = stage.program();
    let api = program.api(stage.resource(), |_| true);
    let servers = std::mem::take(&mut stage.front.server().resource.servers);
    for _ in 0..5 {
        let error = program.get(&api, &[stage.url("")]).remove(0).unwrap_err();
        assert!(error.to_string().contains("names no authorization server"), "{error}");
    }
    stage.front.server().resource.servers = servers;
    assert_eq!(program.status_of(&api, &stage.url("")), 200);
    assert_eq!(stage.asked(), 1);
}

pub(super) fn another_sign_in_is_demanded_and_asked_for_once_in_the_same_way<A: Resources>() {
    let stage = Stage::<A>::new("anew");
    let program = stage.program();
    let api = program.api(stage.resource(), |_| true);
    assert_eq!(program.status_of(&api, &stage.url("")), 200);
    stage.refuse(401, r#"Bearer error="insufficient_user_authentication", max_age="5""#);
    for _ in 0..3 {
        assert_eq!(program.status_of(&api, &stage.url("")), 401);
        assert_eq!(stage.asked(), 2, "what was kept does not do, and no third sign-in would");
    }
    assert_eq!(stage.last_asked("max_age").as_deref(), Some("5"));
    stage.front.server().resource.refuses = None;
    assert_eq!(program.status_of(&api, &stage.url("")), 200);
    assert_eq!(stage.asked(), 2);
}

pub(super) fn a_resource_that_is_never_content_is_given_up_after_a_few_requests<A: Resources>() {
    for (status, challenge, sign_ins) in [
        (401, r#"Bearer error="invalid_token""#, 2),
        (401, "Bearer", 2),
        (403, r#"Bearer error="insufficient_scope", scope="email""#, 2),
        (403, r#"Bearer error="insufficient_scope""#, 2),
    ] {
        let stage = Stage::<A>::new("never");
        stage.refuse(status, challenge);
        let program = stage.program();
        let api = program.api(stage.resource(), |_| true);
        for _ in 0..5 {
            assert_eq!(program.status_of(&api, &stage.url("")), status, "{challenge}");
        }
        let requests = stage.front.server().resource.seen().len();
        assert!(stage.asked() <= sign_ins && requests < 25, "{challenge}: {} sign-ins, {requests}", stage.asked());
    }
}

pub(super) fn a_resource_that_refuses_and_serves_by_turns_has_nobody_asked_each_time<A: Resources>() {
    for (challenge, most) in [
        (r#"Bearer error="insufficient_user_authentication", max_age="0""#, 3),
        (r#"Bearer error="insufficient_scope", scope="email""#, 3),
        ("Bearer", 3),
    ] {
        let stage = Stage::<A>::new("by turns");
        let program = stage.program();
        let api = program.api(stage.resource(), |_| true);
        for _ in 0..6 {
            stage.front.server().resource.refuses = None;
            assert_eq!(program.status_of(&api, &stage.url("")), 200);
            stage.refuse(401, challenge);
            assert_eq!(program.status_of(&api, &stage.url("")), 401);
        }
        assert!(stage.asked() <= most, "{challenge}: {} sign-ins", stage.asked());
    }
}

pub(super) fn requests_at_once_lead_to_one_sign_in_and_all_get_their_answer<A: Resources>() {
    let stage = Stage::<A>::new("at once");
    let program = stage.program();
    let api = program.api(stage.resource(), |_| true);
    for (below, asked) in [("", 1), ("/files", 2)] {
        let urls = vec![stage.url(below); 8];
        let statuses: Vec<_> = program.get(&api, &urls).into_iter().map(Result::unwrap).collect();
        assert_eq!(statuses, [200; 8], "{below}");
        assert_eq!(stage.asked(), asked, "{below}");
    }
}

pub(super) fn a_grant_that_has_ended_leads_to_another_sign_in<A: Resources>() {
    let stage = Stage::<A>::new("ended");
    let program = A::new();
    let api = program.api(stage.resource(), |_| true);
    for asked in [1, 2] {
        assert_eq!(program.status_of(&api, &stage.url("")), 200);
        assert_eq!(stage.asked(), asked);
        program.reject_token(&api);
        stage.front.server().server.fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
    }
}
