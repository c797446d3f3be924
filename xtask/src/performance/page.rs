//! The page: what was asked and reached, how to read it, the machine, and a section for each scenario.

use std::collections::BTreeSet;

use super::figures::{Figure, number};
use super::floors::Outcome;
use super::machine::Machine;

/// What is said of one scenario.
pub(super) struct Section {
    pub(super) name: String,
    /// What it measures; empty if nobody described it.
    pub(super) what: String,
    pub(super) figures: Vec<Figure>,
    /// Title and address of each plot.
    pub(super) images: Vec<(String, String)>,
}

const HEAD: &str = "\
# Performance

Written by `make bench` from the figures of one machine, a scenario at a time: one that failed is run again by itself,
and its figures replaced. Nothing here is written by hand. What each scenario
does is told in [operating.md](operating.md#measuring).
";

const READING: &str = "\
## How to read it

**Ratios carry over to other machines, absolute figures do not.** A figure of throughput stands beside its *limit*:
the same work in plain SQL (or another minimum that its section names), in rounds between its own, on the same machine
in the same minutes. The ratio is the value by that limit. A limit does less than the service, as each section says,
so a ratio of 1 is not what is owed everywhere.

A value with a lowest and a highest beside it is the median of its rounds; a round before them warmed up and does not
count. Clients, service, receiver and database share the machine's cores, and what one of them takes the others lack.
WAL and CPU of an item are those of all of them together. Every commit is flushed to disk (`fsync`,
`synchronous_commit` and `full_page_writes` are on), with 1 GB of `shared_buffers` and 4 GB of `max_wal_size`.

A floor that is a ratio counts as met if the median reaches it, and as met *within the rounds' spread* if only the
best round does, by the limit's median. All others are met or not.
";

/// All of it.
pub(super) fn page(figures: &[Figure], outcomes: &[Outcome], sections: &[Section], machine: &Machine) -> String {
    let parts = [HEAD.to_owned(), floors(outcomes), READING.to_owned(), about(figures, machine)];
    let sections = sections.iter().map(section);
    parts.into_iter().chain(sections).collect::<Vec<_>>().join("\n")
}

fn floors(outcomes: &[Outcome]) -> String {
    let rows = outcomes.iter().map(|outcome| {
        let Outcome { what, asked, reached, verdict } = outcome;
        vec![(*what).to_owned(), asked.clone(), reached.clone(), verdict.text().to_owned()]
    });
    let head = ["What", "Asked", "Reached", "Verdict"].map(str::to_owned).to_vec();
    format!("## What was asked, and what was reached\n\n{}", table(&head, &rows.collect::<Vec<_>>(), 4))
}

fn about(figures: &[Figure], machine: &Machine) -> String {
    let cores: BTreeSet<u64> = figures.iter().map(|figure| figure.cores).collect();
    let cores = cores.iter().map(u64::to_string).collect::<Vec<_>>().join(", then ");
    let Machine { processor, memory, postgres, day, build, commit } = machine;
    let rows = [
        ("Processor", processor),
        ("Cores", &Some(cores)),
        ("Memory", memory),
        ("PostgreSQL", postgres),
        ("Day (UTC)", day),
        ("Build", build),
        ("Commit", commit),
    ];
    let rows = rows.map(|(name, value)| {
        let value = value.as_deref().unwrap_or("not known");
        vec![name.to_owned(), value.trim_start_matches("postgres (PostgreSQL) ").to_owned()]
    });
    format!("## The machine\n\n{}", table(&[String::new(), String::new()], &rows, 2))
}

fn section(of: &Section) -> String {
    let Section { name, what, figures, images } = of;
    let what = if what.is_empty() { String::new() } else { format!("{what}\n\n") };
    let images = images.iter().map(|(title, address)| format!("\n![{title}]({address})\n"));
    format!("## `{name}`\n\n{what}{}{}", measured(figures), images.collect::<String>())
}

/// What a column shows of a figure.
type Column = (&'static str, fn(&Figure) -> Option<String>);

const COLUMNS: [Column; 10] = [
    ("Value", |f| Some(format!("{} {}", number(f.value), f.unit))),
    ("Lowest to highest", |f| f.low.zip(f.high).map(|(low, high)| format!("{} to {}", number(low), number(high)))),
    ("Limit", |f| f.limit.map(number)),
    ("Ratio", |f| f.ratio.map(|ratio| format!("**{} ×**", number(ratio)))),
    ("p50", |f| milliseconds(f.p50_ms)),
    ("p95", |f| milliseconds(f.p95_ms)),
    ("p99", |f| milliseconds(f.p99_ms)),
    ("WAL of an item", |f| f.wal_bytes_per_item.map(|bytes| format!("{} B", number(bytes)))),
    ("CPU of an item", |f| f.cpu_us_per_item.map(|us| format!("{} µs", number(us)))),
    ("Note", |f| f.note.clone()),
];

fn milliseconds(value: Option<f64>) -> Option<String> {
    value.map(|ms| format!("{} ms", number(ms)))
}

/// A table without the columns that would be empty.
fn measured(figures: &[Figure]) -> String {
    let columns: Vec<&Column> =
        COLUMNS.iter().filter(|(_, cell)| figures.iter().any(|figure| cell(figure).is_some())).collect();
    let head = ["Variant"].into_iter().chain(columns.iter().map(|(name, _)| *name)).map(str::to_owned);
    let rows = figures.iter().map(|figure| {
        let cells = columns.iter().map(|(_, cell)| cell(figure).unwrap_or_default());
        [figure.variant.clone()].into_iter().chain(cells).collect::<Vec<_>>()
    });
    table(&head.collect::<Vec<_>>(), &rows.collect::<Vec<_>>(), 1)
}

/// Columns after the first `texts` are aligned to the right: they hold numbers.
fn table(head: &[String], rows: &[Vec<String>], texts: usize) -> String {
    let line = |cells: &[String]| {
        let cells = cells.iter().map(|cell| cell.replace('|', "\\|"));
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = (0..head.len()).map(|at| if at < texts { "---" } else { "--:" });
    let rule = format!("|{}|\n", rule.collect::<Vec<_>>().join("|"));
    [line(head), rule].into_iter().chain(rows.iter().map(|row| line(row))).collect()
}
