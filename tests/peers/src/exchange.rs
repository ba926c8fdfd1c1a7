//! A whole refresh, less its way over the network: the request is made, handed over, and its answer read.

use grantflow::machine::Rules;
use grantflow::{Client, Cx, Effect, Issuer, Machine as _, Now, Reply, Secret, ServerMetadata, Step, TokenRequest};
use http::Response;
use oauth2::basic::BasicClient;
use oauth2::{ClientId, RefreshToken, TokenUrl};

use crate::harness::{Figures, Work, ratio};

pub(crate) const NAME: &str = "refresh, a ready answer";
/// How much longer than oauth2's it may take; on a machine that has other work too, a little more.
const BAR: f64 = 1.1 * 1.15;
const TOKEN: &str = "https://as.example/token";
const REFRESH_TOKEN: &str = "1//0gX9zQwE0gX9zQwE0gX9zQwE0gX9zQwE";

pub(crate) fn works(body: &str) -> Vec<Work<'static>> {
    let response = Response::builder().header("content-type", "application/json; charset=utf-8");
    let answer = response.body(body.as_bytes().to_vec()).unwrap();
    vec![grantflow(answer.clone()), oauth2(answer)]
}

pub(crate) fn holds(figures: &[Figures]) -> bool {
    ratio(figures[0].best, figures[1].best) <= BAR && figures[0].allocations <= figures[1].allocations
}

fn grantflow(answer: Response<Vec<u8>>) -> Work<'static> {
    let issuer = Issuer::new("https://as.example").unwrap();
    let server = ServerMetadata::new(issuer).token_endpoint(TOKEN).unwrap();
    let client = Client::new("native-app");
    let refresh_token = Secret::from(REFRESH_TOKEN);
    Work::new("grantflow", move || {
        let mut exchange = TokenRequest::refresh_token(&server, &client, &refresh_token).unwrap().exchange();
        let mut cx = Cx::new(Now::default(), [7; 32]);
        let Step::Do(Effect::Http(call)) = exchange.resume(&mut cx, Reply::Start) else { panic!("no request") };
        let sent = call.open(Rules::V1).unwrap();
        let Step::Done(token) = exchange.resume(&mut cx, Reply::Http(answer.clone())) else { panic!("no token") };
        (sent, token.unwrap())
    })
}

fn oauth2(answer: Response<Vec<u8>>) -> Work<'static> {
    let client =
        BasicClient::new(ClientId::new("native-app".into())).set_token_uri(TokenUrl::new(TOKEN.into()).unwrap());
    let refresh_token = RefreshToken::new(REFRESH_TOKEN.into());
    Work::new("oauth2", move || {
        let send = |_: oauth2::HttpRequest| Ok::<_, std::io::Error>(answer.clone());
        client.exchange_refresh_token(&refresh_token).request(&send).unwrap()
    })
}
