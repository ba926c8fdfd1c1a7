//! Secrets that are easy to find again, in every shape in which they may get out.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt::Debug;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Every shape of a secret that a careless line of code may print: as it is, percent-encoded, in
/// base64 wherever it begins, in hex, escaped, as a list of bytes.
pub fn shapes(secret: &str) -> Vec<String> {
    // A fuzzer learns what is looked for and writes it into its input itself, also where it was never sent: leaks
    // are looked for by the property tests, which guess nothing, and the fuzzer looks for panics and endless runs.
    if std::env::var_os("GRANTFLOW_FUZZING").is_some() {
        return Vec::new();
    }
    let bytes = secret.as_bytes();
    let mut shapes = vec![
        secret.to_owned(),
        url::form_urlencoded::byte_serialize(bytes).collect(),
        bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        bytes.iter().map(|byte| format!("%{byte:02X}")).collect(),
        format!("{secret:?}").trim_matches('"').to_owned(),
        serde_json::Value::from(secret).to_string().trim_matches('"').to_owned(),
        format!("{bytes:?}").trim_matches(['[', ']']).to_owned(),
    ];
    for before in 0..3 {
        // The first and last characters of base64 depend on what stands around.
        let text = [&b"\0\0"[..before], bytes].concat();
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&text);
            let (start, end) = ((before * 8).div_ceil(6), text.len() * 8 / 6);
            shapes.push(encoded[start..end].to_owned());
        }
    }
    shapes
}

/// Fails if a text holds a secret in any shape.
///
/// # Panics
///
/// If it does.
pub fn hidden(what: &str, text: &str, secrets: &[&str]) {
    thread_local!(static SHAPES: RefCell<BTreeMap<String, Vec<String>>> = const { RefCell::new(BTreeMap::new()) });
    SHAPES.with_borrow_mut(|known| {
        for secret in secrets {
            for shape in known.entry((*secret).to_owned()).or_insert_with(|| shapes(secret)) {
                assert!(!text.contains(&**shape), "{what} shows the secret {secret} as {shape}: {text}");
            }
        }
    });
}

/// Fails if the `Debug` of a value, in either form, holds a secret.
///
/// # Panics
///
/// If it does.
pub fn hidden_in_debug(what: &str, value: &dyn Debug, secrets: &[&str]) {
    hidden(what, &format!("{value:?}\n{value:#?}"), secrets);
}

/// Fails if an error holds a secret anywhere: in its own words, or in those of whatever led to it.
///
/// # Panics
///
/// If it does.
pub fn hidden_in_error(error: &(dyn StdError + 'static), secrets: &[&str]) {
    let mut next = Some(error);
    while let Some(error) = next {
        hidden("an error", &format!("{error}\n{error:#}\n{error:?}\n{error:#?}"), secrets);
        next = error.source();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_secret_in_every_shape() {
        let secret = "c4n-ary/+ \"x";
        let around = format!("before:{secret}:after");
        for text in [
            around.clone(),
            STANDARD_NO_PAD.encode(&around),
            STANDARD_NO_PAD.encode(&around[1..]),
            URL_SAFE_NO_PAD.encode(&around[2..]),
            format!("{:?}", around.as_bytes()),
            format!("{around:?}"),
            url::form_urlencoded::byte_serialize(around.as_bytes()).collect(),
        ] {
            let found = shapes(secret).iter().any(|shape| text.contains(shape));
            assert!(found, "{text}");
        }
        hidden("nothing", "c4n-ary", &[secret]);
    }
}
