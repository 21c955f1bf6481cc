//! When a request may leave: spaced by the rate limit, and after a wait where it is sent again.
//!
//! ```text
//! slot  n:    max(now, slot n−1 + 60 s / requests per minute)
//! wait  k:    min(back-off · 2^(k−1), longest) · u,   u uniform in [1/2, 1)
//! named wait: min(Retry-After, longest), as seconds or as an HTTP date less the answer's own Date
//! ```
//!
//! Source: RFC 9110, sections 6.6.1 and 10.2.3; SplitMix64, doi:10.1145/2714064.2660195.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{EndpointError, EndpointOptions};

/// Longest sleep between two looks at the user's wish to stop.
const LOOK: Duration = Duration::from_millis(20);
/// Longest wait that can be asked for: the clock has an end.
const MAX_WAIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// SplitMix64's increment.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The waits of all requests of one client.
pub(super) struct Patience {
    backoff: Duration,
    longest: Duration,
    /// Time between two requests, and when the next may leave.
    pace: Option<(Duration, Mutex<Option<Instant>>)>,
    random: AtomicU64,
    stop: Arc<AtomicBool>,
}

impl Patience {
    pub(super) fn new(options: &EndpointOptions) -> Self {
        let space = |per_minute: NonZeroU32| Duration::from_secs(60) / per_minute.get();
        Self {
            backoff: options.backoff,
            longest: options.longest_wait.min(MAX_WAIT),
            pace: options
                .per_minute
                .map(|rate| (space(rate), Mutex::default())),
            random: AtomicU64::new(options.seed),
            stop: Arc::clone(&options.stop),
        }
    }

    /// Waits until the next request may leave.
    ///
    /// # Errors
    /// [`EndpointError::Stopped`].
    pub(super) fn turn(&self) -> Result<(), EndpointError> {
        let slot = self.pace.as_ref().map(|(space, next)| {
            let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let slot = next.map_or(now, |next| next.max(now));
            *next = Some(slot + *space);
            slot
        });
        self.sleep_until(slot.unwrap_or_else(Instant::now))
    }

    /// Waits before a request is sent again after its attempt number `attempt`, from one.
    ///
    /// # Errors
    /// [`EndpointError::Stopped`].
    pub(super) fn back_off(
        &self,
        attempt: u32,
        named: Option<Duration>,
    ) -> Result<(), EndpointError> {
        let wait = match named {
            Some(named) => named.min(self.longest),
            None => self.wait(attempt),
        };
        self.sleep_until(Instant::now() + wait)
    }

    fn wait(&self, attempt: u32) -> Duration {
        let doubled = 1_u32.checked_shl(attempt.saturating_sub(1));
        let wait = self.backoff.saturating_mul(doubled.unwrap_or(u32::MAX));
        wait.min(self.longest).mul_f64(0.5 + self.uniform() / 2.0)
    }

    /// A number in [0, 1); threads that draw at the same time get different ones.
    fn uniform(&self) -> f64 {
        let mut z = self
            .random
            .fetch_add(GAMMA, Ordering::Relaxed)
            .wrapping_add(GAMMA);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) as f64 / 2_f64.powi(64)
    }

    fn sleep_until(&self, time: Instant) -> Result<(), EndpointError> {
        loop {
            if self.stop.load(Ordering::SeqCst) {
                return Err(EndpointError::Stopped);
            }
            let left = time.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(LOOK));
        }
    }
}

/// The wait that an endpoint names: seconds, or a date, which is compared with the answer's own, so that no clock is read.
pub(super) fn retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value.trim()).ok()?;
    let now = httpdate::parse_http_date(date?.trim()).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(change: impl FnOnce(&mut EndpointOptions)) -> Patience {
        let mut options = EndpointOptions::new("", "");
        change(&mut options);
        Patience::new(&options)
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_never_the_same() {
        let patience = patience(|options| options.seed = 7);
        let mut seen = Vec::new();
        for (attempt, whole) in [(1, 1.0), (2, 2.0), (6, 32.0), (7, 60.0), (40, 60.0)] {
            for _ in 0..100 {
                let wait = patience.wait(attempt).as_secs_f64();
                assert!((whole / 2.0..whole).contains(&wait), "{attempt}: {wait}");
                seen.push(wait / whole);
            }
        }
        let mean = seen.iter().sum::<f64>() / seen.len() as f64;
        assert!((mean - 0.75).abs() < 0.03, "{mean}");
        seen.sort_by(f64::total_cmp);
        seen.dedup();
        assert_eq!(seen.len(), 500);
    }

    #[test]
    fn no_wait_is_beyond_the_clock() {
        let patience = patience(|options| {
            (options.backoff, options.longest_wait) = (Duration::MAX, Duration::MAX);
            options.stop.store(true, Ordering::SeqCst);
        });
        for named in [None, Some(Duration::MAX)] {
            assert!(matches!(
                patience.back_off(u32::MAX, named),
                Err(EndpointError::Stopped)
            ));
        }
    }

    #[test]
    fn a_seed_gives_the_same_waits() {
        let waits = |seed| {
            let patience = patience(|options| options.seed = seed);
            [1, 2, 3].map(|attempt| patience.wait(attempt))
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }

    #[test]
    fn requests_of_all_threads_are_evenly_spaced() {
        // One every 20 ms.
        let patience = patience(|options| options.per_minute = NonZeroU32::new(3000));
        let started = Instant::now();
        thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| (0..2).for_each(|_| patience.turn().unwrap()));
            }
        });
        // Ten requests, nine spaces; a busy machine may take longer.
        assert!(started.elapsed() >= Duration::from_millis(180));
    }

    #[test]
    fn an_idle_client_does_not_save_up_turns() {
        let patience = patience(|options| options.per_minute = NonZeroU32::new(3000));
        patience.turn().unwrap();
        thread::sleep(Duration::from_millis(100));
        let started = Instant::now();
        (0..3).for_each(|_| patience.turn().unwrap());
        assert!(started.elapsed() >= Duration::from_millis(40));
    }

    #[test]
    fn the_wish_to_stop_ends_a_long_wait() {
        let stop = Arc::new(AtomicBool::new(false));
        let patience = patience(|options| options.stop = Arc::clone(&stop));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| patience.back_off(1, Some(Duration::from_secs(40))));
            thread::sleep(Duration::from_millis(50));
            stop.store(true, Ordering::SeqCst);
            assert!(matches!(
                waiting.join().unwrap(),
                Err(EndpointError::Stopped)
            ));
        });
        assert!(matches!(patience.turn(), Err(EndpointError::Stopped)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        let table = [
            ("7", None, Some(7)),
            (" 0 ", None, Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", date, Some(30)),
            // The same time in the two obsolete forms that a recipient must read.
            ("Sunday, 06-Nov-94 08:50:07 GMT", date, Some(30)),
            ("Sun Nov  6 08:50:07 1994", date, Some(30)),
            // In the past, or against no clock.
            ("Sun, 06 Nov 1994 08:00:00 GMT", date, Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", None, None),
            ("soon", date, None),
            ("-1", date, None),
        ];
        for (value, date, seconds) in table {
            assert_eq!(
                retry_after(value, date),
                seconds.map(Duration::from_secs),
                "{value}"
            );
        }
    }
}
