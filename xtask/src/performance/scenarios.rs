//! What each scenario measures, and beside what: a sentence for people, in the order of the page.

/// A scenario's name, and what is said of it.
pub(super) const SCENARIOS: [(&str, &str); 15] = [
    (
        "submit",
        "Submissions of one record of 1 kB each over HTTP, with a token, by as many clients as the variant says. \
         Destinations are paused, so that only accepting is measured, except where it says *delivering*. Limit: the \
         same rows in plain SQL in the same schema, statement by statement in a transaction each, by as many clients; \
         it reads no token, no JSON, and looks for no duplicates. *A business row and a job* are the rows of other \
         queues' benchmarks, of 1 kB each, written by as many clients in the way that submissions are, without HTTP.",
    ),
    ("submit-batch", "The same, 100 a request. Limit: the same rows in plain SQL in batches of 64, by two clients."),
    (
        "drain",
        "The workers alone take messages that wait: claim them, render them with their declarations of 1 kB, hand \
         them to a destination that takes everything at once, settle them and keep them in the history. Limits: as \
         many jobs of 1 kB in plain SQL, claimed in batches of 1,000, read and deleted, without a history; and the \
         same with a narrow row for the state beside the payload.",
    ),
    (
        "drain-http",
        "Messages of 1 kB that wait are signed and posted to a receiver that answers at once, 64 at a time. Limit: a \
         minimal loop in Rust that posts as many jobs of a plain table and deletes them, without signatures, retries \
         or a history.",
    ),
    (
        "pickup",
        "How soon the request of a submission reaches its receiver: since the commit, and since the client had its \
         answer (an arrival before the answer counts as none). At 50 submissions a second the service is idle but for \
         them.",
    ),
    (
        "backlog",
        "A part of many waiting messages is drained to nowhere beside twice as many that are finished. Limit: the \
         drain of as many without.",
    ),
    (
        "horizon",
        "Messages are drained to nowhere while another session holds a snapshot of before, so that no dead row can be \
         cleaned up. Limit: the same drain without.",
    ),
    (
        "blocked",
        "Messages are drained to nowhere beside as many that wait, each behind a dead one. Limit: the same drain \
         without.",
    ),
    (
        "history",
        "Messages are drained to nowhere beside a hundred times as many of the same day that are finished. Limit: the \
         same drain without.",
    ),
    (
        "fanout",
        "The messages of records that have five destinations are posted to a receiver. Limit: as many messages for \
         one destination.",
    ),
    (
        "idle",
        "The service with four destinations and nothing to do: its share of a core, its memory, and the transactions \
         that it asks of the database.",
    ),
    (
        "watchers",
        "Clients wait, half of them on a long poll and half on an event stream, while declarations come in at a \
         steady rate: the service's memory, and how soon after the last delivery a client is told.",
    ),
    (
        "attachments",
        "Uploads of 40 MB at the same time, streamed and then inline as base64: the most memory that the service ever \
         had.",
    ),
    (
        "duplicates",
        "What the search for possible duplicates adds to a submission, one at a time, among many births of five \
         years. Beside: the same submissions without the search, in turns.",
    ),
    (
        "peers",
        "The same work by other queues, from a run of `make bench-peers`, whose \
         [README](../bench-peers/README.md) tells how; the note has the version, and what the queue does less. The \
         limit is ours, so that a ratio above 1 means a faster queue, or, of a wait (`pickup`), a slower one. W1: a \
         row of business and a job in one transaction, by 8 clients. W3: 100,000 jobs that do nothing are drained. \
         W4: 30,000 jobs are posted, 64 at a time. WAL and CPU are those of client and database, with the receiver \
         only in ours; rounds warm up only in ours.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root;

    #[test]
    fn every_scenario_of_make_bench_is_described() {
        let makefile = std::fs::read_to_string(root().unwrap().join("Makefile")).unwrap();
        let named = makefile.lines().find_map(|line| line.strip_prefix("SCENARIOS := ")).unwrap();
        let mut named: Vec<&str> = named.split_whitespace().collect();
        // Which is a run of its own.
        named.push("peers");
        let mut described = SCENARIOS.map(|(name, _)| name);
        named.sort_unstable();
        described.sort_unstable();
        assert_eq!(named, described);
    }
}
