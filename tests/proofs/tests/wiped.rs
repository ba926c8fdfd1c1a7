//! Whatever held a secret is wiped before its memory is given back: an allocator looks at each block that returns.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use grantflow::crypto::{Algorithm, Signer, Signing, SigningKey};
use grantflow::exchange::{Received, Request};
use grantflow::machine::{Exited, Identity, Program, Rules};
use grantflow::{
    Call, Client, ClientAuthentication, Cx, Effect, Issuer, Machine, Now, Reply, Secret, ServerMetadata, Step, Token,
    TokenRequest,
};

const CANARY: &str = "CANARYsecretCANARYsecret";
/// The middle of the Basic credentials that hold it.
const BASIC: &str = "Q0FOQVJZc2VjcmV0Q0FOQVJZc2VjcmV0";

struct Looking;

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    static FOUND: Cell<usize> = const { Cell::new(0) };
}

/// Looks at a block that is given back.
///
/// # Safety
///
/// `at` is the beginning of a block of this size, all of it initialised.
unsafe fn look(at: *mut u8, size: usize) {
    if ON.get() {
        let bytes = unsafe { std::slice::from_raw_parts(at, size) };
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        if holds(CANARY) || holds(BASIC) {
            FOUND.set(FOUND.get() + 1);
        }
    }
}

unsafe impl GlobalAlloc for Looking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe {
            look(at, layout.size());
            System.dealloc(at, layout);
        }
    }

    /// Always moves, so that what a growing buffer leaves behind is seen.
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        unsafe {
            let to = System.alloc_zeroed(Layout::from_size_align_unchecked(size, layout.align()));
            if !to.is_null() {
                std::ptr::copy_nonoverlapping(at, to, layout.size().min(size));
                self.dealloc(at, layout);
            }
            to
        }
    }
}

#[global_allocator]
static ALLOCATOR: Looking = Looking;

/// How many blocks came back with the secret in them.
fn left_behind(work: impl FnOnce()) -> usize {
    FOUND.set(0);
    ON.set(true);
    work();
    ON.set(false);
    FOUND.get()
}

fn server() -> ServerMetadata {
    ServerMetadata::new(Issuer::new("https://as.example").unwrap()).token_endpoint("https://as.example/t").unwrap()
}

/// Runs a token request to its end against this answer.
fn exchange(request: TokenRequest, answer: &[u8]) -> Option<Token> {
    let mut machine = request.exchange();
    let mut reply = Reply::Start;
    loop {
        match machine.resume(&mut Cx::new(Now::default(), [7; 32]), reply) {
            Step::Do(Effect::Http(call)) => {
                let open = call.open(Rules::V1).unwrap();
                assert_eq!(open.request.method(), "POST");
                reply = Reply::Http(http::Response::new(answer.to_vec()));
            }
            Step::Do(_) => reply = Reply::Refused,
            Step::Done(result) => return result.ok(),
        }
    }
}

#[test]
fn the_allocator_sees_what_is_not_wiped() {
    assert_eq!(left_behind(|| drop(CANARY.to_owned())), 1);
    let grown = || {
        let mut text = String::with_capacity(32);
        text.push_str(CANARY);
        text.reserve(1000);
        drop(Secret::from(text));
    };
    assert_eq!(left_behind(grown), 1);
    assert_eq!(left_behind(|| drop(Secret::from(CANARY))), 0);
}

#[test]
fn requests_leave_no_copy_of_a_secret_behind() {
    let (server, public) = (server(), Client::new("c"));
    let (secret, other) = (Secret::from(CANARY), Secret::from("something else"));
    let post = Client::new("c").authentication(ClientAuthentication::client_secret_post(CANARY));
    let basic = Client::new("id").authentication(ClientAuthentication::client_secret_basic(CANARY));
    let odd = format!("ä&{CANARY}");
    type Make<'a> = &'a dyn Fn() -> TokenRequest;
    let cases: [(&str, Make<'_>); 5] = [
        ("a refresh token", &|| TokenRequest::refresh_token(&server, &public, &secret).unwrap()),
        ("a client's secret in the form", &|| TokenRequest::refresh_token(&server, &post, &other).unwrap()),
        ("a client's secret in a header", &|| TokenRequest::refresh_token(&server, &basic, &other).unwrap()),
        ("a password", &|| TokenRequest::password(&server, &public, "alice", CANARY).unwrap()),
        ("a password with signs in it", &|| TokenRequest::password(&server, &public, "alice", odd.as_str()).unwrap()),
    ];
    for (name, make) in cases {
        assert_eq!(left_behind(|| drop(make())), 0, "{name}: made and dropped");
        assert_eq!(left_behind(|| drop(exchange(make(), b"{}"))), 0, "{name}: sent");
    }
}

#[test]
fn answers_leave_no_copy_of_a_token_behind() {
    let (server, client) = (server(), Client::new("c"));
    for answer in [
        format!("{{\"access_token\":\"{CANARY}\",\"token_type\":\"Bearer\",\"refresh_token\":\"{CANARY}\"}}"),
        format!(
            "{{\"access_token\":\"a\",\"token_type\":\"Bearer\",\"refresh_token\":\"{CANARY}\",\"expires_in\":[]}}"
        ),
    ] {
        let request = TokenRequest::refresh_token(&server, &client, &Secret::from("old one")).unwrap();
        let mut token = None;
        assert_eq!(left_behind(|| token = exchange(request, answer.as_bytes())), 0, "{answer}");
        let token = token.expect("a token");
        let kept = left_behind(|| {
            let _ = token.authorization();
            drop(token);
        });
        assert_eq!(kept, 0, "{answer}: the token itself");
    }
}

#[test]
fn headers_of_a_callers_own_requests_leave_none_behind() {
    let endpoint = grantflow::Endpoint::new("https://as.example/t").unwrap();
    let value = Secret::from(format!("Bearer {CANARY}"));
    let made = || drop(Request::get("asking", &endpoint).secret_header("x-vault-token", &value));
    assert_eq!(left_behind(made), 0);
}

#[test]
fn keys_leave_none_behind_even_if_they_cannot_be_used() {
    for body in [CANARY.to_owned(), format!("{CANARY}\\n{CANARY}\\r\\n"), format!("{CANARY}!"), CANARY.repeat(20)] {
        for end in ["-----END PRIVATE KEY-----\n", ""] {
            let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n{end}");
            assert_eq!(left_behind(|| drop(SigningKey::from_pem(Algorithm::RS256, &pem).err())), 0, "{body}");
        }
    }
}

#[test]
fn an_opened_call_leaves_none_behind_and_one_that_is_refused_neither() {
    let call = |room: usize| {
        let mut body = Vec::with_capacity(room);
        body.extend_from_slice(CANARY.as_bytes());
        Call::new(http::Request::post("https://as.example/t").body(body).unwrap())
    };
    for room in [CANARY.len(), 1000] {
        assert_eq!(left_behind(|| drop(call(room))), 0, "never opened");
        assert_eq!(left_behind(|| drop(call(room).open(Rules::V1).unwrap())), 0, "opened");
        let refused = || drop(call(room).with_identity(Identity::named("x")).open(Rules::V1).unwrap_err());
        assert_eq!(left_behind(refused), 0, "refused");
        let shortened = || {
            let mut open = call(room).open(Rules::V1).unwrap();
            open.request.body_mut().clear();
        };
        assert_eq!(left_behind(shortened), 0, "its body shortened by the driver");
        // Whoever takes the request out has it to wipe.
        assert_eq!(left_behind(|| drop(call(room).open(Rules::V1).unwrap().take_request())), 1, "taken out");
    }
}

/// Opens the call that a machine begins with, and drops it before the machine.
fn opened<M: Machine>(mut machine: M) {
    let step = machine.resume(&mut Cx::new(Now::default(), [7; 32]), Reply::Start);
    let Step::Do(Effect::Http(call)) = step else { panic!("no request") };
    drop(call.open(Rules::V1 | Rules::IDENTITY).unwrap());
}

/// Signs by the secret itself, whose base64 is then the end of the assertion.
#[derive(Debug)]
struct ByItself;

impl Signer for ByItself {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
    fn sign(&self, _: &[u8], _: &mut Cx) -> Signing {
        Signing::Done(Ok(CANARY.as_bytes().to_vec()))
    }
}

#[test]
fn whatever_an_opened_call_carries_leaves_none_behind() {
    let (server, endpoint) = (server(), grantflow::Endpoint::new("https://as.example/t").unwrap());
    let value = Secret::from(format!("Bearer {CANARY}"));
    let basic = Client::new("id").authentication(ClientAuthentication::client_secret_basic(CANARY));
    let signed = Client::new("c").authentication(ClientAuthentication::private_key_jwt(ByItself));
    let token = Token::bearer(CANARY, Now::default().wall, None).unwrap();
    let nothing = |_: Received<'_>| Ok(());
    let cases: [(&str, &dyn Fn()); 6] = [
        ("a header", &|| {
            opened(Request::get("asking", &endpoint).secret_header("x-vault-token", &value).exchange(nothing));
        }),
        ("a bearer token", &|| opened(Request::get("asking", &endpoint).bearer(&token).unwrap().exchange(nothing))),
        ("Basic", &|| opened(TokenRequest::client_credentials(&server, &basic).unwrap().exchange())),
        ("JSON", &|| {
            let secret = Secret::from(CANARY);
            opened(Request::post("asking", &endpoint).json(&secret.expose()).keeps_secret(&secret).exchange(nothing));
        }),
        ("an assertion", &|| opened(TokenRequest::client_credentials(&server, &signed).unwrap().exchange())),
        ("a certificate's key", &|| {
            let identity = Identity::pem("a certificate", CANARY);
            opened(Request::post("asking", &endpoint).identity(identity).exchange(nothing));
        }),
    ];
    for (name, work) in cases {
        assert_eq!(left_behind(work), 0, "{name}");
    }
}

#[test]
fn programs_leave_none_behind_nor_does_what_they_printed() {
    let program = || Program::new("/bin/get-token").args(["--key", CANARY]).env("KEY", CANARY);
    assert_eq!(left_behind(|| drop(program())), 0);
    assert_eq!(left_behind(|| drop(program().clone())), 0);
    let printed = || [CANARY.as_bytes(), &[b'.'; 5000], CANARY.as_bytes()].concat();
    assert_eq!(left_behind(|| drop(Exited::new(Some(0), printed(), printed()))), 0);
}
