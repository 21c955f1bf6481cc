//! The store of one gateway: a redb file with one writer, which commits whatever waits at once.
//!
//! Permissions and receipts lie in tables by the hour in which the permission expires (`accepted-H`, `receipts-H`). The same id has the
//! same hour, so one table says whether it is new, and an hour is dropped as a whole. While the writer waits for the disk, the next
//! batch gathers, so a commit costs each caller about two waits for the disk at most.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use oml_core::merkle::Hash;
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition, TableHandle as _,
    WriteTransaction,
};
use tokio::sync::{mpsc, oneshot};

use super::record::{accepted_from_bytes, accepted_to_bytes, receipt_from_bytes, receipt_to_bytes};
use super::{
    Admission, Answered, BUCKET, Decision, GrantState, Promise, Record, ReplayStore, StoreError,
    Usage, UsageKey,
};

/// What waits for the writer at most.
const WAITING: usize = 16_384;
/// What is committed at once at most.
const BATCH: usize = 4_096;
const NAME: &str = "replay store";
const GRANTS: TableDefinition<'_, &[u8; 32], &[u8; GrantState::BYTES]> =
    TableDefinition::new("grants");
const USAGE: TableDefinition<'_, &[u8; UsageKey::BYTES], &[u8; Usage::BYTES]> =
    TableDefinition::new("usage");
const ACCEPTED: &str = "accepted-";
const RECEIPTS: &str = "receipts-";

type Bucket<'a> = TableDefinition<'a, &'static [u8; 32], &'static [u8]>;

/// A redb file with its writer.
pub struct EmbeddedStore {
    database: Arc<Database>,
    /// Taken when the store is dropped, so that the writer ends.
    commands: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Drop for EmbeddedStore {
    /// Waits for the last batch: afterwards the file is free for another.
    fn drop(&mut self) {
        self.commands = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has lost nothing that was said to be on disk.
            let _ = writer.join();
        }
    }
}

enum Command {
    Admit(Admission, oneshot::Sender<Result<Decision, StoreError>>),
    Keep(Answered, oneshot::Sender<Result<(), StoreError>>),
    Forget(u64, oneshot::Sender<Result<(), StoreError>>),
}

/// An answer that is given when its batch is on disk.
enum Reply {
    Decision(Decision, oneshot::Sender<Result<Decision, StoreError>>),
    Done(oneshot::Sender<Result<(), StoreError>>),
}

impl EmbeddedStore {
    /// Opens or makes the file; another process that has it open keeps it.
    ///
    /// # Errors
    /// When the file is not such a store, is in use, or cannot be written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |error: redb::DatabaseError| StoreError::Failed {
            store: NAME,
            reason: format!("{}: {error}", path.display()),
        };
        let database = Arc::new(Database::create(path).map_err(failed)?);
        let (commands, waiting) = mpsc::channel(WAITING);
        let written = database.clone();
        let writer = thread::spawn(move || write(&written, waiting));
        Ok(Self {
            database,
            commands: Some(commands),
            writer: Some(writer),
            path: path.to_owned(),
        })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn send<T: Send + 'static>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Command,
    ) -> Promise<'_, T> {
        let (sender, answer) = oneshot::channel();
        let sent = match &self.commands {
            None => Err(StoreError::Closed),
            Some(commands) => commands
                .try_send(command(sender))
                .map_err(|error| match error {
                    mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
                    mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
                }),
        };
        Box::pin(async move {
            sent?;
            answer.await.map_err(|_| StoreError::Closed)?
        })
    }

    /// Reads away from the threads that answer.
    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Promise<'_, T> {
        let database = self.database.clone();
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&database)).await;
            done.map_err(|_| StoreError::Closed)?
        })
    }
}

impl ReplayStore for EmbeddedStore {
    fn admit(&self, admission: Admission) -> Promise<'_, Decision> {
        self.send(|sender| Command::Admit(admission, sender))
    }

    fn keep(&self, answered: Answered) -> Promise<'_, ()> {
        self.send(|sender| Command::Keep(answered, sender))
    }

    fn forget(&self, now: u64, window: u64) -> Promise<'_, ()> {
        self.send(|sender| Command::Forget(now.saturating_sub(window), sender))
    }

    fn find(&self, permission: Hash, expires: u64) -> Promise<'_, Option<Record>> {
        self.read(move |database| {
            let transaction = database.begin_read().map_err(failed)?;
            let hour = expires / BUCKET;
            let stored = |prefix: &str| {
                let name = format!("{prefix}{hour}");
                let table = match transaction.open_table(Bucket::new(&name)) {
                    Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
                    table => table.map_err(failed)?,
                };
                let value = table.get(&permission).map_err(failed)?;
                Ok(value.map(|value| value.value().to_vec()))
            };
            let Some(accepted) = stored(ACCEPTED)? else {
                return Ok(None);
            };
            record(&accepted, stored(RECEIPTS)?.as_deref()).map(Some)
        })
    }

    fn records(&self) -> Promise<'_, Vec<Record>> {
        self.read(|database| {
            let transaction = database.begin_read().map_err(failed)?;
            let tables = transaction.list_tables().map_err(failed)?;
            let mut hours: Vec<u64> = tables
                .filter_map(|table| table.name().strip_prefix(ACCEPTED)?.parse().ok())
                .collect();
            hours.sort_unstable();
            let mut records = Vec::new();
            for hour in hours {
                let (accepted, receipts) =
                    (format!("{ACCEPTED}{hour}"), format!("{RECEIPTS}{hour}"));
                let accepted = transaction
                    .open_table(Bucket::new(&accepted))
                    .map_err(failed)?;
                let receipts = match transaction.open_table(Bucket::new(&receipts)) {
                    Err(redb::TableError::TableDoesNotExist(_)) => None,
                    table => Some(table.map_err(failed)?),
                };
                for entry in accepted.iter().map_err(failed)? {
                    let (id, value) = entry.map_err(failed)?;
                    let receipt = match &receipts {
                        Some(table) => table.get(id.value()).map_err(failed)?,
                        None => None,
                    };
                    let receipt = receipt.as_ref().map(|value| value.value());
                    records.push(record(value.value(), receipt)?);
                }
            }
            Ok(records)
        })
    }

    fn usage(&self) -> Promise<'_, Vec<(UsageKey, Usage)>> {
        self.read(|database| {
            let transaction = database.begin_read().map_err(failed)?;
            let table = match transaction.open_table(USAGE) {
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table.map_err(failed)?,
            };
            let mut sums = Vec::new();
            for entry in table.iter().map_err(failed)? {
                let (key, sum) = entry.map_err(failed)?;
                sums.push((
                    UsageKey::from_bytes(key.value()),
                    Usage::from_bytes(sum.value()),
                ));
            }
            Ok(sums)
        })
    }
}

fn record(accepted: &[u8], receipt: Option<&[u8]>) -> Result<Record, StoreError> {
    let damaged = |table| StoreError::Damaged { store: NAME, table };
    let (time, token) = accepted_from_bytes(accepted).ok_or(damaged("accepted"))?;
    let receipt = receipt
        .map(|bytes| receipt_from_bytes(bytes).ok_or(damaged("receipts")))
        .transpose()?;
    Ok(Record {
        time,
        token,
        receipt,
    })
}

/// Commits batch after batch until nobody can send any more.
fn write(database: &Database, mut waiting: mpsc::Receiver<Command>) {
    let mut batch = Vec::new();
    while waiting.blocking_recv_many(&mut batch, BATCH) > 0 {
        let mut replies = Vec::with_capacity(batch.len());
        let committed = commit(database, batch.drain(..), &mut replies);
        for reply in replies {
            // Whoever asked may have gone; what was written stays.
            let _ = match (&committed, reply) {
                (Ok(()), Reply::Decision(decision, to)) => to.send(Ok(decision)).is_ok(),
                (Ok(()), Reply::Done(to)) => to.send(Ok(())).is_ok(),
                (Err(error), Reply::Decision(_, to)) => to.send(Err(error.clone())).is_ok(),
                (Err(error), Reply::Done(to)) => to.send(Err(error.clone())).is_ok(),
            };
        }
    }
}

fn commit(
    database: &Database,
    commands: impl Iterator<Item = Command>,
    replies: &mut Vec<Reply>,
) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(failed)?;
    {
        let mut tables = Tables::open(&transaction)?;
        for command in commands {
            match command {
                Command::Admit(admission, to) => {
                    // The reply is there before the work, so that an error reaches everyone of the batch.
                    replies.push(Reply::Decision(Decision::Replayed, to));
                    let decided = tables.admit(&transaction, &admission)?;
                    if let Some(Reply::Decision(decision, _)) = replies.last_mut() {
                        *decision = decided;
                    }
                }
                Command::Keep(answered, to) => {
                    replies.push(Reply::Done(to));
                    tables.keep(&transaction, &answered)?;
                }
                Command::Forget(before, to) => {
                    replies.push(Reply::Done(to));
                    tables.forget(&transaction, before)?;
                }
            }
        }
    }
    transaction.commit().map_err(failed)
}

/// The tables of one transaction; buckets are opened when they are needed.
struct Tables<'t> {
    grants: Table<'t, &'static [u8; 32], &'static [u8; GrantState::BYTES]>,
    usage: Table<'t, &'static [u8; UsageKey::BYTES], &'static [u8; Usage::BYTES]>,
    buckets: Vec<(String, Table<'t, &'static [u8; 32], &'static [u8]>)>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            grants: transaction.open_table(GRANTS).map_err(failed)?,
            usage: transaction.open_table(USAGE).map_err(failed)?,
            buckets: Vec::new(),
        })
    }

    fn bucket(
        &mut self,
        transaction: &'t WriteTransaction,
        prefix: &str,
        expires: u64,
    ) -> Result<&mut Table<'t, &'static [u8; 32], &'static [u8]>, StoreError> {
        let name = format!("{prefix}{}", expires / BUCKET);
        let open = self.buckets.iter().position(|(open, _)| *open == name);
        let at = match open {
            Some(at) => at,
            None => {
                let table = transaction.open_table(Bucket::new(&name)).map_err(failed)?;
                self.buckets.push((name, table));
                self.buckets.len() - 1
            }
        };
        Ok(&mut self.buckets[at].1)
    }

    fn admit(
        &mut self,
        transaction: &'t WriteTransaction,
        admission: &Admission,
    ) -> Result<Decision, StoreError> {
        let bucket = self.bucket(transaction, ACCEPTED, admission.expires)?;
        if bucket.get(&admission.permission).map_err(failed)?.is_some() {
            return Ok(Decision::Replayed);
        }
        let mut states = Vec::with_capacity(admission.budgets.len());
        let last = admission.budgets.len().wrapping_sub(1);
        for (i, budget) in admission.budgets.iter().enumerate() {
            let stored = self.grants.get(&budget.grant).map_err(failed)?;
            let mut state =
                stored.map_or_else(GrantState::default, |v| GrantState::from_bytes(v.value()));
            if let Err(decision) = state.admit(admission, budget, i == last) {
                return Ok(decision);
            }
            states.push((budget.grant, state));
        }
        for (grant, state) in states {
            self.grants
                .insert(&grant, &state.to_bytes())
                .map_err(failed)?;
        }
        let value = accepted_to_bytes(admission.time, &admission.token);
        self.bucket(transaction, ACCEPTED, admission.expires)?
            .insert(&admission.permission, value.as_slice())
            .map_err(failed)?;
        Ok(Decision::Accepted)
    }

    fn keep(
        &mut self,
        transaction: &'t WriteTransaction,
        answered: &Answered,
    ) -> Result<(), StoreError> {
        let value = receipt_to_bytes(answered.tokens, &answered.receipt);
        let before = self
            .bucket(transaction, RECEIPTS, answered.expires)?
            .insert(&answered.permission, value.as_slice())
            .map_err(failed)?
            .is_some();
        if before {
            return Ok(());
        }
        let key = answered.usage.to_bytes();
        let stored = self.usage.get(&key).map_err(failed)?;
        let mut sum = stored.map_or_else(Usage::default, |v| Usage::from_bytes(v.value()));
        sum.add(answered.tokens, answered.price);
        self.usage.insert(&key, &sum.to_bytes()).map_err(failed)?;
        Ok(())
    }

    /// Drops the buckets whose last second is before `before`, and grants that ended by then.
    fn forget(&mut self, transaction: &'t WriteTransaction, before: u64) -> Result<(), StoreError> {
        self.buckets.clear();
        let tables = transaction.list_tables().map_err(failed)?;
        let old: Vec<String> = tables
            .map(|table| table.name().to_owned())
            .filter(|name| {
                let hour = name
                    .strip_prefix(ACCEPTED)
                    .or_else(|| name.strip_prefix(RECEIPTS));
                let hour = hour.and_then(|hour| hour.parse::<u64>().ok());
                hour.is_some_and(|hour| (hour + 1) * BUCKET <= before)
            })
            .collect();
        for name in old {
            transaction
                .delete_table(Bucket::new(&name))
                .map_err(failed)?;
        }
        self.grants
            .retain(|_, state| GrantState::from_bytes(state).not_after >= before)
            .map_err(failed)
    }
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Failed {
        store: NAME,
        reason: error.into().to_string(),
    }
}
