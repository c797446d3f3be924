//! How a client reaches the server: a URL for programs, a command line for people.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The one database user, who may do everything.
const USER: &str = "postgres";

/// The number is only a part of the socket's name: nothing listens on TCP.
pub(crate) const PORT: &str = "5432";

/// The server's socket, by its folder.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    socket_dir: PathBuf,
}

impl Address {
    pub(crate) fn new(socket_dir: PathBuf) -> Self {
        Self { socket_dir }
    }

    pub(crate) fn url(&self, database: &str) -> String {
        let host = percent_encoded(self.socket_dir.as_os_str());
        let database = percent_encoded(OsStr::new(database));
        format!("postgres:///{database}?host={host}&port={PORT}&user={USER}")
    }

    pub(crate) fn psql_command(&self, database: &str) -> String {
        let host = shell_quoted(&self.socket_dir.to_string_lossy());
        format!("psql -h {host} -U {USER} {}", shell_quoted(database))
    }
}

fn percent_encoded(text: &OsStr) -> String {
    let mut encoded = String::new();
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(encoded, "%{byte:02X}").unwrap_or_default();
        }
    }
    encoded
}

fn shell_quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn a_folder_with_odd_characters_survives_the_url_and_the_shell() {
        let address = Address::new("/tmp/it's a b&c=é".into());
        assert_eq!(
            address.url("postgres"),
            "postgres:///postgres?host=%2Ftmp%2Fit%27s%20a%20b%26c%3D%C3%A9&port=5432&user=postgres"
        );
        assert_eq!(address.psql_command("postgres"), r"psql -h '/tmp/it'\''s a b&c=é' -U postgres postgres");
    }

    #[test]
    fn a_plain_folder_stays_readable() {
        let address = Address::new("/var/lib/crvs/run".into());
        assert_eq!(address.psql_command("demo"), "psql -h /var/lib/crvs/run -U postgres demo");
    }
}
