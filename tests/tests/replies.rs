//! Property tests: the bodies of the fuzz targets, on inputs made by a seeded generator from good ones.

use std::panic::{AssertUnwindSafe, catch_unwind};

use grantflow_tests::prop;

/// A small generator (xorshift64*): the same seed gives the same inputs on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).unwrap() % end.max(1)
    }

    /// A good input with a few bytes changed, cut, doubled or put in; sometimes only noise.
    fn spoil(&mut self, good: &[u8]) -> Vec<u8> {
        const WORDS: [&[u8]; 16] = [
            b"\x01", b"\x02", b"\x03", b"\x04", b"\x05", b"\"", b"\\", b"{", b"[", b"null", b"&", b"=", b"%00",
            b"\r\n", b"\xff", b"e309",
        ];
        if self.below(8) == 0 {
            return (0..self.below(200)).map(|_| self.next() as u8).collect();
        }
        let mut bytes = good.to_vec();
        for _ in 0..self.below(4) {
            let (at, other) = (self.below(bytes.len()), self.below(bytes.len()));
            match self.below(5) {
                0 if !bytes.is_empty() => bytes[at] = self.next() as u8,
                1 => drop(bytes.splice(at..at, WORDS[self.below(WORDS.len())].iter().copied())),
                2 => drop(bytes.drain(at.min(other)..at.max(other))),
                3 => bytes.truncate(at.max(1)),
                _ => {
                    let part = bytes[at.min(other)..at.max(other)].to_vec();
                    drop(bytes.splice(at..at, part));
                }
            }
        }
        bytes
    }
}

/// Feeds a body with good inputs, and with many that were good once.
fn hold(body: fn(&[u8]), seed: u64, good: &[&[u8]], rounds: usize) {
    let mut random = Random(seed);
    for input in good {
        body(input);
    }
    for round in 0..rounds {
        let input = random.spoil(good[round % good.len()]);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(&input))) {
            eprintln!("with the input {:?}", input.escape_ascii().to_string());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn no_token_answer_panics_or_leaks() {
    hold(
        prop::token_answer,
        1,
        &[
            b"\x04{\"access_token\":\"t\",\"token_type\":\"Bearer\",\"expires_in\":3600,\"refresh_token\":\"r\"}",
            b"\x05{\"access_token\":\"\x01\",\"scope\":[\"a\",\"\x01\"],\"expires_in\":\"60\",\"x\":{\"y\":[1,null]}}",
            b"\x0aaccess_token=\x02&token_type=bearer&scope=a%2Cb&expires_in=0",
            b"\x04{\"error\":\"invalid_grant\",\"error_description\":\"\x01 \x02 \x03\",\"error_uri\":\"https://x/\x02\"}",
            b"\x04{\"ok\":false,\"error\":{\"message\":\"\x01\",\"code\":1}}",
        ],
        5_000,
    );
}

#[test]
fn no_answer_to_a_device_panics_leaks_or_leads_astray() {
    hold(
        prop::device_answer,
        8,
        &[
            b"\x04{\"device_code\":\"\x01\",\"user_code\":\"WDJB-MJHT\",\"verification_uri\":\"https://x/\",\
              \"verification_uri_complete\":\"https://x/?a=b\",\"expires_in\":1800,\"interval\":5}",
            b"\x05{\"device_code\":\"\x01\",\"user_code\":\"\xc3\xa9\",\"verification_url\":\"https://x/\",\
              \"expires_in\":\"1800\",\"interval\":1e1}",
            b"\x0adevice_code=\x02&user_code=a&verification_uri=http%3A%2F%2F%5B%3A%3A1%5D%2F&expires_in=9",
            b"\x04{\"error\":\"\x01\",\"device_code\":\"\x01\",\"verification_uri\":\"javascript:\x01\"}",
        ],
        5_000,
    );
}

#[test]
fn no_redirect_panics_leaks_or_is_believed_without_the_state() {
    hold(
        prop::redirect,
        2,
        &[
            b"http://127.0.0.1:50123/?code=abc&state=\x04&iss=https%3A%2F%2Fas.example",
            b"code=abc&state=\x04",
            b"?error=access_denied&error_description=\x04+no&state=\x04#fragment",
            b"?code=a&code=b&state=\x04",
            b"iss=https%3A%2F%2Fas.example&target_link_uri=https%3A%2F%2Fapp.example%2Finbox&login_hint=a",
            b"iss=https%3A%2F%2Fas.example&sid=s",
        ],
        5_000,
    );
}

#[test]
fn no_request_to_the_loopback_receiver_panics_leaks_or_is_believed_without_the_state() {
    hold(
        prop::loopback_request,
        3,
        &[
            b"GET /?code=abc&state=\x04\x05",
            b"GET /?error=%3Cscript%3E&error_description=%3Cscript%3E&state=\x04\x05",
            b"HEAD /favicon.ico\x05",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET http://127.0.0.1:50123/?code=a&state=\x04 HTTP/1.1\r\nHost: 127.0.0.1:50123\r\nOrigin: null\r\n\r\n",
        ],
        2_000,
    );
}

#[test]
fn no_metadata_panics_or_leads_astray() {
    hold(
        prop::metadata,
        4,
        &[
            b"{\"issuer\":\"\x04\",\"authorization_endpoint\":\"\x04/a?b=c\",\"token_endpoint\":\"http://[::1]:1/t\"}",
            b"{\"issuer\":\"\x04\",\"revocation_endpoint\":null,\"code_challenge_methods_supported\":[\"S256\",1]}",
            b"{\"issuer\":\"\x04\",\"authorization_endpoint\":\"javascript:alert(1)\"}",
        ],
        4_000,
    );
}

#[test]
fn no_client_file_panics_or_leaks() {
    hold(
        prop::client_file,
        5,
        &[
            b"{\"installed\":{\"client_id\":\"x\",\"client_secret\":\"\x01\",\"token_uri\":\"\x04\",\
              \"auth_uri\":\"https://accounts.google.com/o/oauth2/auth\",\"redirect_uris\":[\"http://localhost\"]}}",
            b"{\"web\":{\"client_id\":\"x\",\"client_secret\":\"\x01\",\"token_uri\":\"https://x.example/\x02\",\
              \"auth_uri\":\"https://x.example/\"}}",
            b"{\"type\":\"service_account\",\"private_key\":\"\x01\"}",
        ],
        4_000,
    );
}

#[test]
fn no_signed_token_is_read_as_anything_else_than_what_was_signed() {
    hold(
        prop::signed_token,
        9,
        &[
            b"\0{\"azp\":\"app\",\"auth_time\":1795176000,\"email\":\"\\u0061\\n\"}",
            b"\x02{\"scope\":\"a b\",\"acr\":\"b\",\"auth_time\":1795176000.5,\"cnf\":{}}",
            b"\x06{\"scp\":[\"a\"],\"nbf\":1,\"aud\":[\"app\",\"x\"],\"sub\":null}",
            b"\x01{\"iss\":\"https://as.example\",\"aud\":\"app\"}",
            b"\x0a{\"sid\":\"s\"}",
            b"\x0a{\"nonce\":\"n\",\"events\":{},\"sub\":null}",
        ],
        1_000,
    );
}

#[test]
fn nothing_that_nobody_has_signed_is_verified() {
    hold(
        prop::presented_token,
        10,
        &[
            b"eyJhbGciOiJFUzI1NiIsImtpZCI6ImEifQ.e30.AAAA",
            b"eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL2FzLmV4YW1wbGUifQ.",
            b"Bearer abc\nBearer abc",
        ],
        5_000,
    );
}

#[test]
fn no_answer_to_an_introspection_panics_leaks_or_is_believed_without_its_word() {
    hold(
        prop::introspection_answer,
        11,
        &[
            b"\0{\"active\":true,\"sub\":\"\x01\",\"scope\":\"a b\",\"exp\":1795179600,\"aud\":[\"x\"]}",
            b"\0{\"active\":\"true\"}",
            b"\x03eyJ0eXAiOiJ0b2tlbi1pbnRyb3NwZWN0aW9uK2p3dCIsImFsZyI6IkVTMjU2In0.e30.AAAA",
            b"\0{\"error\":\"invalid_client\",\"error_description\":\"\x01\"}",
        ],
        5_000,
    );
}

#[test]
fn whatever_the_replies_every_machine_ends_and_says_no_secret() {
    // Machine, client, start; then seed, time, clock, reply, status, type, wait, body for each step.
    let machines = (0..=u8::MAX).take(prop::machines());
    let good: Vec<Vec<u8>> = machines
        .map(|machine| {
            let answer = |status, body| [9, 1, 128, 200, status, 0, 0, body];
            [&[machine, machine, 0][..], &answer(12, 0), &[9, 1, 128, 200], &answer(0, 1), &answer(5, 3)].concat()
        })
        .collect();
    let good: Vec<&[u8]> = good.iter().map(Vec::as_slice).collect();
    hold(prop::any_replies, 6, &good, 4_000);
}

#[test]
fn whatever_the_noise_every_machine_ends_and_says_no_secret() {
    let mut random = Random(7);
    for _ in 0..4_000 {
        let noise: Vec<u8> = (0..random.below(400)).map(|_| random.next() as u8).collect();
        prop::any_replies(&noise);
    }
}

#[test]
fn a_machine_whose_first_call_was_no_start_has_ended() {
    // Found by the fuzzer: the machine that finishes an authorization could still be started.
    prop::any_replies(b"\0\xff\xff\xff\xff\x01\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x28");
    // Each machine of each kind, and each by every reply.
    for machine in (0..=u8::MAX).take(prop::machines()) {
        (0..40).for_each(|way| prop::any_replies(&[machine, way, 255, 3]));
        (0..9).for_each(|reply| prop::any_replies(&[machine, machine, 255, reply]));
    }
}

#[test]
fn every_key_of_a_set_is_read_as_it_was_written() {
    let ed25519 = [b"\x06".as_slice(), &[7; 40]].concat();
    let set = include_bytes!("../../fuzz/seeds/key_set/all");
    hold(prop::key_set, 12, &[set, &ed25519, b"\x01abc", b"\x03abc", b"{\"keys\":[{\"kty\":\"\x01\"}]}"], 2_000);
}

#[test]
fn no_private_key_panics_or_is_shown() {
    hold(
        prop::private_key,
        13,
        &[
            include_bytes!("../../fuzz/seeds/private_key/pkcs8"),
            include_bytes!("../../fuzz/seeds/private_key/sec1"),
            include_bytes!("../../fuzz/seeds/private_key/certificate"),
            include_bytes!("../../fuzz/seeds/private_key/jwk"),
            include_bytes!("../../fuzz/seeds/private_key/pem"),
        ],
        500,
    );
}

#[test]
fn a_signature_is_of_what_was_signed_and_of_nothing_else() {
    let token = include_bytes!("../../fuzz/seeds/jws/token");
    let headers: [&[u8]; 5] = [
        b"{\"typ\":\"at+jwt\"}\n{}",
        b"{\"crit\":[\"x\"],\"x\":1}\n{}",
        b"{\"alg\":\"none\"}\n{}",
        b"{\"kid\":\"\x01\"}\n{}",
        token,
    ];
    hold(prop::jws, 14, &headers, 2_000);
}

#[test]
fn what_is_sealed_opens_whole_and_for_its_purpose_alone() {
    let seed = include_bytes!("../../fuzz/seeds/sealed/head");
    hold(prop::sealed, 15, &[b"a message", seed, b"pending-a=Z3JhbnRmbG93; other=1"], 1_000);
}
