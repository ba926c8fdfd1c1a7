//! A refresh apart from the network, from its request to its token: an exchange with a ready answer, and a source's mint.

use std::hint::black_box;

use grantflow::machine::Rules;
use grantflow::source::{Credential, TokenSource as _, Want};
use grantflow::{
    Client, Cx, Effect, Issuer, Machine, Now, Reply, Rotation, ServerMetadata, Step, Timestamp, Token, TokenRequest,
};
use http::{Method, Request, Response, header};

use crate::harness::Work;
use crate::token_answer::{self, Made};

const ENDPOINT: &str = "https://as.example/token";
const CLIENT: &str = "native-app";
const USED: &str = "1//old";
const SCOPES: &str = "email openid profile";

fn server() -> ServerMetadata {
    let server = ServerMetadata::new(Issuer::new("https://as.example").unwrap()).token_endpoint(ENDPOINT).unwrap();
    server.refresh_token_rotation(Rotation::Rotates)
}

/// A machine that makes one request, which is opened as drivers do, and wiped.
fn drive(mut machine: impl Machine<Output = Token>, response: &Response<Vec<u8>>, sent: impl Fn(&Sent)) -> Token {
    let now = Now { wall: Timestamp::from_unix(token_answer::NOW), ..Now::default() };
    let mut cx = Cx::new(now, [7; 32]);
    let Step::Do(Effect::Http(call)) = machine.resume(&mut cx, Reply::Start) else { panic!("no request") };
    sent(&call.open(Rules::V1 | Rules::START_BEFORE).unwrap().request);
    let Step::Done(Ok(token)) = machine.resume(&mut cx, Reply::Http(response.clone())) else { panic!("no token") };
    token
}

type Sent = Request<Vec<u8>>;

pub(crate) fn plain() -> Vec<Work<'static>> {
    let (server, client, used) = (server(), Client::new(CLIENT), USED.into());
    beside_floor(&[], move || TokenRequest::refresh_token(&server, &client, &used).unwrap().exchange())
}

pub(crate) fn mint() -> Vec<Work<'static>> {
    let source = Credential::refresh_token(server(), &Client::new(CLIENT), USED);
    let (want, state) = (Want::access_token(SCOPES), source.first_state());
    beside_floor(&[("scope", SCOPES)], move || source.mint(&want, &state))
}

/// These machines beside the same request, with these parameters besides, and the same answer.
fn beside_floor<M: Machine<Output = Token>>(
    besides: &'static [(&str, &str)],
    machine: impl Fn() -> M + 'static,
) -> Vec<Work<'static>> {
    let response = token_answer::answer(token_answer::body());
    drive(machine(), &response, |sent| {
        let floor = request(besides);
        assert_eq!((sent.method(), sent.uri(), sent.headers()), (floor.method(), floor.uri(), floor.headers()));
        assert_eq!(sent.body(), floor.body());
    });
    let copy = response.clone();
    let ours = move || drive(machine(), &response, |sent| _ = black_box(sent));
    vec![Work::new("grantflow", ours), Work::new("floor", move || floor(besides, &copy))]
}

fn request(besides: &[(&str, &str)]) -> Sent {
    let mut form = String::with_capacity(128);
    let mut pairs = url::form_urlencoded::Serializer::new(&mut form);
    pairs.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT);
    pairs.append_pair("refresh_token", USED).extend_pairs(besides);
    let request = Request::builder().method(Method::POST).uri(ENDPOINT);
    let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    request.header(header::ACCEPT, "application/json").body(form.into_bytes()).unwrap()
}

/// The request, its body wiped, and the fields of the answer, which is wiped too.
fn floor(besides: &[(&str, &str)], response: &Response<Vec<u8>>) -> Made {
    let wipe = |bytes: &mut Vec<u8>| {
        bytes.fill(0);
        black_box(bytes);
    };
    wipe(black_box(request(black_box(besides))).body_mut());
    let mut response = response.clone();
    let made = token_answer::floor(&response, "");
    wipe(response.body_mut());
    made
}
