//! How long and how often a connection is tried, the same for all kinds that reconnect by themselves.
//!
//! Words: *patience* is how long a lost connection is tried again before its session ends and the
//! supervisor decides.

use std::time::Duration;

use tokio::time::timeout;

/// Longest time for a connection, its TLS and its login.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(10);

/// How long a lost connection is dialled for again before its session ends.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// First and longest delay between two attempts to reconnect.
const DELAYS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Bounds an attempt to connect.
pub(crate) async fn within<T>(
    attempt: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let late = |_elapsed| Err(format!("no connection within {} s", CONNECT_MAX.as_secs()));
    timeout(CONNECT_MAX, attempt).await.unwrap_or_else(late)
}

/// The delay before attempt `count`, the first being 0: doubling, with jitter over its upper half.
pub(crate) fn delay(count: u32, fraction: f64) -> Duration {
    let (first, most) = DELAYS;
    let whole = first.saturating_mul(2_u32.saturating_pow(count.min(16))).min(most);
    whole.mul_f64(0.5_f64.mul_add(fraction.clamp(0.0, 1.0), 0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_two_seconds_with_jitter_over_the_upper_half() {
        let ms = |count, fraction| delay(count, fraction).as_millis();
        assert_eq!((ms(0, 0.0), ms(0, 1.0), ms(3, 1.0)), (25, 50, 400));
        assert_eq!((ms(10, 0.0), ms(u32::MAX, 1.0)), (1_000, 2_000));
    }
}
