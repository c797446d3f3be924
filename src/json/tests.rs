//! What is read as JSON, and what is not.

use super::*;

fn same(one: &str, other: &str) -> bool {
    digest(one.as_bytes()).unwrap() == digest(other.as_bytes()).unwrap()
}

fn refusal(text: &str) -> JsonError {
    digest(text.as_bytes()).unwrap_err()
}

#[test]
fn white_space_the_order_of_keys_and_the_spelling_of_strings_do_not_matter() {
    assert!(same(r#"{"a":1,"b":[true,null]}"#, " {\n\"b\" : [ true , null ] , \"a\" : 1 }\t"));
    assert!(same(r#"{"k":"é/"}"#, r#"{"\u006b":"\u00e9\/"}"#));
}

#[test]
fn everything_else_matters() {
    let texts = r#"null false true 0 1 1.0 -1 1.5 -0.0 "" "1" "a" [] [[]] [1] [1,2] [2,1] [[1],2] [[1,2]] {} [{}]
        {"a":1} {"a":"1"} {"b":1} {"a":{"b":1}} {"a":1,"b":1} {"a":null} {"ab":1} ["a","b"] ["ab"]"#;
    let texts: Vec<&str> = texts.split_whitespace().collect();
    let digests: std::collections::HashSet<_> = texts.iter().map(|t| digest(t.as_bytes()).unwrap()).collect();
    assert_eq!(digests.len(), texts.len());
}

#[test]
fn numbers_are_told_apart_by_their_64_bits() {
    assert!(same("1.10", "11e-1"));
    assert!(!same("18446744073709551615", "18446744073709551614"));
    assert!(!same("1", "1.0"));
}

#[test]
fn a_member_of_the_outermost_object_can_be_left_out() {
    let without = |text: &str| digest_without(text.as_bytes(), Some("id")).unwrap();
    let bare = digest(br#"{"a":{"id":1}}"#).unwrap();
    assert_eq!(without(r#"{"a":{"id":1}}"#), (bare, None));
    let whole = digest(br#"{"id":"x","a":{"id":1}}"#).unwrap();
    assert_eq!(without(r#"{"id":"x","a":{"id":1}}"#), (bare, Some(whole)));
    assert_eq!(without(r#"[{"id":"x"}]"#), (digest(br#"[{"id":"x"}]"#).unwrap(), None));
}

#[test]
fn the_digest_of_a_text_never_changes_between_releases() {
    let digest = digest(br#"{"b":[1,-2,0.5,"x"],"a":{"t":true,"n":null}}"#).unwrap();
    let hex: Vec<_> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex.concat(), "cbae38ed70996498c360dd802812ae8db288a31d030d4eb2ad4d0296d50c3c0e");
}

#[test]
fn what_is_not_json_is_refused_with_its_place() {
    assert_eq!(
        refusal("{\n  \"a\": secret}"),
        JsonError::Syntax { line: 2, column: 8, problem: "expected value".to_owned() }
    );
    for text in ["", "  ", "{", "[1,]", "{\"a\":1} x", "{} {}", "'a'", "NaN", "01", "1e999", "\"\\ud800\"", "\"\n\""] {
        assert!(matches!(refusal(text), JsonError::Syntax { line: 1.., .. }), "{text}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_refused() {
    for text in [&b"\"\xff\""[..], b"{\"\xc3\":1}", b"\xff", b"{} \xff", b"\"\xed\xa0\x80\""] {
        assert!(matches!(digest(text), Err(JsonError::Syntax { line: 1, .. })));
    }
}

#[test]
fn a_key_named_twice_is_refused_however_it_is_spelled() {
    assert_eq!(refusal(r#"{"a":1,"a":1}"#), JsonError::DuplicateKey { path: "/a".to_owned() });
    assert_eq!(
        refusal(r#"{"x":[{},{"name":1,"z":2,"n\u0061me":3}]}"#),
        JsonError::DuplicateKey { path: "/x/1/name".to_owned() }
    );
    assert!(digest(br#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
}

#[test]
fn a_nul_character_is_refused_in_strings_and_in_keys() {
    assert_eq!(refusal(r#"{"a":["ok","x\u0000y"]}"#), JsonError::NulCharacter { path: "/a/1".to_owned() });
    assert_eq!(refusal(r#"{"a":{"b\u0000":1}}"#), JsonError::NulCharacter { path: "/a/b\u{FFFD}".to_owned() });
    assert_eq!(refusal(r#""\u0000""#), JsonError::NulCharacter { path: String::new() });
    assert!(digest(br#""\\u0000""#).is_ok());
}

#[test]
fn a_text_nested_too_deeply_is_refused_and_said_so() {
    let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
    assert!(digest(nested(100).as_bytes()).is_ok());
    assert_eq!(refusal(&nested(101)), JsonError::TooDeep);
    assert_eq!(refusal(&"{\"a\":".repeat(100_000)), JsonError::TooDeep);
    // Beside one another they are no deeper.
    assert!(digest(format!("[{0},{0},{{\"a\":{0}}}]", nested(98)).as_bytes()).is_ok());
}

#[test]
fn a_text_of_very_many_values_is_refused_before_it_costs_much() {
    let list = |values| format!("[{}1]", "1,".repeat(values - 1));
    assert!(digest(list(VALUES - 1).as_bytes()).is_ok());
    assert_eq!(refusal(&list(VALUES)), JsonError::TooMany);
    let members: Vec<String> = (0..=VALUES).map(|n| format!("\"{n}\":0")).collect();
    assert_eq!(refusal(&format!("{{{}}}", members.join(","))), JsonError::TooMany);
}

#[test]
fn an_error_shows_no_value_and_no_long_key() {
    let key = "k".repeat(1000);
    let error = refusal(&format!(r#"{{"{key}":"Amina\u0000"}}"#));
    assert_eq!(error, JsonError::NulCharacter { path: format!("/{}", "k".repeat(63)) });
    for text in [r#"{"name":"Amina\u0000"}"#, r#"{"name":"Amina"#, r#"{"name":"Amina\q"}"#, r#"{"name":"Amina"]"#] {
        assert!(!refusal(text).to_string().contains("Amina"));
    }
}
