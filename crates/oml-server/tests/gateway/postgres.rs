//! The store that gateways share, on a real PostgreSQL: Debian's packages, or what `OML_TEST_POSTGRES` names.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use oml_server::gateway::{Decision, PostgresStore, ReplayStore, StoreError, StorePlace};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::server::*;
use super::stores;

/// A server of the tests' own, which ends with them.
struct Postgres {
    folder: TempDir,
    server: Child,
}

/// The folder with `initdb` and `postgres`.
fn programs() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("OML_TEST_POSTGRES") {
        return Some(PathBuf::from(named));
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    folders
        .filter(|folder| folder.join("initdb").exists())
        .max()
}

/// PostgreSQL does not run as root: there, as the user that its package makes.
fn command(program: &Path) -> Command {
    let id = Command::new("id").arg("-u").output().unwrap().stdout;
    if id.trim_ascii() != b"0" {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    command.arg(program);
    command
}

impl Postgres {
    /// Starts a server that listens on a socket in its own folder; `None` where no PostgreSQL is installed.
    fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!(
                "skipped: no PostgreSQL; install the package postgresql, or name a folder with OML_TEST_POSTGRES"
            );
            return None;
        };
        // Short: a socket's path has at most 107 bytes.
        let folder = tempfile::Builder::new()
            .prefix("pg")
            .tempdir_in("/tmp")
            .unwrap();
        let owned = command(Path::new("true")).status().unwrap().success();
        assert!(owned, "expected to become the user postgres");
        Command::new("chmod")
            .arg("777")
            .arg(folder.path())
            .status()
            .unwrap();
        let data = folder.path().join("data");
        let made = command(&programs.join("initdb"))
            .args([
                "--auth=trust",
                "--username=oml",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(&data)
            .current_dir("/tmp")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        let server = command(&programs.join("postgres"))
            .args(["-c", "listen_addresses=", "-c", "max_connections=50", "-k"])
            .arg(folder.path())
            .arg("-D")
            .arg(&data)
            .current_dir("/tmp")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let postgres = Self { folder, server };
        let deadline = Instant::now() + Duration::from_secs(60);
        let runtime = Runtime::new().unwrap();
        while runtime
            .block_on(PostgresStore::connect(&postgres.url()))
            .is_err()
        {
            assert!(Instant::now() < deadline, "PostgreSQL does not start");
            std::thread::sleep(Duration::from_millis(200));
        }
        Some(postgres)
    }

    fn url(&self) -> String {
        format!(
            "host={} user=oml dbname=postgres",
            self.folder.path().display()
        )
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An orderly end, so that no process stays behind.
        let _ = Command::new("kill")
            .args(["-INT", &self.server.id().to_string()])
            .status();
        let _ = self.server.wait();
        let data = self.folder.path().join("data");
        let _ = command(Path::new("rm")).arg("-rf").arg(data).status();
    }
}

#[test]
fn the_database_keeps_its_promises() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    Runtime::new().unwrap().block_on(async {
        let store = PostgresStore::connect(&postgres.url()).await.unwrap();
        stores::keeps_its_promises(&store).await;
    });
}

#[test]
fn two_gateways_accept_a_permission_once() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let start = || {
        Server::start(Setup {
            store: Some(StorePlace::Postgres(postgres.url())),
            ..Setup::default()
        })
    };
    let servers = [start(), start()];
    let body = json!({"model": "m", "prompt": "one two"});
    for _ in 0..10 {
        let token = issued(permission());
        let answered = Mutex::new(0);
        std::thread::scope(|scope| {
            for i in 0..8 {
                let (server, answered, token, body) = (&servers[i % 2], &answered, &token, &body);
                scope.spawn(move || {
                    let answer = server.ask(Some(token), TEXT, body);
                    match answer.status {
                        200 => *answered.lock().unwrap() += 1,
                        _ => assert_eq!(answer.code(), "replayed"),
                    }
                });
            }
        });
        assert_eq!(answered.into_inner().unwrap(), 1);
    }
    // One gateway finds what the other answered, and a grant's calls are counted together.
    let token = issued(permission());
    assert_eq!(servers[0].ask(Some(&token), TEXT, &body).status, 200);
    let receipt = post(
        &format!("{}/v1/receipts", servers[1].url),
        Some(&token),
        b"",
    );
    assert_eq!(receipt.status, 200);
    let grant = oml_core::permission::Grant {
        max_calls: 10,
        ..grant()
    };
    let chain = chain(grant, open_scope());
    let answered = Mutex::new(0);
    std::thread::scope(|scope| {
        for i in 0..30 {
            let (server, answered, body, chain) = (&servers[i % 2], &answered, &body, &chain);
            scope.spawn(move || {
                let token = under(chain, permission());
                let answer = server.ask(Some(&token), TEXT, body);
                match answer.status {
                    200 => *answered.lock().unwrap() += 1,
                    _ => assert_eq!(answer.code(), "over_calls"),
                }
            });
        }
    });
    assert_eq!(answered.into_inner().unwrap(), 10);
}

#[test]
fn two_writers_never_wait_in_a_circle() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    Runtime::new().unwrap().block_on(async {
        let one: Arc<dyn ReplayStore> =
            Arc::new(PostgresStore::connect(&postgres.url()).await.unwrap());
        let two: Arc<dyn ReplayStore> =
            Arc::new(PostgresStore::connect(&postgres.url()).await.unwrap());
        let mut accepted = 0;
        for round in 0..10 {
            let many = (0..200).map(|n| {
                let store = if n % 2 == 0 { one.clone() } else { two.clone() };
                let number = round * 1000 + n / 2;
                async move {
                    let budgets = vec![
                        stores::budget(1, 1000),
                        stores::budget((number % 7) as u8 + 2, 1000),
                    ];
                    let admission = oml_server::gateway::Admission {
                        budgets,
                        ..stores::admission(number)
                    };
                    store.admit(admission).await.unwrap()
                }
            });
            let decided = futures_util::future::join_all(many).await;
            accepted += decided.iter().filter(|d| **d == Decision::Accepted).count();
        }
        assert_eq!(accepted, 1000);
    });
}

#[test]
fn databases_that_are_none() {
    let runtime = Runtime::new().unwrap();
    let connect = |url: &str| runtime.block_on(PostgresStore::connect(url)).err().unwrap();
    let password = "postgres://oml:hunter2@127.0.0.1:9/x?connect_timeout=1";
    let error = connect(password).to_string();
    assert!(!error.contains("hunter2"), "{error}");
    let error = connect("postgres://db.example/x").to_string();
    assert!(error.contains("sslmode=disable"), "{error}");
    assert!(matches!(
        connect("postgres://[x"),
        StoreError::Failed { .. }
    ));
}
