//! The pool: every task once, panics, nesting, several callers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oml_kernels::Pool;

fn check(pool: &Pool, tasks: usize) {
    let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
    pool.run(tasks, &|task| {
        counts[task].fetch_add(1, Ordering::Relaxed);
    });
    assert!(
        counts
            .iter()
            .all(|count| count.load(Ordering::Relaxed) == 1),
        "{tasks} tasks"
    );
}

#[test]
fn every_task_runs_once() {
    for threads in [0, 1, 2, 3, 8] {
        let pool = Pool::new(threads);
        assert_eq!(pool.threads(), threads.max(1));
        for tasks in [0, 1, 2, 3, 7, 100, 1000] {
            check(&pool, tasks);
        }
    }
}

#[test]
fn many_short_jobs_with_and_without_sleep() {
    let pool = Pool::new(4);
    for round in 0..2000 {
        check(&pool, 5);
        if round % 200 == 0 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_lives() {
    let pool = Pool::new(3);
    for bad in [0, 13, 63] {
        let payload = catch_unwind(AssertUnwindSafe(|| {
            pool.run(64, &|task| {
                if task == bad {
                    std::panic::panic_any(format!("task {task}"));
                }
            });
        }))
        .expect_err("the task panics");
        assert_eq!(
            payload.downcast_ref::<String>(),
            Some(&format!("task {bad}"))
        );
        check(&pool, 64);
    }
}

#[test]
fn nested_runs_are_inline() {
    let pool = Pool::new(2);
    let total = AtomicUsize::new(0);
    pool.run(8, &|_| {
        let thread = std::thread::current().id();
        pool.run(8, &|_| {
            assert_eq!(std::thread::current().id(), thread);
            total.fetch_add(1, Ordering::Relaxed);
        });
    });
    assert_eq!(total.into_inner(), 64);
}

#[test]
fn several_callers_and_several_pools() {
    let shared = Pool::new(2);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let own = Pool::new(2);
                for _ in 0..200 {
                    check(&shared, 9);
                    check(&own, 9);
                }
            });
        }
    });
}
