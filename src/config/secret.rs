//! Where a secret comes from: an environment variable or a file, never the configuration itself.
//!
//! Promised: neither reading the configuration nor an error nor `Debug` output shows a secret, not even one that was
//! written in the wrong place. Not promised: that a secret is wiped from memory after its use.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

/// Where a secret is. In TOML `{ env = "NAME" }` or `{ file = "path" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In an environment variable.
    Env(String),
    /// In a file.
    File(PathBuf),
    /// Something else was written, a secret perhaps: it is not kept, and [`SecretSource::read`] says so.
    Malformed,
}

/// Why a secret cannot be had. Names its source, never its value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Neither form.
    #[error("a secret is written {{ env = \"NAME\" }} or {{ file = \"path\" }}, and never itself")]
    Malformed,
    /// What should name a variable cannot; it may be a secret, so it is not repeated.
    #[error("the name of a secret's environment variable is not letters, digits and _")]
    Name,
    /// There is no such variable.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// The file cannot be read.
    #[error("the file {path} cannot be read")]
    File {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: std::io::Error,
    },
    /// The value is not UTF-8.
    #[error("{0} is not text in UTF-8")]
    NotText(String),
    /// There is nothing in it.
    #[error("{0} is empty")]
    Empty(String),
}

impl<'de> Deserialize<'de> for SecretSource {
    /// Fails for no value of TOML: an error of the parser would show the line, and with it what was written there.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let toml::Value::Table(table) = toml::Value::deserialize(deserializer)? else {
            return Ok(Self::Malformed);
        };
        let mut entries = table.into_iter();
        Ok(match (entries.next(), entries.next()) {
            (Some((key, toml::Value::String(text))), None) if key == "env" => Self::Env(text),
            (Some((key, toml::Value::String(text))), None) if key == "file" => Self::File(text.into()),
            _ => Self::Malformed,
        })
    }
}

impl SecretSource {
    /// The secret, without the one newline that editors and `echo` put at its end. Blocks.
    pub fn read(&self) -> Result<String, SecretError> {
        let (bytes, source) = match self {
            Self::Env(name) if is_name(name) => {
                let value = std::env::var_os(name).ok_or_else(|| SecretError::Unset(name.clone()))?;
                (value.into_encoded_bytes(), format!("the environment variable {name}"))
            }
            Self::Env(_) => return Err(SecretError::Name),
            Self::File(path) => {
                let failed = |source| SecretError::File { path: path.clone(), source };
                (std::fs::read(path).map_err(failed)?, format!("the file {}", path.display()))
            }
            Self::Malformed => return Err(SecretError::Malformed),
        };
        let Ok(mut text) = String::from_utf8(bytes) else {
            return Err(SecretError::NotText(source));
        };
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if text.is_empty() { Err(SecretError::Empty(source)) } else { Ok(text) }
    }
}

/// A name as shells have them, and not a signing secret in its place.
fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !["whsec_", "whsk_"].iter().any(|prefix| text.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        secret: SecretSource,
    }

    fn source(text: &str) -> SecretSource {
        toml::from_str::<Entry>(&format!("secret = {text}")).unwrap().secret
    }

    /// What is read from a file with this content.
    fn of_file(content: &[u8]) -> Result<String, SecretError> {
        let path = std::env::temp_dir().join(Uuid::new_v4().to_string());
        std::fs::write(&path, content).unwrap();
        let read = SecretSource::File(path.clone()).read();
        std::fs::remove_file(path).unwrap();
        read
    }

    #[test]
    fn a_secret_is_in_a_variable_or_in_a_file() {
        assert_eq!(source(r#"{ env = "A_NAME" }"#), SecretSource::Env("A_NAME".to_owned()));
        assert_eq!(source(r#"{ file = "/run/secrets/a" }"#), SecretSource::File("/run/secrets/a".into()));
        let set = SecretSource::Env("CARGO_MANIFEST_DIR".to_owned()).read().unwrap();
        assert_eq!(Path::new(&set), Path::new(env!("CARGO_MANIFEST_DIR")));
    }

    #[test]
    fn one_newline_at_the_end_is_not_part_of_a_secret() {
        for (content, expected) in [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")] {
            assert_eq!(of_file(content.as_bytes()).unwrap(), expected);
        }
    }

    #[test]
    fn a_secret_in_the_wrong_place_is_refused_and_shown_nowhere() {
        for text in [
            r#""hunter2""#,
            r#"["hunter2"]"#,
            "{}",
            r#"{ value = "hunter2" }"#,
            r#"{ env = ["hunter2"] }"#,
            r#"{ env = "A", file = "hunter2" }"#,
            r#"{ env = "A", value = "hunter2" }"#,
        ] {
            let source = source(text);
            let error = source.read().unwrap_err();
            assert!(matches!(error, SecretError::Malformed), "{text}");
            assert!(!format!("{source:?} {error} {error:?}").contains("hunter2"));
        }
        for name in ["", "1A", "A B", "A=B", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9+r8/GKYqrTwjUPD8ILPZIo="] {
            let error = SecretSource::Env(name.to_owned()).read().unwrap_err();
            assert!(matches!(error, SecretError::Name), "{name}");
            assert!(name.is_empty() || !format!("{error} {error:?}").contains(name));
        }
    }

    #[test]
    fn an_error_names_the_source() {
        let error = SecretSource::Env("CRVS_NO_SUCH_VARIABLE".to_owned()).read().unwrap_err();
        assert_eq!(error.to_string(), "the environment variable CRVS_NO_SUCH_VARIABLE is not set");
        let error = SecretSource::File("/no/such/file".into()).read().unwrap_err();
        assert_eq!(error.to_string(), "the file /no/such/file cannot be read");
        assert!(matches!(of_file(b"").unwrap_err(), SecretError::Empty(_)));
        assert!(matches!(of_file(b"\n").unwrap_err(), SecretError::Empty(_)));
        let error = of_file(b"hunter2\xff").unwrap_err();
        assert!(matches!(error, SecretError::NotText(_)));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
