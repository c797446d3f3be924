//! The statements, what each is asked for, and the most that it may cost.

use super::{Statement, statement};

/// Who executes a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Session {
    /// A worker or the reader of changes: planned once for a connection, by indexes alone.
    Worker,
    /// A shared commit of submissions: the same for a transaction.
    Writer,
    /// Anybody else: planned each time.
    Fresh,
}

/// A statement, what it is asked for, and the most that it may cost.
pub(super) struct Case {
    pub(super) session: Session,
    pub(super) statement: Statement,
    pub(super) arguments: String,
    /// What is done before, and rolled back with it.
    pub(super) before: &'static str,
    /// How the case differs from others of the statement.
    pub(super) remark: &'static str,
    pub(super) most_looked: i64,
    pub(super) most_pages: i64,
}

impl Case {
    fn new(session: Session, statement: Statement, arguments: impl Into<String>, most: (i64, i64)) -> Self {
        let arguments = arguments.into();
        let (most_looked, most_pages) = most;
        Self { session, statement, arguments, before: "", remark: "", most_looked, most_pages }
    }

    fn after(self, before: &'static str, remark: &'static str) -> Self {
        Self { before, remark, ..self }
    }
}

const NIL: &str = "'00000000-0000-0000-0000-000000000000'";

/// An array of the first so many; EXECUTE takes no subquery.
fn array(count: i64, of: impl Fn(i64) -> String) -> String {
    format!("array[{}]", (1..=count).map(of).collect::<Vec<_>>().join(","))
}

fn hundred(value: &str) -> String {
    format!("array_fill({value}, array[100])")
}

/// A hundred of the thousand messages that are being delivered: their ids and their lease.
fn delivering() -> String {
    format!("{}, {}", array(100, |n| (10 * n).to_string()), hundred("1::bigint"))
}

/// The keys of ten.
fn uuids(word: &str) -> String {
    array(10, |n| format!("md5('{word}{}')::uuid", 10 * n + 3))
}

/// All of them. `empty` is a snapshot of when the tables were, `grown` of when they had grown, and `rows` how many records
/// there are. What is in proportion to all is said so by `rows`; a level more of a B-tree is in the rest.
pub(super) fn cases(empty: &str, grown: &str, rows: i64) -> Vec<Case> {
    let mut cases = claiming();
    cases.extend(completing());
    cases.extend(promoting());
    cases.extend(rescuing(rows));
    cases.extend(writing());
    cases.extend(reading(empty, grown));
    cases.extend(counting(rows));
    cases
}

fn worker(statement: Statement, arguments: impl Into<String>, most: (i64, i64)) -> Case {
    Case::new(Session::Worker, statement, arguments, most)
}

fn fresh(statement: Statement, arguments: impl Into<String>, most: (i64, i64)) -> Case {
    Case::new(Session::Fresh, statement, arguments, most)
}

fn claiming() -> Vec<Case> {
    let claim = |floor: i64| {
        let arguments = format!("'search', {NIL}, 100, 50, 60, '-infinity', {floor}, array[1]::bigint[]");
        worker(statement!("outbox/claim.rs", "claim"), arguments, (2500, 1300))
    };
    vec![claim(0), claim(10_000).after("", ", from a floor")]
}

/// A hundred of a thousand that are being delivered. To compare each with each would be to look at 100,000.
fn completing() -> Vec<Case> {
    let (smallint, text) = (hundred("null::smallint"), hundred("null::text"));
    let finish = format!("{}, {smallint}, {text}, {}, {NIL}", delivering(), hundred("1::float8"));
    let mixed = format!(
        "{}, (array_fill('delivered'::text, array[40]) || array_fill('retry'::text, array[30]) || \
         array_fill('dead'::text, array[30])), {one}, {smallint}, {text}, {no}, {one}, {NIL}",
        delivering(),
        one = hundred("1::float8"),
        no = hundred("false"),
    );
    vec![
        worker(statement!("outbox/complete.rs", "finish"), finish, (2000, 1700)),
        worker(statement!("outbox/complete.rs", "settle"), mixed, (3500, 5500)),
        fresh(statement!("outbox/complete.rs", "finish_unleased"), "md5('a13')::uuid, 'index'", (40, 60)),
    ]
}

fn promoting() -> Vec<Case> {
    let gone = "delete from outbox_message where id in (select 10 * n + 4 from generate_series(1, 10) n)";
    let records = array(10, |n| format!("md5('r{}')::uuid", 10 * n + 4));
    let of = format!("{records}, array_fill('search'::text, array[10])");
    let promote = statement!("outbox/promote.rs", "promote");
    vec![worker(promote, of.clone(), (250, 800)).after(gone, ""), fresh(promote, of, (250, 800)).after(gone, "")]
}

/// Ten of each of two claims, of twelve. What is left of claims that are over goes with the next vacuum.
fn rescuing(rows: i64) -> Vec<Case> {
    let over = rows / 500;
    let settled = "update outbox_message set state = 'retrying', lease_holder = null, lease_until = null where id in \
                   (select unnest(message_ids) from outbox_claim where lease in (11, 12))";
    let aside = format!("20, {}::bigint[]", array(10, |n| (10 * n - 1).to_string()));
    vec![
        worker(statement!("outbox/rescue.rs", "is_any_lost"), "", (60, 100 + over))
            .after("delete from outbox_claim where lease > 10", ", where nothing is"),
        worker(statement!("outbox/rescue.rs", "is_any_lost"), "", (60, 100 + over)),
        worker(statement!("outbox/rescue.rs", "hold_front"), "20", (250, 200 + over)),
        worker(statement!("outbox/rescue.rs", "rescue"), aside, (700, 1500 + over)),
        worker(statement!("outbox/rescue.rs", "forget_lost"), "", (120, 250 + over)).after(settled, ""),
    ]
}

fn writing() -> Vec<Case> {
    let ten = |sql: &str| format!("array_fill({sql}, array[10])");
    let text = |word: &str| ten(&format!("'{word}'::text"));
    let candidates = format!("{}, 3, 0.5, 10", uuids("r"));
    let enqueue = format!(
        "{search}, {index}, {}, {}, {}, {agent}, {declare}, {null}, {}, {null}",
        array(10, |n| format!("'new-{n}'")),
        uuids("other"),
        uuids("a"),
        ten("0"),
        search = text("search"),
        index = text("index"),
        agent = text("agent"),
        declare = text("declare"),
        null = ten("null::text"),
    );
    let mut cases = Vec::new();
    for session in [Session::Writer, Session::Fresh] {
        let case = |statement, arguments: &String, most| Case::new(session, statement, arguments.clone(), most);
        cases.push(case(statement!("records/store/record_match.rs", "candidates"), &candidates, (6000, 2500)));
        cases.push(case(statement!("outbox/enqueue.rs", "enqueue"), &enqueue, (250, 3000)));
        cases.push(case(statement!("records/store/submission.rs", "begin"), &beginning(), (250, 3000)));
        cases.push(
            case(statement!("records/store/submission.rs", "end"), &ending(), (250, 3000)).after(TEN_RECORDS, ""),
        );
    }
    cases
}

const TEN_RECORDS: &str = "insert into record (id, event, status, tracking_id, version, created_by) \
    select md5('new' || n)::uuid, 'birth', 'declared', 'NEW' || lpad(n::text, 4, '0'), 1, 'agent' from generate_series(1, 10) n";

fn ten(value: &str) -> String {
    format!("array_fill({value}, array[10])")
}

/// Ten new records and what they are compared by.
fn beginning() -> String {
    let new = array(10, |n| format!("md5('new{n}')::uuid"));
    let tracking_ids = array(10, |n| format!("'NEW{n:04}'"));
    let (text, null) = (|word: &str| ten(&format!("'{word}'::text")), ten("null::text"));
    format!(
        "{new}, {}, {}, {tracking_ids}, {}, {}, {}, {null}, {null}, {empty}, {empty}, {empty}",
        text("birth"),
        text("declared"),
        ten("null::uuid"),
        text("agent"),
        ten("date '2020-01-01'"),
        empty = text(""),
    )
}

/// What they leave, and the replies to ten transactions that are there.
fn ending() -> String {
    let new = array(10, |n| format!("md5('new{n}')::uuid"));
    let transactions = array(10, |n| format!("'draft-{:07}'", 10 * n + 3));
    let actions = array(10, |n| format!("md5('new-a{n}')::uuid"));
    let text = |word: &str| ten(&format!("'{word}'::text"));
    let (agent, scopes, null) = (text("agent"), text("declare"), ten("null::text"));
    format!(
        "{new}, {}, {agent}, {transactions}, {}, {}, {actions}, \
         {actions}, {new}, {messages}, {}, {}, {}, {null}, {agent}, {scopes}, \
         {}, {}, {}, {messages}, {new}, {actions}, {agent}, {scopes}, {null}, {}",
        text("{}"),
        ten("202::smallint"),
        text("{}"),
        ten("'declare'::record_action_kind"),
        ten("'accepted'::record_action_status"),
        ten("'declared'::record_status"),
        ten("'queued'::message_state"),
        text("search"),
        text("index"),
        ten("null::float8"),
        messages = array(10, |n| format!("'new-{n}'")),
    )
}

fn reading(empty: &str, grown: &str) -> Vec<Case> {
    let ids = array(10, |n| format!("'draft-{:07}'", 10 * n + 3));
    let xmax = |snapshot: &str| snapshot.split(':').nth(1).unwrap().to_owned();
    // What would have come next when the tables were empty is open to this day.
    let open = format!("{0}:{1}:{0}", xmax(empty), xmax(grown));
    let tail = statement!("records/store/change.rs", "tail");
    vec![
        worker(statement!("records/store/action.rs", "sources"), format!("{}, true", uuids("a")), (60, 250)),
        worker(statement!("records/store/transaction.rs", "states"), ids.clone(), (150, 350)),
        worker(statement!("records/store/transaction.rs", "deliveries"), ids, (400, 700)),
        worker(tail, format!("'{empty}', 100"), (2500, 900)).after("", ", of all"),
        worker(tail, format!("'{grown}', 100"), (20, 60)),
        worker(tail, format!("'{open}', 100"), (20, 80)).after("", ", beside an open one"),
    ]
}

/// What looks at all that is live, or at all that is ready: a few times at most, and in an index too.
fn counting(rows: i64) -> Vec<Case> {
    let pressure =
        |limit: i64| fresh(statement!("outbox/pressure.rs", "read"), limit.to_string(), (7 * rows, rows / 2));
    vec![
        pressure(1000).after("", ", to a thousand"),
        pressure(rows),
        fresh(statement!("outbox/inspect.rs", "destinations"), "", (7 * rows, rows / 4)),
        fresh(statement!("outbox/rescue.rs", "find_unwritten"), "", (3 * rows, 2 * rows)),
    ]
}
