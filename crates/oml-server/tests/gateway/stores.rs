//! What the stores promise: decided once, all or nothing, on disk when it is said, and forgotten in time.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use oml_server::gateway::{
    Admission, Answered, Budget, Decision, EmbeddedStore, ReplayStore, StoreError, UsageKey,
};
use tokio::runtime::Runtime;

pub(super) fn admission(number: u64) -> Admission {
    let mut permission = [0; 32];
    permission[..8].copy_from_slice(&number.to_be_bytes());
    // The bytes that tables are sorted by must not be the order of arrival.
    permission[8] = (number % 251) as u8;
    permission.rotate_right((number % 32) as usize);
    Admission {
        permission,
        expires: 7200 + number % 3,
        time: 7000,
        sequence: None,
        budgets: Vec::new(),
        promised: 0,
        price: 0,
        token: format!("token {number}"),
    }
}

pub(super) fn budget(grant: u8, max_calls: u64) -> Budget {
    Budget {
        grant: [grant; 32],
        max_calls,
        max_spend: u128::MAX,
        not_after: 9000,
    }
}

pub(super) fn answered(admission: &Admission) -> Answered {
    Answered {
        permission: admission.permission,
        expires: admission.expires,
        usage: UsageKey {
            day: 1,
            model: [1; 32],
            licensee: [2; 20],
        },
        tokens: [3, 4],
        price: 5,
        receipt: format!("receipt of {}", admission.token),
    }
}

/// What every store does, on one that is empty.
pub(super) async fn keeps_its_promises(store: &dyn ReplayStore) {
    let first = admission(1);
    assert_eq!(
        store.admit(first.clone()).await.unwrap(),
        Decision::Accepted
    );
    assert_eq!(
        store.admit(first.clone()).await.unwrap(),
        Decision::Replayed
    );
    let found = store
        .find(first.permission, first.expires)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((found.token.as_str(), found.receipt), ("token 1", None));
    assert_eq!(store.find([9; 32], first.expires).await.unwrap(), None);
    // A receipt that is kept twice counts once.
    for _ in 0..2 {
        store.keep(answered(&first)).await.unwrap();
    }
    let found = store
        .find(first.permission, first.expires)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        found.receipt,
        Some(("receipt of token 1".to_owned(), [3, 4]))
    );
    let usage = store.usage().await.unwrap();
    assert_eq!((usage.len(), usage[0].1.calls, usage[0].1.spent), (1, 1, 5));

    // Two grants: where the inner one is used up, the outer one is not charged.
    let both = |number| Admission {
        budgets: vec![budget(1, 3), budget(2, 2)],
        ..admission(number)
    };
    for number in [10, 11] {
        assert_eq!(store.admit(both(number)).await.unwrap(), Decision::Accepted);
    }
    assert_eq!(store.admit(both(12)).await.unwrap(), Decision::CallsSpent);
    let outer = |number| Admission {
        budgets: vec![budget(1, 3)],
        ..admission(number)
    };
    assert_eq!(store.admit(outer(13)).await.unwrap(), Decision::Accepted);
    assert_eq!(store.admit(outer(14)).await.unwrap(), Decision::CallsSpent);
    // What was refused was not used.
    let free = Admission {
        budgets: Vec::new(),
        ..both(12)
    };
    assert_eq!(store.admit(free).await.unwrap(), Decision::Accepted);

    // Many at once, each twice, in one batch or several.
    let many = (100..200)
        .chain(100..200)
        .map(|n| store.admit(admission(n)));
    let decided = futures_util::future::join_all(many).await;
    let accepted = decided
        .iter()
        .filter(|d| matches!(d, Ok(Decision::Accepted)));
    assert_eq!(accepted.count(), 100);
    // One grant under load lets no call too many through.
    let many = (200..300).map(|n| {
        store.admit(Admission {
            budgets: vec![budget(3, 30)],
            ..admission(n)
        })
    });
    let decided = futures_util::future::join_all(many).await;
    let accepted = decided
        .iter()
        .filter(|d| matches!(d, Ok(Decision::Accepted)));
    assert_eq!(accepted.count(), 30);

    assert_eq!(
        store.records().await.unwrap().len(),
        1 + 2 + 1 + 1 + 100 + 30
    );
    store.forget(7300, 7300).await.unwrap();
    assert_eq!(
        store.admit(first.clone()).await.unwrap(),
        Decision::Replayed
    );
    store.forget(20_000, 100).await.unwrap();
    assert_eq!(store.records().await.unwrap().len(), 0);
    assert_eq!(store.usage().await.unwrap().len(), 1);
    // The grants' counters went with them; nothing of that time can be shown any more.
    assert_eq!(store.admit(outer(14)).await.unwrap(), Decision::Accepted);
}

#[test]
fn the_file_keeps_its_promises() {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&folder.path().join("s.redb")).unwrap();
    Runtime::new().unwrap().block_on(keeps_its_promises(&store));
}

#[test]
fn a_file_has_one_owner_and_must_be_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.redb");
    let _open = EmbeddedStore::open(&path).unwrap();
    assert!(matches!(
        EmbeddedStore::open(&path),
        Err(StoreError::Failed { .. })
    ));
    let other = folder.path().join("other");
    std::fs::write(&other, vec![7; 10_000]).unwrap();
    assert!(matches!(
        EmbeddedStore::open(&other),
        Err(StoreError::Failed { .. })
    ));
    assert_eq!(std::fs::read(&other).unwrap(), vec![7; 10_000]);
}

const CHILD: &str = "OML_TEST_STORE_CHILD";

/// Not a test of its own: what `kill_9_under_load` starts. It admits the numbers that it reads, many at once, and says what was decided
/// when it was told that it is on disk.
#[test]
fn a_child_that_will_be_killed() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let store: Arc<dyn ReplayStore> = Arc::new(EmbeddedStore::open(Path::new(&path)).unwrap());
    Runtime::new().unwrap().block_on(async {
        let (sender, mut said) = tokio::sync::mpsc::unbounded_channel::<String>();
        let writer = tokio::task::spawn_blocking(move || {
            let mut out = std::io::stdout();
            while let Some(line) = said.blocking_recv() {
                writeln!(out, "{line}").unwrap();
                out.flush().unwrap();
            }
        });
        let mut tasks = Vec::new();
        for line in std::io::stdin().lock().lines() {
            let number: u64 = line.unwrap().parse().unwrap();
            let (store, sender) = (store.clone(), sender.clone());
            tasks.push(tokio::spawn(async move {
                let admission = admission(number);
                let decided = store.admit(admission.clone()).await.unwrap();
                sender.send(format!("child {number} {decided:?}")).unwrap();
                if decided == Decision::Accepted {
                    store.keep(answered(&admission)).await.unwrap();
                    sender.send(format!("child {number} Kept")).unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        drop(sender);
        writer.await.unwrap();
    });
}

fn child(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "stores::a_child_that_will_be_killed",
            "--nocapture",
        ])
        .env(CHILD, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn kill_9_under_load() {
    const ROUNDS: u64 = 25;
    const NUMBERS: u64 = 2000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.redb");
    let (mut accepted, mut kept) = (HashSet::new(), HashSet::new());
    for round in 0..ROUNDS {
        let mut child = child(&path);
        let mut input = child.stdin.take().unwrap();
        let feeding = std::thread::spawn(move || {
            // Old numbers too: what was accepted before a kill must not be accepted after it.
            for number in (0..NUMBERS).filter(|n| n % ROUNDS <= round) {
                if writeln!(input, "{number}").is_err() {
                    return;
                }
            }
            // Nothing more: the child goes on until it is killed.
            std::thread::sleep(std::time::Duration::from_millis(200));
        });
        let mut heard = 0;
        // Killed at another place every time; the last child may end.
        let until = if round + 1 == ROUNDS {
            u64::MAX
        } else {
            37 * round + 11
        };
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some(said) = line.strip_prefix("child ") else {
                continue;
            };
            let (number, said) = said.split_once(' ').unwrap();
            let number: u64 = number.parse().unwrap();
            match said {
                "Accepted" => assert!(accepted.insert(number), "{number} was accepted twice"),
                "Kept" => assert!(kept.insert(number)),
                "Replayed" => {}
                other => panic!("{other}"),
            }
            heard += 1;
            if heard == until {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        feeding.join().unwrap();
    }
    let store = EmbeddedStore::open(&path).unwrap();
    Runtime::new().unwrap().block_on(async {
        for number in 0..NUMBERS {
            let admission = admission(number);
            let found = store
                .find(admission.permission, admission.expires)
                .await
                .unwrap();
            let found = found.unwrap_or_else(|| panic!("{number} was lost"));
            if kept.contains(&number) {
                assert!(found.receipt.is_some(), "the receipt of {number} was lost");
            }
        }
    });
    // Some of the numbers that were accepted on disk were not heard of before a kill; none of them was accepted again.
    assert!(accepted.len() > NUMBERS as usize / 2);
}
