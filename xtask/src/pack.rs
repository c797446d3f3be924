//! The one file of all queries: `{"<hash>": {"describe": …, "query": …}, …, "db": "PostgreSQL"}`.
//!
//! It is a pack of exactly what sqlx's own tool would write as one file for each query.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Failure;

/// All queries by the hash of their text.
#[derive(Debug, PartialEq)]
pub(crate) struct Pack(Map<String, Value>);

impl Pack {
    /// Merges the files that the macros wrote into `dir`.
    pub(crate) fn merge(dir: &Path) -> Result<Self, Failure> {
        let mut queries = Map::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let query: Value =
                serde_json::from_slice(&fs::read(&path)?).map_err(|error| format!("{}: {error}", path.display()))?;
            let hash = query["hash"].as_str();
            let hash = hash.ok_or_else(|| format!("{}: has no hash", path.display()))?;
            let packed = json!({ "describe": query["describe"], "query": query["query"] });
            queries.insert(hash.to_owned(), packed);
        }
        queries.insert("db".to_owned(), "PostgreSQL".into());
        Ok(Self(queries))
    }

    /// Reads the committed file.
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        let text = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let queries = serde_json::from_slice(&text);
        Ok(Self(queries.map_err(|error| format!("{}: {error}", file.display()))?))
    }

    /// Writes the file, sorted at every level so that a diff shows only what changed.
    pub(crate) fn write(&self, file: &Path) -> Result<(), Failure> {
        let mut sorted = Value::Object(self.0.clone());
        sorted.sort_all_objects();
        let text = serde_json::to_string_pretty(&sorted)? + "\n";
        fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()).into())
    }

    /// How many queries there are.
    pub(crate) fn len(&self) -> usize {
        self.0.keys().filter(|key| *key != "db").count()
    }

    /// What a committed pack lacks, has otherwise, or has too much, a line for each.
    pub(crate) fn differences(&self, committed: &Self) -> Vec<String> {
        let changed = self.0.iter().filter_map(|(hash, query)| match committed.0.get(hash) {
            Some(same) if same == query => None,
            Some(_) => Some(format!("different: {}", excerpt(query))),
            None => Some(format!("missing: {}", excerpt(query))),
        });
        let unused = committed.0.iter().filter(|(hash, _)| !self.0.contains_key(*hash));
        changed.chain(unused.map(|(_, query)| format!("no longer used: {}", excerpt(query)))).collect()
    }
}

/// The beginning of a query on one line.
fn excerpt(query: &Value) -> String {
    let text = query["query"].as_str().unwrap_or_default();
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(100) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::Pack;
    use serde_json::{Value, json};

    fn pack(value: &Value) -> Pack {
        Pack(value.as_object().cloned().unwrap())
    }

    #[test]
    fn a_pack_that_is_current_differs_in_nothing() {
        let one = pack(&json!({"db": "PostgreSQL", "a": {"query": "SELECT 1", "describe": {}}}));
        assert_eq!(one.differences(&one), Vec::<String>::new());
        assert_eq!(one.len(), 1);
    }

    #[test]
    fn each_difference_is_named_with_its_query() {
        let now = pack(&json!({
            "a": {"query": "SELECT\n  1", "describe": {}},
            "b": {"query": "SELECT 2", "describe": {"nullable": [true]}},
        }));
        let committed = pack(&json!({
            "b": {"query": "SELECT 2", "describe": {"nullable": [false]}},
            "c": {"query": "SELECT 3", "describe": {}},
        }));
        assert_eq!(
            now.differences(&committed),
            ["missing: SELECT 1", "different: SELECT 2", "no longer used: SELECT 3"]
        );
    }
}
