//! The house rules, as tests: the schema explains itself, arrows point down, files hold one idea.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crvs_outbox::sandbox::{Mode, Sandbox, Settings};

use crate::harness::TestApp;

#[tokio::test]
async fn every_table_column_type_index_function_and_view_has_a_comment() {
    let app = TestApp::start().await;
    let sandbox = Settings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        gateway: app.base.clone(),
        mode: Mode::Silent,
        delay: Duration::ZERO,
        failures: 0,
        fail_rate: 0.0,
    };
    drop(Sandbox::bind(app.app().context.db.clone(), sandbox, None).await.unwrap());
    let silent: Vec<String> = sqlx::query_scalar(
        "
        with ours as (select oid from pg_namespace where nspname in ('public', 'sandbox'))
        select 'relation ' || c.relname from pg_class c
        where c.relnamespace in (select oid from ours) and c.relkind in ('r', 'p', 'v', 'm', 'i', 'I', 'S')
          and c.relname not like 'refinery%' and obj_description(c.oid, 'pg_class') is null
          and not (c.relkind = 'S' and exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'i'))
        union all
        select 'column ' || c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace in (select oid from ours) and c.relkind in ('r', 'p', 'v', 'm') and a.attnum > 0 and not a.attisdropped
          and c.relname not like 'refinery%' and col_description(c.oid, a.attnum) is null
        union all
        select 'type ' || t.typname from pg_type t
        where t.typnamespace in (select oid from ours) and t.typtype in ('e', 'd') and obj_description(t.oid, 'pg_type') is null
        union all
        select 'function ' || p.proname from pg_proc p
        where p.pronamespace in (select oid from ours) and obj_description(p.oid, 'pg_proc') is null
        ",
    )
    .fetch_all(&app.db)
    .await
    .unwrap();
    assert!(silent.is_empty(), "without a comment: {silent:#?}");
    app.done().await;
}

/// Who may name whom, by the first word after `crate::`. A module may always name itself.
const ARROWS: &[(&str, &[&str])] = &[
    ("db", &[]),
    ("coalescer", &[]),
    ("json", &[]),
    ("samples", &[]),
    ("objects", &[]),
    ("outbox", &[]),
    ("auth", &[]),
    ("transactions", &[]),
    ("wakeup", &["db"]),
    ("metrics", &["outbox"]),
    ("periodic", &["metrics"]),
    ("pressure", &["metrics", "outbox", "periodic"]),
    ("records", &["json", "outbox", "transactions"]),
    ("waiting", &["db", "metrics", "records", "wakeup"]),
    (
        "handlers",
        &[
            "auth",
            "coalescer",
            "db",
            "json",
            "metrics",
            "objects",
            "pressure",
            "records",
            "samples",
            "transactions",
            "waiting",
            "wakeup",
        ],
    ),
    ("workers", &["auth", "db", "metrics", "objects", "outbox", "periodic", "records", "wakeup"]),
    ("serve", &[]),
    ("config", &["auth", "handlers", "objects", "outbox", "records", "serve", "waiting", "workers"]),
    (
        "app",
        &[
            "auth",
            "coalescer",
            "config",
            "db",
            "handlers",
            "metrics",
            "outbox",
            "pressure",
            "records",
            "serve",
            "waiting",
            "wakeup",
            "workers",
        ],
    ),
    ("sandbox", &["auth", "workers"]),
    ("demo", &["app", "auth", "config", "db", "samples", "sandbox"]),
    ("bench", &["auth", "coalescer", "db", "metrics", "objects", "outbox", "records", "wakeup", "workers"]),
    ("cli", &["workers", "app", "auth", "bench", "config", "db", "demo", "handlers", "outbox", "records", "sandbox"]),
    ("lib", &[]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            files.extend(rust_files(&entry));
        } else if entry.extension().is_some_and(|e| e == "rs") {
            files.push(entry);
        }
    }
    files
}

/// The modules that a file names as `crate::module`, in code.
fn named(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
    let mut names = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        if let Some(list) = after.strip_prefix('{') {
            let list = list.split('}').next().unwrap_or_default();
            let first = |item: &str| item.trim().split("::").next().unwrap_or_default().to_owned();
            names.extend(list.split(',').map(first).filter(|n| !n.is_empty()));
        } else {
            names.insert(after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names
}

#[test]
fn arrows_point_down_only() {
    let src = root().join("src");
    let mut wrong = Vec::new();
    for file in rust_files(&src) {
        let inside = file.strip_prefix(&src).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if module == "main" || inside.ends_with("tests.rs") {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{module} has no row in the table"));
            continue;
        };
        for name in named(&std::fs::read_to_string(&file).unwrap()) {
            if name != module && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{} names {name}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_file_holds_one_idea() {
    let mut long = Vec::new();
    for dir in ["src", "tests", "benches", "crates", "xtask"] {
        for file in rust_files(&root().join(dir)) {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            if lines > 400 {
                long.push(format!("{}: {lines} lines", file.display()));
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn refinery_is_named_in_one_file_and_transactions_are_opened_where_they_may_be() {
    let src = root().join("src");
    for file in rust_files(&src) {
        let text = std::fs::read_to_string(&file).unwrap();
        let inside = file.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        let code = || text.lines().filter(|line| !line.trim_start().starts_with("//"));
        if code().any(|line| line.contains("refinery::") || line.contains("refinery_core::")) {
            assert_eq!(inside, "db.rs");
        }
        if code().any(|line| line.contains(".begin()")) {
            let may = ["handlers/transact.rs", "app.rs", "db.rs"].contains(&inside.as_str())
                || inside.starts_with("workers/")
                || inside.starts_with("cli/")
                || inside.starts_with("sandbox/");
            assert!(may, "{inside} opens a transaction");
        }
    }
}

#[test]
fn every_file_and_module_opens_with_what_it_is() {
    for file in rust_files(&root().join("src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let fhir_tests = file.ends_with("tests.rs");
        assert!(fhir_tests || text.starts_with("//!"), "{} says nothing about itself", file.display());
    }
}
