//! What was sold to whom: counts by customer and day, spending, and answers by their idempotency keys, in a redb file.
//!
//! One transaction decides, counts and keeps the answer, on disk before it leaves: whoever asks again with the same key gets the same
//! permissions and is charged once, whatever broke in between.

use std::path::Path;

use oml_core::merkle::{Hash, keccak256};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::gateway::StoreError;

const NAME: &str = "issuer's book";
/// Seconds for which an answer can be had again.
const KEPT: u64 = 86_400;
const DAY: u64 = 86_400;
/// (customer, day) to permissions.
const DAYS: TableDefinition<'_, (&[u8; 32], u64), u64> = TableDefinition::new("days");
/// Customer to what it spent in all.
const SPENT: TableDefinition<'_, &[u8; 32], u128> = TableDefinition::new("spent");
/// (customer, idempotency key) to (time, hash of the request, answer).
type Answer<'a> = (u64, &'a [u8; 32], &'a [u8]);
const ANSWERS: TableDefinition<'_, (&[u8; 32], &[u8; 32]), Answer<'_>> =
    TableDefinition::new("answers");

/// What is bought.
pub(super) struct Purchase<'a> {
    /// The customer's name.
    pub(super) customer: &'a str,
    /// Seconds since 1970.
    pub(super) now: u64,
    /// How many permissions.
    pub(super) calls: u64,
    /// What they cost.
    pub(super) price: u128,
    /// What the customer may have in a day, and has paid.
    pub(super) calls_per_day: Option<u64>,
    pub(super) credit: u128,
    /// The idempotency key, and the hash of the request.
    pub(super) key: Option<(&'a str, Hash)>,
    /// The answer, if it is sold.
    pub(super) answer: &'a [u8],
}

/// What became of a purchase.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sale {
    /// Sold now.
    New,
    /// Sold before, with this answer.
    Before(Vec<u8>),
    /// The key was used for another request.
    Mismatch,
    /// So many are left today.
    OverQuota(u64),
    /// So much credit is left.
    NoCredit(u128),
}

/// What is left to a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) calls_today: u64,
    pub(super) spent: u128,
}

pub(super) struct Book(Database);

impl Book {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path).map_err(|error| StoreError::Failed {
            store: NAME,
            reason: format!("{}: {error}", path.display()),
        })?;
        let transaction = database.begin_write().map_err(failed)?;
        transaction.open_table(DAYS).map_err(failed)?;
        transaction.open_table(SPENT).map_err(failed)?;
        transaction.open_table(ANSWERS).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(Self(database))
    }

    pub(super) fn account(&self, customer: &str, now: u64) -> Result<Account, StoreError> {
        let transaction = self.0.begin_read().map_err(failed)?;
        let customer = keccak256(&[customer.as_bytes()]);
        let days = transaction.open_table(DAYS).map_err(failed)?;
        let spent = transaction.open_table(SPENT).map_err(failed)?;
        let calls = days.get((&customer, now / DAY)).map_err(failed)?;
        let spent = spent.get(&customer).map_err(failed)?;
        Ok(Account {
            calls_today: calls.map_or(0, |calls| calls.value()),
            spent: spent.map_or(0, |spent| spent.value()),
        })
    }

    pub(super) fn sell(&self, purchase: &Purchase<'_>) -> Result<Sale, StoreError> {
        let transaction = self.0.begin_write().map_err(failed)?;
        let customer = keccak256(&[purchase.customer.as_bytes()]);
        let key = purchase
            .key
            .map(|(key, body)| (keccak256(&[key.as_bytes()]), body));
        {
            let mut answers = transaction.open_table(ANSWERS).map_err(failed)?;
            if let Some((key, body)) = &key
                && let Some(found) = answers.get((&customer, key)).map_err(failed)?
            {
                let (time, asked, answer) = found.value();
                if purchase.now.saturating_sub(time) <= KEPT {
                    return Ok(match asked == body {
                        true => Sale::Before(answer.to_vec()),
                        false => Sale::Mismatch,
                    });
                }
            }
            let mut days = transaction.open_table(DAYS).map_err(failed)?;
            let today = purchase.now / DAY;
            let used = days.get((&customer, today)).map_err(failed)?;
            let used = used.map(|used| used.value());
            let used_now = used.unwrap_or(0).saturating_add(purchase.calls);
            if let Some(limit) = purchase.calls_per_day.filter(|limit| used_now > *limit) {
                return Ok(Sale::OverQuota(limit.saturating_sub(used.unwrap_or(0))));
            }
            let mut sums = transaction.open_table(SPENT).map_err(failed)?;
            let spent = sums.get(&customer).map_err(failed)?;
            let spent = spent.map_or(0, |spent| spent.value());
            let spent_now = spent.saturating_add(purchase.price);
            if spent_now > purchase.credit {
                return Ok(Sale::NoCredit(purchase.credit.saturating_sub(spent)));
            }
            days.insert((&customer, today), used_now).map_err(failed)?;
            sums.insert(&customer, spent_now).map_err(failed)?;
            if let Some((key, body)) = &key {
                let answer = (purchase.now, body, purchase.answer);
                answers.insert((&customer, key), answer).map_err(failed)?;
            }
            // Once a day, with its first sale: what nobody can ask for again goes.
            if used.is_none() {
                answers
                    .retain(|_, (time, _, _)| purchase.now.saturating_sub(time) <= KEPT)
                    .map_err(failed)?;
                days.retain(|(_, day), _| day + 2 > today).map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)?;
        Ok(Sale::New)
    }
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Failed {
        store: NAME,
        reason: error.into().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purchase<'a>(key: Option<(&'a str, Hash)>, now: u64) -> Purchase<'a> {
        Purchase {
            customer: "c",
            now,
            calls: 3,
            price: 10,
            calls_per_day: Some(6),
            credit: 25,
            key,
            answer: b"answer",
        }
    }

    #[test]
    fn a_key_is_charged_once_and_limits_hold() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("b.redb");
        let book = Book::open(&path).expect("a book");
        let sell = |book: &Book, key, now| book.sell(&purchase(key, now)).expect("a sale");
        let first = Some(("k", [1; 32]));
        assert_eq!(sell(&book, first, 100), Sale::New);
        drop(book);
        let book = Book::open(&path).expect("a book");
        assert_eq!(sell(&book, first, 101), Sale::Before(b"answer".to_vec()));
        assert_eq!(sell(&book, Some(("k", [2; 32])), 101), Sale::Mismatch);
        assert_eq!(sell(&book, None, 102), Sale::New);
        assert_eq!(sell(&book, None, 103), Sale::OverQuota(0));
        // The next day has calls, but the credit is used.
        assert_eq!(sell(&book, None, DAY + 1), Sale::NoCredit(5));
        let account = book.account("c", 103).expect("an account");
        assert_eq!((account.calls_today, account.spent), (6, 20));
        // After a day the key is free again.
        let free = Purchase {
            price: 0,
            ..purchase(Some(("k", [2; 32])), 2 * DAY)
        };
        assert_eq!(book.sell(&free).expect("a sale"), Sale::New);
    }
}
