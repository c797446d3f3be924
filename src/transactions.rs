//! The table `client_transaction`: one intention of a client, once and for ever (P2).
//!
//! [`claim`] is the first statement of the transaction that does the work; the reply is kept with all that it tells of, by
//! [`save`] or, for submissions, in the statement that writes them. A concurrent
//! twin waits on the primary key until we commit and then gets our reply; if we roll back, the twin does the work.
//! Only replies of success are kept: a refused request leaves no trace and may be sent again.

use std::collections::{HashMap, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

/// SHA-256 of a canonical request. The transaction id is no part of it, wherever it stands.
#[derive(Clone, Copy, Debug)]
pub struct Fingerprint {
    digest: [u8; 32],
    former: Option<[u8; 32]>,
}

impl Fingerprint {
    /// With the digest that earlier releases saved, if it differs: they counted a body's `transactionId` in. Rows are
    /// kept for ever, so it is accepted for ever.
    pub fn new(digest: [u8; 32], former: Option<[u8; 32]>) -> Self {
        Self { digest, former }
    }

    /// Whether two requests of this release ask the same.
    pub fn same_as(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    fn was_saved_as(&self, saved: &[u8]) -> bool {
        saved == self.digest || self.former.is_some_and(|former| saved == former)
    }
}

impl From<[u8; 32]> for Fingerprint {
    fn from(digest: [u8; 32]) -> Self {
        Self { digest, former: None }
    }
}

/// A wish to do the work of a transaction id.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// The client's transaction id.
    pub transaction_id: &'a str,
    /// Who sends it.
    pub principal_id: &'a str,
    /// What is asked.
    pub fingerprint: &'a Fingerprint,
}

/// The reply of a transaction, replayed byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status, 200 to 299.
    pub status: u16,
    /// JSON text.
    pub body: String,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Nobody did this before: do it now.
    Fresh,
    /// It was done: here is the reply.
    Done(Reply),
    /// The id was used for something else or by somebody else; nothing of that may be told.
    Reused,
}

/// Claims transaction ids, sorted so that two lists never wait for each other in a circle.
/// Returns an answer per claim, in the order given. The ids of one call must differ.
///
/// Waits for a concurrent twin up to the connection's `lock_timeout` (SQLSTATE 55P03).
pub async fn claim(conn: &mut PgConnection, claims: &[Claim<'_>]) -> sqlx::Result<Vec<Claimed>> {
    let fresh = insert(conn, claims).await?;
    let others: Vec<&str> = claims.iter().map(|c| c.transaction_id).filter(|id| !fresh.contains(*id)).collect();
    let known = if others.is_empty() { HashMap::new() } else { read(conn, &others).await? };
    claims
        .iter()
        .map(|c| {
            if fresh.contains(c.transaction_id) {
                return Ok(Claimed::Fresh);
            }
            // Not inserted and not there: its owner took it back in between. The caller may try again.
            known.get(c.transaction_id).map(|row| row.answer(c)).ok_or(sqlx::Error::RowNotFound)
        })
        .collect()
}

/// The answers to claims of ids that are taken, which may be the same ones.
pub async fn taken(conn: &mut PgConnection, claims: &[Claim<'_>]) -> sqlx::Result<Vec<Claimed>> {
    if claims.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<&str> = claims.iter().map(|c| c.transaction_id).collect();
    let known = read(conn, &ids).await?;
    let answer = |c: &Claim<'_>| known.get(c.transaction_id).map_or(Claimed::Reused, |row| row.answer(c));
    Ok(claims.iter().map(answer).collect())
}

async fn insert(conn: &mut PgConnection, claims: &[Claim<'_>]) -> sqlx::Result<HashSet<String>> {
    let ids: Vec<&str> = claims.iter().map(|c| c.transaction_id).collect();
    let principals: Vec<&str> = claims.iter().map(|c| c.principal_id).collect();
    let fingerprints: Vec<&[u8]> = claims.iter().map(|c| c.fingerprint.digest.as_slice()).collect();
    let rows = sqlx::query_scalar!(
        r#"
        insert into client_transaction (transaction_id, principal_id, fingerprint)
        select * from unnest($1::text[], $2::text[], $3::bytea[]) as c (transaction_id, principal_id, fingerprint)
        order by c.transaction_id collate "C"
        on conflict (transaction_id) do nothing
        returning transaction_id
        "#,
        &ids as &[&str],
        &principals as &[&str],
        &fingerprints as &[&[u8]],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().collect())
}

struct Known {
    principal_id: String,
    fingerprint: Vec<u8>,
    reply: Option<Reply>,
}

impl Known {
    fn answer(&self, claim: &Claim<'_>) -> Claimed {
        let same = self.principal_id == claim.principal_id && claim.fingerprint.was_saved_as(&self.fingerprint);
        match &self.reply {
            Some(reply) if same => Claimed::Done(reply.clone()),
            Some(_) | None => Claimed::Reused,
        }
    }
}

async fn read(conn: &mut PgConnection, ids: &[&str]) -> sqlx::Result<HashMap<String, Known>> {
    let rows = sqlx::query!(
        "select transaction_id, principal_id, fingerprint, reply_status, reply_body from client_transaction where transaction_id = any ($1)",
        ids as &[&str],
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|r| {
            let status = r.reply_status.and_then(|s| u16::try_from(s).ok());
            let reply = status.zip(r.reply_body).map(|(status, body)| Reply { status, body });
            (r.transaction_id, Known { principal_id: r.principal_id, fingerprint: r.fingerprint, reply })
        })
        .collect())
}

/// Takes a claim of this database transaction back: what it was for was refused, and may be tried again.
pub async fn release(conn: &mut PgConnection, transaction_id: &str) -> sqlx::Result<()> {
    sqlx::query!("delete from client_transaction where transaction_id = $1 and reply_body is null", transaction_id)
        .execute(conn)
        .await
        .map(drop)
}

/// A reply to keep.
#[derive(Clone, Debug)]
pub struct Saved<'a> {
    /// The transaction.
    pub transaction_id: &'a str,
    /// Its reply.
    pub reply: &'a Reply,
    /// The record it made or acted on.
    pub record_id: Uuid,
    /// The last action it appended.
    pub action_id: Uuid,
}

/// Keeps the replies of transactions that were claimed in this database transaction.
pub async fn save(conn: &mut PgConnection, saved: &[Saved<'_>]) -> sqlx::Result<()> {
    let ids: Vec<&str> = saved.iter().map(|s| s.transaction_id).collect();
    let statuses: Vec<i16> = saved.iter().map(|s| i16::try_from(s.reply.status).unwrap_or_default()).collect();
    let bodies: Vec<&str> = saved.iter().map(|s| s.reply.body.as_str()).collect();
    let records: Vec<Uuid> = saved.iter().map(|s| s.record_id).collect();
    let actions: Vec<Uuid> = saved.iter().map(|s| s.action_id).collect();
    sqlx::query!(
        r#"
        update client_transaction c
        set reply_status = s.status, reply_body = s.body, record_id = s.record_id, action_id = s.action_id
        from unnest($1::text[], $2::smallint[], $3::text[], $4::uuid[], $5::uuid[])
             as s (transaction_id, status, body, record_id, action_id)
        where c.transaction_id = s.transaction_id
        "#,
        &ids as &[&str],
        &statuses,
        &bodies as &[&str],
        &records,
        &actions,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Which of these transactions are finished.
pub async fn finished(conn: &mut PgConnection, ids: &[&str]) -> sqlx::Result<HashSet<String>> {
    let known = sqlx::query_scalar!(
        "select transaction_id from client_transaction where transaction_id = any ($1) and record_id is not null",
        ids as &[&str],
    )
    .fetch_all(conn)
    .await?;
    Ok(known.into_iter().collect())
}

/// Whose transaction it is and what it is about.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Who sent it.
    pub principal_id: String,
    /// The record.
    pub record_id: Uuid,
}

/// Who sent it, if that is not `initiator`.
pub async fn owner_beside(
    conn: &mut PgConnection,
    transaction_id: &str,
    initiator: &str,
) -> sqlx::Result<Option<String>> {
    let owner = owner(conn, transaction_id).await?.map(|owner| owner.principal_id);
    Ok(owner.filter(|owner| owner != initiator))
}

/// Looks a finished transaction up.
pub async fn owner(conn: &mut PgConnection, transaction_id: &str) -> sqlx::Result<Option<Owner>> {
    sqlx::query_as!(
        Owner,
        r#"select principal_id, record_id as "record_id!" from client_transaction where transaction_id = $1 and record_id is not null"#,
        transaction_id
    )
    .fetch_optional(conn)
    .await
}
