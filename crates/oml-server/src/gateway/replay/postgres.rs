//! The store that several gateways share: a PostgreSQL database.
//!
//! Each gateway gathers what waits and decides it in one transaction. It locks the grants of the batch, in the order of their ids, so
//! that two gateways never wait for each other in a circle; then `INSERT … ON CONFLICT DO NOTHING` says which permissions are new,
//! whoever else tries at the same time. With PostgreSQL's `synchronous_commit` on, as it is by default, what is decided is on disk.
//!
//! Tables: `oml_accepted`, `oml_grants`, `oml_usage`; they are made where they are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use oml_core::merkle::Hash;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls, Row, Transaction};

use super::{
    Admission, Answered, Decision, GrantState, Promise, Record, ReplayStore, StoreError, Usage,
    UsageKey,
};

const WAITING: usize = 16_384;
const BATCH: usize = 1_024;
const NAME: &str = "PostgreSQL";
/// How long a gateway waits for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Two gateways that start together would both make the tables: the lock lets one go first.
const SCHEMA: &str = "
BEGIN;
SELECT pg_advisory_xact_lock(7881299341);
CREATE TABLE IF NOT EXISTS oml_accepted (
    permission bytea PRIMARY KEY, expires bigint NOT NULL, time bigint NOT NULL, token text NOT NULL,
    receipt text, prompt_tokens bigint, completion_tokens bigint);
CREATE INDEX IF NOT EXISTS oml_accepted_expires ON oml_accepted (expires);
CREATE TABLE IF NOT EXISTS oml_grants (grant_id bytea PRIMARY KEY, not_after bigint NOT NULL, state bytea NOT NULL);
CREATE TABLE IF NOT EXISTS oml_usage (
    day integer, model bytea, licensee bytea, calls bigint NOT NULL, prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL, spent numeric NOT NULL, PRIMARY KEY (day, model, licensee));
COMMIT;
";

/// Connections to a database, one of which decides.
pub struct PostgresStore {
    commands: mpsc::Sender<Command>,
    reader: Client,
}

enum Command {
    Admit(Admission, oneshot::Sender<Result<Decision, StoreError>>),
    Keep(Answered, oneshot::Sender<Result<(), StoreError>>),
}

impl PostgresStore {
    /// Connects, and makes the tables where they are missing. Must be called on a Tokio runtime.
    ///
    /// `url` is `postgres://USER:PASSWORD@HOST/DATABASE` or a list of `key=value` as libpq reads it.
    ///
    /// # Errors
    /// When the URL is none, names a host that is not this machine without saying `sslmode=disable`, or the database refuses.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let mut config: Config = url.parse().map_err(failed)?;
        let elsewhere = config.get_hosts().iter().any(|host| match host {
            Host::Tcp(name) => !matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1"),
            #[cfg(unix)]
            Host::Unix(_) => false,
        });
        if elsewhere && config.get_ssl_mode() != SslMode::Disable {
            let reason = "expected a host on this machine, or sslmode=disable for a network that you trust: \
                          connections to PostgreSQL are not encrypted";
            return Err(StoreError::Failed {
                store: NAME,
                reason: reason.to_owned(),
            });
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        let writer = client(&config).await?;
        writer.batch_execute(SCHEMA).await.map_err(failed)?;
        let reader = client(&config).await?;
        let (commands, waiting) = mpsc::channel(WAITING);
        tokio::spawn(write(config, writer, waiting));
        Ok(Self { commands, reader })
    }

    fn send<T: Send + 'static>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Promise<'_, T> {
        let (sender, answer) = oneshot::channel();
        let sent = self.commands.try_send(command(sender));
        Box::pin(async move {
            sent.map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
            })?;
            answer.await.map_err(|_| StoreError::Closed)?
        })
    }
}

async fn client(config: &Config) -> Result<Client, StoreError> {
    let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
    // It ends when the client is dropped; an error reaches the client's next query.
    tokio::spawn(connection);
    Ok(client)
}

impl ReplayStore for PostgresStore {
    fn admit(&self, admission: Admission) -> Promise<'_, Decision> {
        self.send(|sender| Command::Admit(admission, sender))
    }

    fn keep(&self, answered: Answered) -> Promise<'_, ()> {
        self.send(|sender| Command::Keep(answered, sender))
    }

    fn find(&self, permission: Hash, _: u64) -> Promise<'_, Option<Record>> {
        Box::pin(async move {
            let query = format!("{RECORDS} WHERE permission = $1");
            let row = self.reader.query_opt(&query, &[&&permission[..]]).await;
            row.map_err(failed)?.as_ref().map(record).transpose()
        })
    }

    fn records(&self) -> Promise<'_, Vec<Record>> {
        Box::pin(async move {
            let query = format!("{RECORDS} ORDER BY expires, permission");
            let rows = self.reader.query(&query, &[]).await.map_err(failed)?;
            rows.iter().map(record).collect()
        })
    }

    fn usage(&self) -> Promise<'_, Vec<(UsageKey, Usage)>> {
        Box::pin(async move {
            let query = "SELECT day, model, licensee, calls, prompt_tokens, completion_tokens, spent::text \
                         FROM oml_usage ORDER BY day, model, licensee";
            let rows = self.reader.query(query, &[]).await.map_err(failed)?;
            rows.iter()
                .map(|row| usage(row).ok_or(damaged("oml_usage")))
                .collect()
        })
    }

    fn forget(&self, now: u64, window: u64) -> Promise<'_, ()> {
        Box::pin(async move {
            let before = signed(now.saturating_sub(window));
            for query in [
                "DELETE FROM oml_accepted WHERE expires < $1",
                "DELETE FROM oml_grants WHERE not_after < $1",
            ] {
                self.reader
                    .execute(query, &[&before])
                    .await
                    .map_err(failed)?;
            }
            Ok(())
        })
    }
}

const RECORDS: &str =
    "SELECT time, token, receipt, prompt_tokens, completion_tokens FROM oml_accepted";

fn record(row: &Row) -> Result<Record, StoreError> {
    let read = || {
        let receipt: Option<String> = row.try_get(2).ok()?;
        let receipt = match receipt {
            None => None,
            Some(receipt) => Some((receipt, [number(row, 3)?, number(row, 4)?])),
        };
        Some(Record {
            time: number(row, 0)?,
            token: row.try_get(1).ok()?,
            receipt,
        })
    };
    read().ok_or(damaged("oml_accepted"))
}

fn usage(row: &Row) -> Option<(UsageKey, Usage)> {
    let day: i32 = row.try_get(0).ok()?;
    let (model, licensee): (&[u8], &[u8]) = (row.try_get(1).ok()?, row.try_get(2).ok()?);
    let spent: &str = row.try_get(6).ok()?;
    let key = UsageKey {
        day: u32::try_from(day).ok()?,
        model: model.try_into().ok()?,
        licensee: licensee.try_into().ok()?,
    };
    let sum = Usage {
        calls: number(row, 3)?,
        prompt_tokens: number(row, 4)?,
        completion_tokens: number(row, 5)?,
        spent: spent.parse().ok()?,
    };
    Some((key, sum))
}

fn number(row: &Row, column: usize) -> Option<u64> {
    let value: i64 = row.try_get(column).ok()?;
    u64::try_from(value).ok()
}

/// PostgreSQL has no unsigned integers; what does not fit is later than every real time.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Decides batch after batch; connects again after the connection broke.
async fn write(config: Config, mut client: Client, mut waiting: mpsc::Receiver<Command>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let (mut admissions, mut answers) = (Vec::new(), Vec::new());
        for command in batch.drain(..) {
            match command {
                Command::Admit(admission, to) => admissions.push((admission, to)),
                Command::Keep(answered, to) => answers.push((answered, to)),
            }
        }
        let work = async {
            if client.is_closed() {
                client = self::client(&config).await?;
            }
            let asked: Vec<&Admission> = admissions.iter().map(|(a, _)| a).collect();
            let kept: Vec<&Answered> = answers.iter().map(|(a, _)| a).collect();
            decide(&mut client, &asked, &kept).await
        };
        let decided = work.await;
        for (i, (_, to)) in admissions.into_iter().enumerate() {
            let _ = to.send(decided.as_ref().map(|d| d[i]).map_err(Clone::clone));
        }
        for (_, to) in answers {
            let _ = to.send(decided.as_ref().map(|_| ()).map_err(Clone::clone));
        }
    }
}

/// One transaction; an error of it leaves nothing behind.
async fn decide(
    client: &mut Client,
    admissions: &[&Admission],
    answers: &[&Answered],
) -> Result<Vec<Decision>, StoreError> {
    let transaction = client.transaction().await.map_err(failed)?;
    let decisions = admit(&transaction, admissions).await?;
    keep(&transaction, answers).await?;
    transaction.commit().await.map_err(failed)?;
    Ok(decisions)
}

async fn admit(
    transaction: &Transaction<'_>,
    admissions: &[&Admission],
) -> Result<Vec<Decision>, StoreError> {
    if admissions.is_empty() {
        return Ok(Vec::new());
    }
    let mut states = locked_grants(transaction, admissions).await?;
    // Ascending, so that two gateways that insert the same permissions never wait for each other in a circle.
    let mut order: Vec<usize> = (0..admissions.len()).collect();
    order.sort_by_key(|i| admissions[*i].permission);
    let column = |get: &dyn Fn(&Admission) -> i64| -> Vec<i64> {
        order.iter().map(|i| get(admissions[*i])).collect()
    };
    let permissions: Vec<&[u8]> = order
        .iter()
        .map(|i| &admissions[*i].permission[..])
        .collect();
    let tokens: Vec<&str> = order
        .iter()
        .map(|i| admissions[*i].token.as_str())
        .collect();
    let new = transaction
        .query(
            "INSERT INTO oml_accepted (permission, expires, time, token) \
             SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::text[]) \
             ON CONFLICT DO NOTHING RETURNING permission",
            &[
                &permissions,
                &column(&|a| signed(a.expires)),
                &column(&|a| signed(a.time)),
                &tokens,
            ],
        )
        .await
        .map_err(failed)?;
    let mut new: BTreeSet<Vec<u8>> = new.iter().map(|row| row.get(0)).collect();
    let mut refused = Vec::new();
    let mut decisions = Vec::with_capacity(admissions.len());
    for admission in admissions {
        // The same permission twice in one batch is new once.
        let decision = match new.remove(&admission.permission[..]) {
            false => Decision::Replayed,
            true => match charge(&mut states, admission) {
                Ok(()) => Decision::Accepted,
                Err(decision) => {
                    refused.push(&admission.permission[..]);
                    decision
                }
            },
        };
        decisions.push(decision);
    }
    if !refused.is_empty() {
        let query = "DELETE FROM oml_accepted WHERE permission = ANY($1)";
        transaction
            .execute(query, &[&refused])
            .await
            .map_err(failed)?;
    }
    let ids: Vec<&[u8]> = states.keys().map(|id| &id[..]).collect();
    let ends: Vec<i64> = states.values().map(|s| signed(s.not_after)).collect();
    let bytes: Vec<[u8; GrantState::BYTES]> = states.values().map(|s| s.to_bytes()).collect();
    let bytes: Vec<&[u8]> = bytes.iter().map(|b| &b[..]).collect();
    let query = "UPDATE oml_grants SET not_after = new.not_after, state = new.state \
                 FROM unnest($1::bytea[], $2::bigint[], $3::bytea[]) AS new (grant_id, not_after, state) \
                 WHERE oml_grants.grant_id = new.grant_id";
    transaction
        .execute(query, &[&ids, &ends, &bytes])
        .await
        .map_err(failed)?;
    Ok(decisions)
}

/// Takes one call from every grant of an admission, or from none.
fn charge(states: &mut BTreeMap<Hash, GrantState>, admission: &Admission) -> Result<(), Decision> {
    let last = admission.budgets.len().wrapping_sub(1);
    let mut next = Vec::with_capacity(admission.budgets.len());
    for (i, budget) in admission.budgets.iter().enumerate() {
        let mut state = states.get(&budget.grant).copied().unwrap_or_default();
        state.admit(admission, budget, i == last)?;
        next.push((budget.grant, state));
    }
    states.extend(next);
    Ok(())
}

/// The states of all grants of a batch, which nobody else changes until the transaction ends.
async fn locked_grants(
    transaction: &Transaction<'_>,
    admissions: &[&Admission],
) -> Result<BTreeMap<Hash, GrantState>, StoreError> {
    let ids: BTreeSet<Hash> = admissions
        .iter()
        .flat_map(|admission| admission.budgets.iter().map(|budget| budget.grant))
        .collect();
    let ids: Vec<&[u8]> = ids.iter().map(|id| &id[..]).collect();
    let empty = GrantState::default().to_bytes();
    let query = "INSERT INTO oml_grants (grant_id, not_after, state) \
                 SELECT id, 0, $2 FROM unnest($1::bytea[]) AS new (id) ON CONFLICT DO NOTHING";
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&ids, &&empty[..]];
    transaction
        .execute(query, &parameters)
        .await
        .map_err(failed)?;
    let query = "SELECT grant_id, state FROM oml_grants WHERE grant_id = ANY($1) ORDER BY grant_id FOR UPDATE";
    let rows = transaction.query(query, &[&ids]).await.map_err(failed)?;
    rows.iter()
        .map(|row| {
            let (id, state): (&[u8], &[u8]) = (row.get(0), row.get(1));
            let state: Option<&[u8; GrantState::BYTES]> = state.try_into().ok();
            let id: Option<Hash> = id.try_into().ok();
            id.zip(state.map(GrantState::from_bytes))
                .ok_or(damaged("oml_grants"))
        })
        .collect()
}

async fn keep(transaction: &Transaction<'_>, answers: &[&Answered]) -> Result<(), StoreError> {
    for answered in answers {
        let [prompt, completion] = answered.tokens.map(signed);
        let update = "UPDATE oml_accepted SET receipt = $2, prompt_tokens = $3, completion_tokens = $4 \
                      WHERE permission = $1 AND receipt IS NULL";
        let kept = transaction
            .execute(
                update,
                &[
                    &&answered.permission[..],
                    &answered.receipt,
                    &prompt,
                    &completion,
                ],
            )
            .await
            .map_err(failed)?;
        if kept == 0 {
            continue;
        }
        let key = &answered.usage;
        let day = i32::try_from(key.day).unwrap_or(i32::MAX);
        let insert = "INSERT INTO oml_usage VALUES ($1, $2, $3, 1, $4, $5, $6::text::numeric) \
                      ON CONFLICT (day, model, licensee) DO UPDATE SET calls = oml_usage.calls + 1, \
                      prompt_tokens = oml_usage.prompt_tokens + excluded.prompt_tokens, \
                      completion_tokens = oml_usage.completion_tokens + excluded.completion_tokens, \
                      spent = oml_usage.spent + excluded.spent";
        transaction
            .execute(
                insert,
                &[
                    &day,
                    &&key.model[..],
                    &&key.licensee[..],
                    &prompt,
                    &completion,
                    &answered.price.to_string(),
                ],
            )
            .await
            .map_err(failed)?;
    }
    Ok(())
}

fn damaged(table: &'static str) -> StoreError {
    StoreError::Damaged { store: NAME, table }
}

/// The reason without the connection's parameters, which may hold a password.
fn failed(error: tokio_postgres::Error) -> StoreError {
    let reason = match error.as_db_error() {
        Some(fault) => format!("{}: {}", fault.code().code(), fault.message()),
        None => error.to_string(),
    };
    StoreError::Failed {
        store: NAME,
        reason,
    }
}
