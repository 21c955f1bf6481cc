//! The store of one gateway: a redb file with one writer, which commits whatever waits at once.
//!
//! Three tables hold what expires in one hour: `accepted-H` gives a permission's id its number, `calls-H` and `receipts-H` have under that
//! number the permission and the receipt. The same id has the same hour, so one table says whether it is new, and an hour is dropped as
//! a whole. Ids come in no order and numbers rise, so that what is long is written side by side, and only a few bytes of each call
//! go to a page of their own. While the writer waits for the disk, the next batch gathers, so a commit costs each caller about two waits
//! for the disk at most.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use oml_core::merkle::Hash;
use redb::backends::FileBackend;
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition, TableHandle as _,
    WriteTransaction,
};
use tokio::sync::{mpsc, oneshot};

use super::super::log::private;
use super::record::{call_from_bytes, call_to_bytes, receipt_from_bytes, receipt_to_bytes};
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
const CALLS: &str = "calls-";
const RECEIPTS: &str = "receipts-";

type Ids<'a> = TableDefinition<'a, &'static [u8; 32], u64>;
type Texts<'a> = TableDefinition<'a, u64, &'static [u8]>;

/// A redb file with its writer.
pub struct EmbeddedStore {
    database: Arc<Database>,
    /// Taken when the store is dropped, so that the writer ends.
    commands: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
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
        let failed = |error: redb::Error| StoreError::Failed {
            store: NAME,
            reason: format!("{}: {error}", path.display()),
        };
        let file = private().write(true).open(path);
        let file = file.map_err(|error| failed(error.into()))?;
        let backend = FileBackend::new(file).map_err(|error| failed(error.into()))?;
        let database = Database::builder().create_with_backend(backend);
        let database = Arc::new(database.map_err(|error| failed(error.into()))?);
        let (commands, waiting) = mpsc::channel(WAITING);
        let written = database.clone();
        let writer = thread::spawn(move || write(&written, waiting));
        Ok(Self {
            database,
            commands: Some(commands),
            writer: Some(writer),
        })
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
            let name = format!("{ACCEPTED}{hour}");
            let Some(ids) = there(transaction.open_table(Ids::new(&name)))? else {
                return Ok(None);
            };
            let Some(number) = ids.get(&permission).map_err(failed)? else {
                return Ok(None);
            };
            let number = number.value();
            let text = |prefix: &str| {
                let name = format!("{prefix}{hour}");
                let Some(table) = there(transaction.open_table(Texts::new(&name)))? else {
                    return Ok(None);
                };
                let text = table.get(number).map_err(failed)?;
                Ok::<_, StoreError>(text.map(|text| text.value().to_vec()))
            };
            let call = text(CALLS)?.ok_or(damaged("calls"))?;
            record(&call, text(RECEIPTS)?.as_deref()).map(Some)
        })
    }

    fn records(&self) -> Promise<'_, Vec<Record>> {
        self.read(|database| {
            let transaction = database.begin_read().map_err(failed)?;
            let tables = transaction.list_tables().map_err(failed)?;
            let mut hours: Vec<u64> = tables
                .filter_map(|table| table.name().strip_prefix(CALLS)?.parse().ok())
                .collect();
            hours.sort_unstable();
            let mut records = Vec::new();
            for hour in hours {
                let (calls, receipts) = (format!("{CALLS}{hour}"), format!("{RECEIPTS}{hour}"));
                let receipts = there(transaction.open_table(Texts::new(&receipts)))?;
                let Some(calls) = there(transaction.open_table(Texts::new(&calls)))? else {
                    continue;
                };
                for entry in calls.iter().map_err(failed)? {
                    let (number, call) = entry.map_err(failed)?;
                    let receipt = match &receipts {
                        Some(table) => table.get(number.value()).map_err(failed)?,
                        None => None,
                    };
                    let receipt = receipt.as_ref().map(|receipt| receipt.value());
                    records.push(record(call.value(), receipt)?);
                }
            }
            Ok(records)
        })
    }

    fn usage(&self) -> Promise<'_, Vec<(UsageKey, Usage)>> {
        self.read(|database| {
            let transaction = database.begin_read().map_err(failed)?;
            let Some(table) = there(transaction.open_table(USAGE))? else {
                return Ok(Vec::new());
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

/// A table that may not have been made yet.
fn there<T>(table: Result<T, redb::TableError>) -> Result<Option<T>, StoreError> {
    match table {
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        table => table.map(Some).map_err(failed),
    }
}

fn damaged(table: &'static str) -> StoreError {
    StoreError::Damaged { store: NAME, table }
}

fn record(call: &[u8], receipt: Option<&[u8]>) -> Result<Record, StoreError> {
    let (time, token) = call_from_bytes(call).ok_or(damaged("calls"))?;
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
                    let decided = tables.admit(&admission)?;
                    if let Some(Reply::Decision(decision, _)) = replies.last_mut() {
                        *decision = decided;
                    }
                }
                Command::Keep(answered, to) => {
                    replies.push(Reply::Done(to));
                    tables.keep(&answered)?;
                }
                Command::Forget(before, to) => {
                    replies.push(Reply::Done(to));
                    tables.forget(before)?;
                }
            }
        }
    }
    transaction.commit().map_err(failed)
}

/// The tables of one transaction; those of an hour are opened when they are needed.
struct Tables<'t> {
    transaction: &'t WriteTransaction,
    grants: Table<'t, &'static [u8; 32], &'static [u8; GrantState::BYTES]>,
    usage: Table<'t, &'static [u8; UsageKey::BYTES], &'static [u8; Usage::BYTES]>,
    hours: BTreeMap<u64, Hour<'t>>,
}

/// What expires in one hour.
struct Hour<'t> {
    accepted: Table<'t, &'static [u8; 32], u64>,
    calls: Table<'t, u64, &'static [u8]>,
    receipts: Table<'t, u64, &'static [u8]>,
    next: u64,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            transaction,
            grants: transaction.open_table(GRANTS).map_err(failed)?,
            usage: transaction.open_table(USAGE).map_err(failed)?,
            hours: BTreeMap::new(),
        })
    }

    fn hour(&mut self, expires: u64) -> Result<&mut Hour<'t>, StoreError> {
        let hour = expires / BUCKET;
        Ok(match self.hours.entry(hour) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => place.insert(Hour::open(self.transaction, hour)?),
        })
    }

    fn admit(&mut self, admission: &Admission) -> Result<Decision, StoreError> {
        let hour = self.hour(admission.expires)?;
        let known = hour.accepted.get(&admission.permission).map_err(failed)?;
        if known.is_some() {
            return Ok(Decision::Replayed);
        }
        drop(known);
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
        self.hour(admission.expires)?.accept(admission)?;
        Ok(Decision::Accepted)
    }

    fn keep(&mut self, answered: &Answered) -> Result<(), StoreError> {
        let hour = self.hour(answered.expires)?;
        let number = hour.accepted.get(&answered.permission).map_err(failed)?;
        // A permission of which the hour was dropped has no evidence window left.
        let Some(number) = number.map(|number| number.value()) else {
            return Ok(());
        };
        let value = receipt_to_bytes(answered.tokens, &answered.receipt);
        let before = hour.receipts.insert(number, value.as_slice());
        if before.map_err(failed)?.is_some() {
            return Ok(());
        }
        let key = answered.usage.to_bytes();
        let stored = self.usage.get(&key).map_err(failed)?;
        let mut sum = stored.map_or_else(Usage::default, |v| Usage::from_bytes(v.value()));
        sum.add(answered.tokens, answered.price);
        self.usage.insert(&key, &sum.to_bytes()).map_err(failed)?;
        Ok(())
    }

    /// Drops the hours whose last second is before `before`, and grants that ended by then.
    fn forget(&mut self, before: u64) -> Result<(), StoreError> {
        self.hours.clear();
        let tables = self.transaction.list_tables().map_err(failed)?;
        let hour = |name: &str| {
            let prefixes = [ACCEPTED, CALLS, RECEIPTS].iter();
            let digits = prefixes
                .filter_map(|prefix| name.strip_prefix(prefix))
                .next()?;
            digits.parse::<u64>().ok()
        };
        let old: Vec<(String, u64)> = tables
            .filter_map(|table| Some((table.name().to_owned(), hour(table.name())?)))
            .filter(|(_, hour)| (hour + 1) * BUCKET <= before)
            .collect();
        for (name, _) in old {
            let dropped = match name.starts_with(ACCEPTED) {
                true => self.transaction.delete_table(Ids::new(&name)),
                false => self.transaction.delete_table(Texts::new(&name)),
            };
            dropped.map_err(failed)?;
        }
        self.grants
            .retain(|_, state| GrantState::from_bytes(state).not_after >= before)
            .map_err(failed)
    }
}

impl<'t> Hour<'t> {
    fn open(transaction: &'t WriteTransaction, hour: u64) -> Result<Self, StoreError> {
        let text = |prefix: &str| {
            let name = format!("{prefix}{hour}");
            transaction.open_table(Texts::new(&name)).map_err(failed)
        };
        let name = format!("{ACCEPTED}{hour}");
        let (calls, receipts) = (text(CALLS)?, text(RECEIPTS)?);
        let last = calls.last().map_err(failed)?;
        let next = last.map_or(0, |(number, _)| number.value() + 1);
        Ok(Self {
            accepted: transaction.open_table(Ids::new(&name)).map_err(failed)?,
            calls,
            receipts,
            next,
        })
    }

    fn accept(&mut self, admission: &Admission) -> Result<(), StoreError> {
        self.accepted
            .insert(&admission.permission, self.next)
            .map_err(failed)?;
        let value = call_to_bytes(admission.time, &admission.token);
        self.calls
            .insert(self.next, value.as_slice())
            .map_err(failed)?;
        self.next += 1;
        Ok(())
    }
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Failed {
        store: NAME,
        reason: error.into().to_string(),
    }
}
