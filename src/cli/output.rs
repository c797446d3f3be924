//! What a command prints: a table for people, JSON for machines.

use std::io::{ErrorKind, Write as _};

use clap::Args;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use super::CliError;

/// How to print.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Output {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Output {
    /// Prints a result: its JSON, or what `words` makes of it.
    pub(super) fn show<T: Serialize>(self, result: &T, words: impl FnOnce(&T) -> String) -> Result<(), CliError> {
        if self.json { say(&serde_json::to_string_pretty(result)?) } else { say(&words(result)) }
    }
}

/// Prints a line. A reader that has read enough (`| head`) is no failure.
pub(super) fn say(text: &str) -> Result<(), CliError> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::Output(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Rows under their heads, in columns; `nothing` where there are none.
pub(super) fn table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    nothing: &str,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(head);
    table.add_rows(rows);
    if table.is_empty() {
        return nothing.to_owned();
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// A point in time, to the second.
pub(super) fn moment(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    at.format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z")).unwrap_or_default()
}

/// What may be missing.
pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}
