//! What a statement of the code does to the tables: EXPLAIN (ANALYZE, BUFFERS) of its own text, rolled back.

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

/// A statement of the code.
#[derive(Clone, Copy)]
pub(crate) struct Statement {
    /// Its name: the file's and the function's.
    pub(crate) name: &'static str,
    /// The file's text.
    pub(crate) source: &'static str,
}

/// The first statement of a function: `statement!("outbox/claim.rs", "claim")`.
macro_rules! statement {
    ($file:literal, $function:literal) => {
        $crate::plans::Statement {
            name: concat!($file, " ", $function),
            source: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/", $file)),
        }
    };
}
pub(crate) use statement;

impl Statement {
    fn sql(&self) -> &'static str {
        let function = self.name.rsplit(' ').next().unwrap();
        let after = self.source.split_once(&format!("async fn {function}(")).unwrap().1;
        after.split_once("r#\"").unwrap().1.split_once("\"#").unwrap().0
    }

    /// Prepares it anew, and plans it once: where plans are generic, this one is kept.
    pub(crate) async fn prepare(&self, conn: &mut PgConnection, arguments: &str) {
        // sqlx's names for columns are PostgreSQL's too.
        let prepare = format!(r#"prepare "{}" as {}"#, self.name, self.sql());
        sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *conn).await.unwrap();
        let explain = format!("explain {}", self.call(arguments));
        sqlx::raw_sql(AssertSqlSafe(explain)).execute(conn).await.unwrap();
    }

    /// What it does when it is executed as it was prepared, after what is done `before`. All of it is rolled back.
    pub(crate) async fn plan(&self, conn: &mut PgConnection, before: &str, arguments: &str) -> Plan {
        let mut tx = conn.begin().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(before.to_owned())).execute(&mut *tx).await.unwrap();
        let explain = format!("explain (analyze, buffers, format json) {}", self.call(arguments));
        let rows = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *tx).await.unwrap();
        tx.rollback().await.unwrap();
        let text: String = rows[0].get_unchecked(0);
        Plan(serde_json::from_str::<Value>(&text).unwrap()[0].take())
    }

    fn call(&self, arguments: &str) -> String {
        let arguments = if arguments.is_empty() { String::new() } else { format!("({arguments})") };
        format!(r#"execute "{}"{arguments}"#, self.name)
    }
}

/// What was executed, and what it did.
pub(crate) struct Plan(Value);

impl Plan {
    /// Pages touched, however often.
    pub(crate) fn pages(&self) -> i64 {
        pages(&self.0["Plan"])
    }

    /// How long it took.
    pub(crate) fn millis(&self) -> f64 {
        self.0["Execution Time"].as_f64().unwrap()
    }

    /// Rows looked at, in tables and between them: those that a node gave, and those that it had to look at for that.
    /// What is compared with what is in here as many times as it is compared.
    pub(crate) fn looked(&self) -> f64 {
        self.nodes().iter().map(|node| looked(node)).sum()
    }

    /// Whether it reads something of the history.
    pub(crate) fn reads_history(&self) -> bool {
        let name = |node: &Value| node["Relation Name"].as_str().is_some_and(|n| n.starts_with("outbox_history"));
        self.nodes().iter().any(|node| name(node) && node["Node Type"] != "ModifyTable")
    }

    /// The nodes that were executed.
    pub(crate) fn nodes(&self) -> Vec<&Value> {
        let mut nodes = Vec::new();
        executed(&self.0["Plan"], &mut nodes);
        nodes
    }

    /// A line per node: what it is, of what, how often, rows looked at and pages.
    pub(crate) fn outline(&self) -> String {
        outline(&self.0["Plan"], 0)
    }
}

fn pages(node: &Value) -> i64 {
    node["Shared Hit Blocks"].as_i64().unwrap() + node["Shared Read Blocks"].as_i64().unwrap()
}

fn executed<'p>(node: &'p Value, into: &mut Vec<&'p Value>) {
    if node["Actual Loops"] != 0 {
        into.push(node);
    }
    node["Plans"].as_array().into_iter().flatten().for_each(|child| executed(child, into));
}

fn looked(node: &Value) -> f64 {
    let of = ["Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck", "Rows Removed by Join Filter"];
    of.iter().filter_map(|name| node[name].as_f64()).sum::<f64>() * node["Actual Loops"].as_f64().unwrap()
}

fn outline(node: &Value, depth: usize) -> String {
    let word = |name: &str| node[name].as_str().unwrap_or_default().to_owned();
    let of: Vec<String> = ["Node Type", "Relation Name", "Index Name", "CTE Name", "Function Name"].map(word).into();
    let below: String = node["Plans"].as_array().into_iter().flatten().map(|child| outline(child, depth + 1)).collect();
    format!(
        "{:indent$}{} × {}: {} rows looked at, {} pages\n{below}",
        "",
        of.join(" ").trim(),
        node["Actual Loops"],
        looked(node),
        pages(node),
        indent = depth * 2,
    )
}
