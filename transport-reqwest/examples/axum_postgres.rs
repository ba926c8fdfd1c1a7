//! A service for many people, whose grants lie in PostgreSQL, encrypted: any of its processes uses them, and each refresh
//! token is used once.
//!
//! ```text
//! cargo run -p grantflow-reqwest --example axum_postgres
//! ```
//!
//! It starts a PostgreSQL, if one is installed, a pretend server, and two processes of itself; a hundred people have signed
//! in, and all of them come to both processes at once.

#[cfg(unix)]
mod service {
    use std::error::Error;
    use std::io::{BufRead as _, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use axum::Router;
    use axum::extract::{Path, State};
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use grantflow_reqwest::grantflow::crypto::{SealingKey, SealingKeys};
    use grantflow_reqwest::grantflow::source::Want;
    use grantflow_reqwest::grantflow::store::{CountGrants, EndGrants, RecordKey, SaveGrant, SharedGrant, Which};
    use grantflow_reqwest::grantflow::{self, Client, Issuer, TokenRequest};
    use grantflow_reqwest::{TokenPool, Transport};
    use grantflow_store::{AsyncPostgresStore, Sealed};
    use grantflow_tests::postgres_server::PostgresServer;
    use grantflow_tests::server::RefreshTokens;
    use grantflow_tests::{Front, Place, Server};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    const PEOPLE: usize = 100;

    pub(crate) type Outcome = Result<(), Box<dyn Error + Send + Sync>>;
    type Answer = Result<String, (StatusCode, String)>;

    /// What handlers share. All of it is cheap to clone.
    #[derive(Clone)]
    struct Service {
        transport: Transport,
        tokens: TokenPool,
        issuer: Issuer,
        client: Client,
    }

    impl Service {
        /// A process of the service: its database, its key, and the server where people sign in.
        fn new(database: &str, key: &[u8], issuer: &str) -> Result<Self, grantflow::Error> {
            let keys = SealingKeys::new(SealingKey::new("1", key)?);
            let store = Sealed::new(AsyncPostgresStore::new(database)?, keys);
            let transport = Transport::new()?.with_async_store(store);
            let (tokens, issuer) = (TokenPool::new(&transport), Issuer::new(issuer)?);
            Ok(Self { transport, tokens, issuer, client: Client::new("demo") })
        }

        fn key(&self, person: &str) -> RecordKey {
            RecordKey::new(&self.issuer, &self.client, person)
        }

        /// A token of this person, which a real service would use for a request of its own.
        async fn token(&self, person: &str) -> Result<String, grantflow::Error> {
            let grant = SharedGrant::new(self.key(person), self.issuer.clone(), &self.client);
            self.tokens.add(person, grant)?;
            let token = self.tokens.token(person, &Want::default()).await?;
            Ok(token.access_token().to_owned())
        }
    }

    fn failed(error: grantflow::Error) -> (StatusCode, String) {
        (StatusCode::BAD_GATEWAY, error.to_string())
    }

    async fn work(State(service): State<Service>, Path(person): Path<String>) -> Answer {
        service.token(&person).await.map_err(failed)
    }

    async fn count(State(service): State<Service>) -> Answer {
        let count = service.transport.run(CountGrants::new(Which::label("person-"))).await;
        count.map(|count| count.to_string()).map_err(failed)
    }

    /// "Forget these people."
    async fn forget(State(service): State<Service>, Path(prefix): Path<String>) -> Answer {
        let ended = service.transport.run(EndGrants::delete(Which::label(prefix))).await.map_err(failed)?;
        match ended.failed.into_iter().next() {
            None => Ok(ended.done.to_string()),
            Some((_, error)) => Err(failed(error)),
        }
    }

    /// One process: it says where it listens, and serves until it is killed.
    pub(crate) async fn serve(database: &str, key: &str, issuer: &str) -> Outcome {
        let service = Service::new(database, &bytes(key), issuer)?;
        let router = Router::new()
            .route("/work/{person}", get(work))
            .route("/count", get(count))
            .route("/forget/{prefix}", post(forget))
            .with_state(service);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("http://{}", listener.local_addr()?);
        Ok(axum::serve(listener, router).await?)
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = |at| hex.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
        (0..hex.len()).step_by(2).map_while(digits).collect()
    }

    fn people() -> impl Iterator<Item = String> {
        (0..PEOPLE).map(|i| format!("person-{i:03}"))
    }

    pub(crate) async fn demo() -> Outcome {
        let Some(database) = PostgresServer::start() else { return Ok(()) };
        let store = AsyncPostgresStore::new(&database.address())?;
        store.create_table().await?;
        let server = Server::demo().with(|settings| {
            settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO };
            settings.lifetime = 1;
        });
        let server = people().fold(server, |server, person| server.user(&person, "their password"));
        let front = Front::start(server)?;
        let random = grantflow::Cx::new(grantflow::Now::default(), {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed)?;
            seed
        })
        .random::<32>("a key")?;
        let key: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("A hundred people sign in");
        let service = Service::new(&database.address(), &random, &front.issuer())?;
        for person in people() {
            let request = TokenRequest::password(&front.metadata(), &service.client, &person, "their password")?;
            let token = service.transport.run(request.exchange()).await?;
            service.transport.run(SaveGrant::new(service.key(&person), Want::default(), &token)).await?;
        }
        front.server().settings.lifetime = 3600;
        let in_the_clear = "SELECT count(*) FROM grantflow WHERE position('refresh_token'::bytea IN value) > 0";
        println!("  grants in the clear: {}", database.ask(in_the_clear).unwrap_or_default());

        println!("Two processes start, and all people come to both at once");
        let processes = [
            Process::start(&database.address(), &key, &front.issuer())?,
            Process::start(&database.address(), &key, &front.issuer())?,
        ];
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let http = service.transport.client_builder().build()?;
        let mut requests = JoinSet::new();
        for (person, process) in people().flat_map(|person| [(person.clone(), &processes[0]), (person, &processes[1])])
        {
            let request = http.get(format!("{}/work/{person}", process.address)).send();
            requests.spawn(async move {
                let answer = request.await?;
                let good = answer.status().is_success();
                Ok::<_, grantflow_reqwest::reqwest::Error>((person, good, answer.text().await?))
            });
        }
        let mut answers = requests.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
        if let Some((person, _, text)) = answers.iter().find(|(_, good, _)| !good) {
            return Err(format!("{person}: {text}").into());
        }
        answers.sort();
        answers.dedup();
        let refreshes = front.server().seen_at(Place::Token).len() - PEOPLE;
        println!("  {} answers, {} tokens, {refreshes} refreshes", 2 * PEOPLE, answers.len());

        let ask = async |request: grantflow_reqwest::reqwest::RequestBuilder| request.send().await?.text().await;
        let counted = ask(http.get(format!("{}/count", processes[0].address))).await?;
        println!("The first process counts {counted} grants");
        let forgotten = ask(http.post(format!("{}/forget/person-00", processes[1].address))).await?;
        let left = ask(http.get(format!("{}/count", processes[0].address))).await?;
        println!("The second forgets {forgotten} of them; {left} are left");
        let seen = (answers.len(), refreshes, &*counted, &*forgotten, &*left);
        if seen == (PEOPLE, PEOPLE, "100", "10", "90") { Ok(()) } else { Err(format!("unexpected: {seen:?}").into()) }
    }

    /// A process of the service. It ends when this is dropped.
    struct Process {
        child: Child,
        address: String,
    }

    impl Process {
        fn start(database: &str, key: &str, issuer: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
            let mut command = Command::new(std::env::current_exe()?);
            // A key is no argument, which others can see.
            command.args(["serve", database, issuer]).env("GRANTS_KEY", key).stdout(Stdio::piped());
            let mut child = command.spawn()?;
            let mut address = String::new();
            BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut address)?;
            Ok(Self { child, address: address.trim().to_owned() })
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(unix)]
#[tokio::main]
async fn main() -> service::Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &*args.iter().map(String::as_str).collect::<Vec<_>>() {
        ["serve", database, issuer] => service::serve(database, &std::env::var("GRANTS_KEY")?, issuer).await,
        _ => service::demo().await,
    }
}

#[cfg(not(unix))]
fn main() {
    println!("this example starts a PostgreSQL, for which it needs signals");
}
