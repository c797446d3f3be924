//! The real functions, driven step by step against a database of its own, and compared with the model.

use std::collections::BTreeSet;
use std::time::Duration;

use crvs_outbox::outbox::complete::{Outcome as Ending, Settlement, complete};
use crvs_outbox::outbox::destination::{self, Auth, Breaker, Definition, Format};
use crvs_outbox::outbox::rescue::rescue;
use crvs_outbox::outbox::{Claimed, Effect, worker};
use crvs_outbox::records::commands::{self, Access, Act, Answer, CommandError, Decision, Outcome, Standing, Verdict};
use crvs_outbox::records::model::Step as Move;
use crvs_outbox::{db, samples};
use sqlx::PgPool;
use uuid::Uuid;

use super::inputs::{accepts, answer, attachments_of, ending, initiator, record_of, rejects, stands, submission};
use super::model::Model;
use super::{How, Step};
use crate::harness::{assert_invariants, new_database, take};

const DESTINATIONS: [(&str, Effect, Format); 5] = [
    ("country-config", Effect::Validation, Format::OpencrvsEventRegistration),
    ("search", Effect::Search, Format::Cloudevents),
    ("audit", Effect::Audit, Format::Cloudevents),
    ("metrics", Effect::Metrics, Format::Cloudevents),
    ("notification", Effect::Notification, Format::Cloudevents),
];

/// A lease that a worker believes to hold.
struct Held {
    message: Claimed,
    destination: &'static str,
}

struct Worker {
    id: Uuid,
    held: Vec<Held>,
}

pub(super) struct World {
    db: PgPool,
    model: Model,
    workers: Vec<Worker>,
    acts: u32,
}

impl World {
    pub(super) async fn new() -> Self {
        let db = db::pool(&new_database().await, 3).await.unwrap();
        let definitions: Vec<Definition> = DESTINATIONS
            .iter()
            .map(|(name, effect, format)| Definition {
                name: (*name).to_owned(),
                url: "http://nowhere".to_owned(),
                format: *format,
                effects: vec![*effect],
                auth: Auth::None,
                concurrency: 3,
                breaker: Breaker { failures: 0, ..Breaker::default() },
                ..Definition::default()
            })
            .collect();
        let mut conn = db.acquire().await.unwrap();
        destination::apply(&mut conn, &definitions).await.unwrap();
        drop(conn);
        let mut world = Self { db, model: Model::default(), workers: Vec::new(), acts: 0 };
        for _ in 0..2 {
            let id = world.live_worker().await;
            world.workers.push(Worker { id, held: Vec::new() });
        }
        world
    }

    async fn live_worker(&self) -> Uuid {
        let id = Uuid::now_v7();
        let mut conn = self.db.acquire().await.unwrap();
        worker::beat(&mut conn, id, "property", Duration::from_hours(1)).await.unwrap();
        id
    }

    pub(super) async fn close(self) {
        self.db.close().await;
    }

    pub(super) async fn take(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Submit { n } => self.submit(*n).await?,
            Step::Misuse { n, other_user } => self.misuse(*n, *other_user).await?,
            Step::Confirm { n, number } => self.call_back(*n, accepts(*n, *number)).await?,
            Step::Refuse { n } => self.call_back(*n, rejects()).await?,
            Step::Correct { n } => self.act(*n, Move::Declare).await?,
            Step::Register { n } => self.act(*n, Move::Register).await?,
            Step::Claim { worker, destination } => self.claim(*worker, *destination).await?,
            Step::Settle { worker, which, how } => self.settle(*worker, *which, *how).await?,
            Step::Crash { worker } => self.crash(*worker).await,
            Step::Expire => self.expire().await,
            Step::Rescue => self.rescue().await,
        }
        assert_invariants(&self.db).await;
        Ok(())
    }

    async fn submit(&mut self, n: u8) -> Result<(), String> {
        let submission = submission(n, "registrar", samples::BIRTH);
        let id = submission.transaction_id.clone();
        let mut tx = self.db.begin().await.unwrap();
        let outcome = commands::submit(&mut tx, &[submission]).await.unwrap().remove(0);
        tx.commit().await.unwrap();
        match (outcome, self.model.answers.get(&id)) {
            (Outcome::Done(reply), None) => {
                let (record_id, action_id) = (record_of(&reply.body), self.newest_request(&reply.body).await);
                self.model.submitted(n, &id, record_id, action_id);
                self.model.answers.insert(id, reply.body);
                Ok(())
            }
            (Outcome::Replayed(reply), Some(first)) if reply.body == *first => Ok(()),
            (outcome, known) => Err(format!("P2: submit {n}: {outcome:?}, known: {known:?}")),
        }
    }

    async fn newest_request(&self, reply: &str) -> Uuid {
        sqlx::query_scalar("select awaiting_action_id from record where id = $1")
            .bind(record_of(reply))
            .fetch_one(&self.db)
            .await
            .unwrap()
    }

    async fn misuse(&mut self, n: u8, other_user: bool) -> Result<(), String> {
        let submission = if other_user {
            submission(n, "mallory", samples::BIRTH)
        } else {
            submission(n, "registrar", samples::DEATH)
        };
        if !self.model.answers.contains_key(&submission.transaction_id) {
            return Ok(());
        }
        let mut tx = self.db.begin().await.unwrap();
        let outcome = commands::submit(&mut tx, &[submission]).await.unwrap().remove(0);
        tx.commit().await.unwrap();
        if outcome == Outcome::Reused { Ok(()) } else { Err(format!("P2: misuse of {n}: {outcome:?}")) }
    }

    /// A callback on the newest request; what the model says decides what must come of it.
    async fn call_back(&mut self, n: u8, verdict: Verdict) -> Result<(), String> {
        let Some(record) = self.model.records.get(&n) else { return Ok(()) };
        let Some((action_id, _)) = record.requests.last().cloned() else { return Ok(()) };
        let decision = Decision {
            record_id: record.id,
            action_id: Some(action_id),
            tracking_id: None,
            by: "country".to_owned(),
            verdict: verdict.clone(),
            traceparent: None,
        };
        let mut tx = self.db.begin().await.unwrap();
        let outcome = commands::decide(&mut tx, &decision).await;
        if outcome.is_ok() {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        let stands = stands(&verdict);
        let before = self.model.verdicts.get(&action_id).cloned();
        let fits = match (&outcome, before) {
            (Ok(Outcome::Done(_)), None) => self.model.decided(action_id, stands),
            (Ok(Outcome::Replayed(_)), Some(first)) => first == stands,
            (Err(CommandError::AlreadyDecided), Some(first)) => first != stands,
            (Err(CommandError::Superseded), None) => {
                self.model.records.values().all(|r| r.awaiting.as_ref().is_none_or(|(a, _)| *a != action_id))
            }
            _ => false,
        };
        if fits { Ok(()) } else { Err(format!("verdict on {n}: {outcome:?}")) }
    }

    async fn act(&mut self, n: u8, step: Move) -> Result<(), String> {
        let Some(record) = self.model.records.get(&n) else { return Ok(()) };
        self.acts += 1;
        let act = Act {
            transaction_id: format!("act-{:08}", self.acts),
            fingerprint: [9; 32].into(),
            initiator: initiator("registrar"),
            access: Access::Any,
            traceparent: None,
            record_id: record.id,
            step,
            declaration: (step == Move::Declare).then(|| samples::BIRTH.to_owned()),
            attachments: attachments_of(samples::BIRTH, step == Move::Declare),
            reason: None,
            comment: None,
        };
        let mut tx = self.db.begin().await.unwrap();
        match commands::act(&mut tx, &act).await {
            Ok(Outcome::Done(reply)) => {
                tx.commit().await.unwrap();
                if step == Move::Declare {
                    self.model.corrected(n, &act.transaction_id);
                } else {
                    let action_id = self.newest_request(&reply.body).await;
                    self.model.requested(n, &act.transaction_id, action_id);
                }
                Ok(())
            }
            // The table of transitions has its own test; here a refusal must only leave nothing behind.
            Err(CommandError::Refused(_)) => {
                tx.rollback().await.unwrap();
                Ok(())
            }
            other => Err(format!("act {step:?} on {n}: {other:?}")),
        }
    }

    async fn claim(&mut self, worker: u8, destination: u8) -> Result<(), String> {
        let (name, _, _) = DESTINATIONS[usize::from(destination) % DESTINATIONS.len()];
        let id = self.workers[usize::from(worker)].id;
        let mut conn = self.db.acquire().await.unwrap();
        let claimed = take(&mut conn, name, id, 3).await;
        drop(conn);
        for message in claimed {
            if self.model.leases.insert(message.id, message.lease).is_some()
                || self.model.finished.contains(&message.id)
            {
                return Err(format!("P6: message {} was claimed while it was held or finished", message.id));
            }
            self.workers[usize::from(worker)].held.push(Held { message, destination: name });
        }
        Ok(())
    }

    async fn settle(&mut self, worker: u8, which: u8, how: How) -> Result<(), String> {
        let me = &mut self.workers[usize::from(worker)];
        if me.held.is_empty() {
            return Ok(());
        }
        let held = me.held.swap_remove(usize::from(which) % me.held.len());
        let id = me.id;
        self.settle_held(id, held, how).await
    }

    /// Settles as the workers do: record first, then the fence. The model says whether the lease is good.
    async fn settle_held(&mut self, worker: Uuid, held: Held, how: How) -> Result<(), String> {
        let Held { message, destination } = held;
        let mut tx = self.db.begin().await.unwrap();
        let mut ending = ending(how);
        if destination == "country-config" {
            let answer = answer(how, &message);
            let verdict = if let Answer::Verdict(verdict) = &answer { Some(stands(verdict)) } else { None };
            let standing =
                commands::receive_answer(&mut tx, message.action_id, destination, answer, Duration::from_hours(1))
                    .await
                    .map_err(|e| format!("answer: {e:?}"))?;
            if let Some(verdict) = verdict {
                self.model.decided(message.action_id, verdict);
            }
            if matches!(standing, Standing::Decided | Standing::Awaited) {
                ending = Ending::Delivered;
            }
        }
        let delivered = ending == Ending::Delivered;
        let settlement =
            Settlement { duration: Some(Duration::ZERO), ..Settlement::without_exchange(&message, ending) };
        let settled = complete(&mut tx, worker, &[settlement]).await.map_err(|e| format!("complete: {e:?}"))?;
        tx.commit().await.unwrap();
        let good = self.model.leases.get(&message.id) == Some(&message.lease);
        if settled.contains(&message.id) != good {
            return Err(format!("P6: message {}: settled {settled:?}, lease good: {good}", message.id));
        }
        if good {
            self.model.leases.remove(&message.id);
            if delivered && !self.model.finished.insert(message.id) {
                return Err(format!("message {} was finished twice", message.id));
            }
        }
        Ok(())
    }

    /// The process is gone; a new one takes its place. The old one's leases are as good as their fence.
    async fn crash(&mut self, worker: u8) {
        let new = self.live_worker().await;
        let old = std::mem::replace(&mut self.workers[usize::from(worker)].id, new);
        sqlx::query("update worker set heartbeat_at = now() - interval '1 day' where id = $1")
            .bind(old)
            .execute(&self.db)
            .await
            .unwrap();
    }

    async fn expire(&mut self) {
        for table in [
            "update outbox_message set lease_until = now() - interval '1 second' where state = 'delivering'",
            "update outbox_claim set lease_until = now() - interval '1 second'",
        ] {
            sqlx::query(table).execute(&self.db).await.unwrap();
        }
    }

    /// Whatever is not `delivering` any more has lost its lease.
    async fn rescue(&mut self) {
        let mut conn = self.db.acquire().await.unwrap();
        rescue(&mut conn, 1000).await.unwrap();
        let leased: Vec<i64> = sqlx::query_scalar("select id from outbox_message where state = 'delivering'")
            .fetch_all(&mut *conn)
            .await
            .unwrap();
        self.model.leases.retain(|id, _| leased.contains(id));
    }

    /// Delivers everything that is left, and compares what happened with what had to.
    pub(super) async fn drain_and_compare(&mut self) -> Result<(), String> {
        self.expire().await;
        self.rescue().await;
        for worker in &mut self.workers {
            worker.held.clear();
        }
        loop {
            // An operator retries what is dead; time passes for what is retried.
            sqlx::query("update outbox_message set state = 'retrying', available_at = now() where state in ('dead', 'retrying')")
                .execute(&self.db)
                .await
                .unwrap();
            for destination in 0..5 {
                self.claim(0, destination).await?;
            }
            if self.workers[0].held.is_empty() {
                break;
            }
            while !self.workers[0].held.is_empty() {
                self.settle(0, 0, How::Delivered).await?;
                assert_invariants(&self.db).await;
            }
        }
        self.compare().await
    }

    async fn compare(&self) -> Result<(), String> {
        let live: i64 = sqlx::query_scalar("select count(*) from outbox_message").fetch_one(&self.db).await.unwrap();
        let delivered: Vec<(String, String)> =
            sqlx::query_as("select destination, transaction_id from outbox_history where state = 'delivered'")
                .fetch_all(&self.db)
                .await
                .unwrap();
        let happened: BTreeSet<(String, String)> = delivered.iter().cloned().collect();
        if live != 0 || delivered.len() != happened.len() || happened != self.model.effects {
            let missing: Vec<_> = self.model.effects.difference(&happened).collect();
            let surplus: Vec<_> = happened.difference(&self.model.effects).collect();
            return Err(format!("P3: live {live}, missing {missing:?}, surplus {surplus:?}"));
        }
        for record in self.model.records.values() {
            let number: Option<String> = sqlx::query_scalar("select registration_number from record where id = $1")
                .bind(record.id)
                .fetch_one(&self.db)
                .await
                .unwrap();
            if number != record.registered {
                return Err(format!("the number is {number:?}, not {:?}", record.registered));
            }
        }
        Ok(())
    }
}
