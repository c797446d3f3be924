//! What the page says of a few written lines.

use std::fs;
use std::path::PathBuf;

use super::*;

/// A folder of a test's own, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xtask-performance-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes the page of these lines.
    fn write(&self, lines: &str) -> Result<String, String> {
        let (from, to) = (self.0.join("bench.jsonl"), self.page());
        fs::write(&from, lines).unwrap();
        write(&from, None, &to, true).map_err(|failure| failure.to_string())
    }

    /// The same beside other queues; without lines there is no file of them.
    fn write_beside(&self, lines: &str, peers: Option<&str>) -> Result<String, String> {
        let (from, file, to) = (self.0.join("bench.jsonl"), self.0.join("peers.jsonl"), self.page());
        fs::write(&from, lines).unwrap();
        if let Some(peers) = peers {
            fs::write(&file, peers).unwrap();
        }
        write(&from, Some(&file), &to, true).map_err(|failure| failure.to_string())
    }

    fn page(&self) -> PathBuf {
        self.0.join("performance.md")
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }

    fn plots(&self) -> Vec<String> {
        let files = fs::read_dir(self.0.join("performance")).unwrap();
        let mut names: Vec<String> = files.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// None of these was ever measured.
const LINES: &str = r#"
{"scenario":"pickup","variant":"50 a second, commit to arrival","value":10,"unit":"samples","p50_ms":1.0,"p95_ms":2.0,"p99_ms":4.0,"cores":2}
{"scenario":"pickup","variant":"50 a second, answer to arrival","value":10,"unit":"samples","p50_ms":0.5,"p95_ms":1.0,"p99_ms":2.0,"cores":2}
{"scenario":"drain","variant":"to nowhere","value":1000,"unit":"messages/s","low":900,"high":1100,"limit":500,"ratio":2,"wal_bytes_per_item":10,"cpu_us_per_item":20,"cores":2}
{"scenario":"drain","variant":"limit: claim < delete | (own)","value":500,"unit":"messages/s","low":400,"high":600,"wal_bytes_per_item":5,"cpu_us_per_item":7,"cores":2}
{"scenario":"drain","variant":"to nowhere, by the narrow limit","value":1000,"unit":"messages/s","low":900,"high":1100,"limit":2000,"ratio":0.5,"cores":2}
{"scenario":"idle","variant":"memory","value":20,"unit":"MB","cores":2}
{"scenario":"unheard","variant":"of","value":1,"unit":"things","cores":2}
"#;

#[test]
fn the_page_says_what_was_reached_what_was_not_and_what_is_missing() {
    let folder = Folder::new("page");
    let told = folder.write(LINES).unwrap();
    assert!(told.ends_with("7 figures, 2 plots; of 24 floors 5 are met, 2 are not, 17 are not measured"), "{told}");
    let page = folder.read("performance.md");
    for line in [
        "| `drain`, by claim and delete in plain SQL | ≥ 0.9 × | 2.000 × (1.800 to 2.200) | met |",
        "| `drain`, by narrow rows in plain SQL (a moonshot) | ≥ 1 × | 0.500 × (0.450 to 0.550) | **not met** |",
        "| `pickup` at 50 a second, from the client's answer: p50 | ≤ 1 ms | 0.50 ms | met |",
        "| The same, from before the commit is flushed: p50 | ≤ 1 ms | 1.00 ms | met |",
        "| The same: p99 | ≤ 3 ms | 4.00 ms | **not met** |",
        "| `submit`, 64 clients, by plain SQL statement by statement | ≥ 2 × | – | not measured |",
        "| Build | release |",
        "| Cores | 2 |",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
    }
}

#[test]
fn a_section_has_a_sentence_a_table_without_empty_columns_and_its_plots() {
    let folder = Folder::new("section");
    folder.write(LINES).unwrap();
    let page = folder.read("performance.md");
    let (_, drain) = page.split_once("## `drain`\n\nThe workers alone").unwrap();
    let (_, table) = drain.split_once("\n\n").unwrap();
    let wanted = "\
| Variant | Value | Lowest to highest | Limit | Ratio | WAL of an item | CPU of an item |
|---|--:|--:|--:|--:|--:|--:|
| to nowhere | 1,000 messages/s | 900 to 1,100 | 500 | **2.00 ×** | 10.0 B | 20.0 µs |
| limit: claim < delete \\| (own) | 500 messages/s | 400 to 600 |  |  | 5.00 B | 7.00 µs |
| to nowhere, by the narrow limit | 1,000 messages/s | 900 to 1,100 | 2,000 | **0.50 ×** |  |  |

![drain: median of the rounds, lowest to highest](performance/drain-rates.svg)

## `pickup`
";
    assert!(table.starts_with(wanted), "{table}");
    assert!(page.ends_with("## `unheard`\n\n| Variant | Value |\n|---|--:|\n| of | 1.00 things |\n"), "{page}");
}

#[test]
fn other_queues_have_a_section_with_notes_if_they_were_measured() {
    let folder = Folder::new("peers");
    let alone = folder.write_beside(LINES, None).unwrap();
    assert!(alone.contains(" 7 figures") && !folder.read("performance.md").contains("## `peers`"), "{alone}");
    let peers = r#"
{"scenario":"peers","variant":"W3: crvs-outbox","value":300,"unit":"/s","low":290,"high":310,"cores":2,"note":"0.1.0"}
{"scenario":"peers","variant":"W3: graphile_worker (Rust)","value":150,"unit":"/s","low":100,"high":200,"limit":300,"ratio":0.5,"cores":2,"note":"no history"}
"#;
    let told = folder.write_beside(LINES, Some(peers)).unwrap();
    let page = folder.read("performance.md");
    for line in [
        "| `drain`, by graphile_worker (Rust) | ≥ 1.5 × | 2.000 × (1.500 to 3.000) | met |",
        "| W3: graphile_worker (Rust) | 150 /s | 100 to 200 | 300 | **0.50 ×** | no history |",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is not in\n{page}");
    }
    assert!(told.contains(" 9 figures") && folder.plots().iter().all(|plot| !plot.starts_with("peers")), "{told}");
    assert!(folder.write_beside(LINES, Some("nothing")).unwrap_err().contains("peers.jsonl: line 1 is no figure"));
}

#[test]
fn only_a_page_is_written_over() {
    let folder = Folder::new("over");
    let file = folder.0.join("bench.jsonl");
    fs::write(&file, LINES).unwrap();
    assert!(write(&file, None, &file, true).is_err());
    assert_eq!(folder.read("bench.jsonl"), LINES);
}

#[test]
fn plots_show_each_bar_once_and_escape_what_is_written() {
    let folder = Folder::new("plots");
    folder.write(LINES).unwrap();
    assert_eq!(folder.plots(), ["drain-rates.svg", "pickup-latencies.svg"]);
    let rates = folder.read("performance/drain-rates.svg");
    assert!(rates.contains("limit: claim &lt; delete | (own)") && !rates.contains("narrow limit"), "{rates}");
    assert!(rates.contains("1,000  (2.00 ×)"), "{rates}");
    assert!(folder.read("performance/pickup-latencies.svg").contains("p99  4.00 ms"));
}

#[test]
fn the_same_figures_make_the_same_bytes_and_old_plots_go() {
    let folder = Folder::new("same");
    folder.write(LINES).unwrap();
    let read = || (folder.read("performance.md"), folder.read("performance/drain-rates.svg"));
    let first = read();
    folder.write(LINES).unwrap();
    assert_eq!(first, read());

    let idle = LINES.lines().find(|line| line.contains("idle")).unwrap();
    folder.write(idle).unwrap();
    assert_eq!(folder.plots(), Vec::<String>::new());
}

#[test]
fn nothing_is_written_of_a_bad_line_or_of_no_lines() {
    let folder = Folder::new("bad");
    let bad = folder.write(&format!("{LINES}{{\"scenario\":\"idle\"\n")).unwrap_err();
    assert!(bad.contains("bench.jsonl: line 9 is no figure: "), "{bad}");
    let none = folder.write("\n").unwrap_err();
    assert!(none.ends_with("bench.jsonl: holds no figures"), "{none}");
    assert!(!folder.page().exists());
}
