//! A fork-join pool: one call hands out numbered tasks to all threads and returns when they are done.
//!
//! The calling thread works too. Tasks are claimed one by one from an atomic counter, so uneven tasks balance
//! themselves. Between calls the workers spin for a short while, since operations follow each other within
//! microseconds, and then sleep. A worker that wakes up after the last task was claimed does not join any more, and
//! nobody waits for it.
//!
//! The whole life of a job is one word, `generation | open | entered`: the caller opens a new generation, a worker
//! enters by a compare-and-swap that fails once the job is closed, and the caller closes and waits for `entered` to
//! fall to zero. So no worker can hold a job that is gone.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SPIN: Duration = Duration::from_micros(80);
const ENTERED: u64 = (1 << 16) - 1;
const OPEN: u64 = 1 << 16;
const GENERATION: u64 = 1 << 17;

thread_local! {
    /// True while this thread runs a task of any pool.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// Threads that run numbered tasks together.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held for the time of one job: calls from several threads take turns.
    turn: Mutex<()>,
}

struct Shared {
    state: AtomicU64,
    /// Written by the caller only while the state is closed and nobody has entered.
    job: UnsafeCell<Option<Job>>,
    next: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    sleepers: AtomicUsize,
    bed: Mutex<()>,
    bell: Condvar,
    stop: AtomicBool,
}

#[derive(Clone, Copy)]
struct Job {
    work: *const Work<'static>,
    tasks: usize,
}

// SAFETY: `job` is the only field that is not Sync by itself. It is written by the one caller that holds `turn`, while
// the state is closed with nobody entered, and read by workers only between entering and leaving; the release store
// that opens a generation and the acquire of entering order the two. The closure behind it is Sync.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing in it belongs to one thread.
unsafe impl Send for Shared {}

impl Pool {
    /// A pool of `threads` threads, the calling one included; zero counts as one.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            panic: Mutex::new(None),
            sleepers: AtomicUsize::new(0),
            bed: Mutex::new(()),
            bell: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        // Where the system gives fewer threads the pool is smaller, not broken: tasks are claimed, not assigned.
        let workers = (1..threads.clamp(1, ENTERED as usize))
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("kernel-{index}"))
                    .spawn(move || shared.serve())
                    .ok()
            })
            .collect();
        Pool {
            shared,
            workers,
            turn: Mutex::new(()),
        }
    }

    /// How many threads work on a job, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `work(0)`, …, `work(tasks - 1)`, each once, in any order, and returns when all are done.
    ///
    /// From inside a task (of any pool) it runs them on the current thread.
    ///
    /// # Panics
    /// With the payload of a task that panicked; tasks that had not started by then are dropped.
    pub fn run(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() || IN_TASK.get() {
            (0..tasks).for_each(work);
            return;
        }
        let turn = lock(&self.turn);
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased. Workers use the pointer only while they are entered, and this call does
        // not return (nor unwind) before the job is closed and all have left.
        let work: *const Work<'static> =
            unsafe { std::mem::transmute(std::ptr::from_ref::<Work<'_>>(work)) };
        let job = Job { work, tasks };
        // SAFETY: the state is closed and nobody is entered (end of the previous job), and `turn` keeps other callers out.
        unsafe { *shared.job.get() = Some(job) };
        shared.next.store(0, Ordering::Relaxed);
        let generation = (shared.state.load(Ordering::Relaxed) / GENERATION).wrapping_add(1);
        shared
            .state
            .store(generation.wrapping_mul(GENERATION) | OPEN, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            let bed = lock(&shared.bed);
            shared.bell.notify_all();
            drop(bed);
        }
        shared.work_on(job);
        shared.state.fetch_and(!OPEN, Ordering::AcqRel);
        let since = Instant::now();
        while shared.state.load(Ordering::Acquire) & ENTERED != 0 {
            if since.elapsed() < SPIN {
                std::hint::spin_loop()
            } else {
                std::thread::yield_now()
            }
        }
        let panic = lock(&shared.panic).take();
        drop(turn);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let bed = lock(&self.shared.bed);
        self.shared.bell.notify_all();
        drop(bed);
        for worker in self.workers.drain(..) {
            // A worker catches the panics of tasks, so joining cannot fail.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// The life of a worker.
    fn serve(&self) {
        let mut seen = 0;
        loop {
            let Some(generation) = self.wait(seen) else {
                return;
            };
            seen = generation;
            if self.enter(generation) {
                // SAFETY: between entering and leaving the job stays in place (see `Sync for Shared`).
                if let Some(job) = unsafe { *self.job.get() } {
                    self.work_on(job);
                }
                self.state.fetch_sub(1, Ordering::Release);
            }
        }
    }

    /// The next open generation after `seen`, or none when the pool is dropped.
    fn wait(&self, seen: u64) -> Option<u64> {
        let fresh = || {
            let state = self.state.load(Ordering::SeqCst);
            (state & OPEN != 0 && state / GENERATION != seen).then_some(state / GENERATION)
        };
        let since = Instant::now();
        while since.elapsed() < SPIN {
            if let Some(generation) = fresh() {
                return Some(generation);
            }
            std::hint::spin_loop();
        }
        let mut bed = lock(&self.bed);
        // Either the caller sees this sleeper and rings, or this thread sees the opened state: both are SeqCst.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let generation = loop {
            if self.stop.load(Ordering::SeqCst) {
                break None;
            }
            if let Some(generation) = fresh() {
                break Some(generation);
            }
            bed = self.bell.wait(bed).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        generation
    }

    fn enter(&self, generation: u64) -> bool {
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (state & OPEN != 0 && state / GENERATION == generation).then_some(state + 1)
            })
            .is_ok()
    }

    fn work_on(&self, job: Job) {
        IN_TASK.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the caller keeps the closure alive until everybody has left the job.
            let work = unsafe { &*job.work };
            loop {
                let task = self.next.fetch_add(1, Ordering::Relaxed);
                if task >= job.tasks {
                    break;
                }
                work(task);
            }
        }));
        IN_TASK.set(false);
        if let Err(payload) = result {
            self.next.store(job.tasks, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(payload);
        }
    }
}

/// No lock here guards data that a panic could leave half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
