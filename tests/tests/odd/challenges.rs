//! Challenges that break the grammar.

use grantflow::Challenge;
use http::HeaderMap;

use super::{rows, text};

#[test]
fn a_value_that_breaks_the_grammar_is_left_out_whole_and_the_rest_kept() {
    for row in rows(include_str!("../../data/odd/challenges.json"), "fields") {
        let mut headers = HeaderMap::new();
        headers.insert("www-authenticate", text(&row, "field").parse().unwrap());
        let found = Challenge::all(&headers);
        let expected = row["challenges"].as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{row}: {found:?}");
        for (challenge, expected) in found.iter().zip(expected) {
            assert_eq!(challenge.scheme(), text(expected, "scheme"), "{row}");
            for name in ["error", "error_description", "realm", "scope", "resource_metadata", "max_age"] {
                assert_eq!(challenge.get(name), expected[name].as_str(), "{name} of {row}");
            }
            assert_eq!(challenge.token68(), None, "{row}");
        }
    }
}
