//! The private cluster that the tests of this process share, and a database of its own for each.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crvs_outbox::db;
use dev_postgres::{Cluster, Options};

struct Shared {
    cluster: Cluster,
    key_file: PathBuf,
}

/// The cluster and the template; stopped and deleted by the cluster's guard when this process ends.
fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("crvs-outbox-tests-{}", std::process::id()));
        let options = Options {
            throwaway: true,
            settings: vec![("max_connections".to_owned(), "300".to_owned())],
            ..Options::default()
        };
        let cluster = Cluster::start_with(&dir, &options).expect("a private PostgreSQL");
        let url = cluster.url_for("template");
        let maintenance = cluster.url();
        // A runtime of its own: tests come from many.
        std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                execute(&maintenance, "create database template").await;
                db::migrate(&url).await.expect("migrations");
            });
        })
        .join()
        .unwrap();
        // Deleted with the cluster.
        let key_file = cluster.dir().join("signing-key.pem");
        Shared { cluster, key_file }
    })
}

async fn execute(url: &str, sql: &str) {
    use sqlx::{Connection as _, Executor as _};
    let mut conn = sqlx::PgConnection::connect(url).await.unwrap();
    conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))).await.unwrap();
    conn.close().await.unwrap();
}

/// A database of its own; returns its URL.
pub(crate) async fn new_database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let shared = tokio::task::spawn_blocking(shared).await.unwrap();
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    execute(&shared.cluster.url(), &format!("create database {name} template template")).await;
    shared.cluster.url_for(&name)
}

/// The key that every service of this process signs with.
pub(crate) fn key_file() -> &'static Path {
    &shared().key_file
}

/// A database without a schema; returns its URL.
pub(crate) async fn empty_database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let shared = tokio::task::spawn_blocking(shared).await.unwrap();
    let name = format!("empty_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    execute(&shared.cluster.url(), &format!("create database {name}")).await;
    shared.cluster.url_for(&name)
}
