//! The attempts of one call: each within its time, repeated where that helps and does no harm.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::adapters::call::{Asked, CallPath, Ended, Tried, Well, judge, lock};
use crate::logic::breaker::Outcome;
use crate::logic::breaker::config::millis;
use crate::logic::retry::{Repetition, Retry};
use crate::ports::{AttemptError, AttemptFate, DownstreamClient};
use crate::protocol::downstream::{CallDone, CallError, CallErrorKind, CallSource};
use crate::protocol::status::CircuitState;

impl CallPath {
    /// Makes attempts until one succeeds or none may follow.
    pub(super) async fn attempts(&self, asked: &Asked) -> Ended {
        let deadline_ms =
            asked.deadline.map(|at| millis(at.saturating_duration_since(self.origin)));
        let mut retry = Retry::new(self.rules.retry, asked.repetition, deadline_ms);
        lock(&self.budget).deposit(self.now_ms());
        let mut tries = 0;
        let mut last: Option<Ended> = None;
        loop {
            let left = asked.left().unwrap_or(Duration::MAX);
            if left.is_zero() {
                return last.unwrap_or_else(|| (Err(asked.too_late()), Outcome::Ignored));
            }
            let limit = self.rules.timeout.min(left);
            let (result, made) = match self.client() {
                Some(client) => self.attempt(asked, &client, limit).await,
                None => (Err(self.no_session()), 0),
            };
            tries += made;
            let error = match result {
                Ok(result) => {
                    let source = CallSource::Live;
                    let done = CallDone { result, source, age_ms: 0, attempts: tries };
                    return (Ok(done), Outcome::Ok);
                }
                Err(error) => error,
            };
            // That there is no session is in the account already.
            let outcome = match made {
                0 => Outcome::Ignored,
                _ => judge::outcome(&error, limit, self.rules.timeout),
            };
            let again = self.again(&mut retry, &error);
            let ended = (Err(error.into()), outcome);
            let Some(wait) = again else { return ended };
            last = Some(ended);
            self.tallies.retried();
            tokio::time::sleep(wait).await;
        }
    }

    /// The wait before the next attempt, if there is one. The circuit is asked first, so that a
    /// repetition that would not be made is not paid.
    fn again(&self, retry: &mut Retry, error: &AttemptError) -> Option<Duration> {
        let passes = matches!(
            self.breaker.snapshot().state.circuit(),
            CircuitState::Closed | CircuitState::ForcedClosed
        );
        if !passes {
            return None;
        }
        let fraction = self.jitter.fraction();
        let attempt = judge::attempt(error);
        retry.on_failure(self.now_ms(), attempt, fraction, &mut lock(&self.budget)).ok()
    }

    /// One attempt; a harmless one that is slow gets a second beside it, from the budget, and the
    /// first success counts. The other one is dropped.
    async fn attempt(
        &self,
        asked: &Asked,
        client: &Arc<dyn DownstreamClient>,
        limit: Duration,
    ) -> Tried {
        let harmless = asked.repetition == Repetition::Idempotent;
        let hedge = self.rules.hedge_after.filter(|after| harmless && *after < limit);
        let mut first = Box::pin(self.single(asked, client, limit));
        let Some(after) = hedge else { return (first.await, 1) };
        tokio::select! {
            biased;
            done = &mut first => return (done, 1),
            // The first attempt is pinned outside and goes on.
            () = tokio::time::sleep(after) => {}
        }
        if !lock(&self.budget).withdraw(self.now_ms()) {
            return (first.await, 1);
        }
        self.tallies.retried();
        let mut second = Box::pin(self.single(asked, client, limit.saturating_sub(after)));
        let (done, other) = tokio::select! {
            biased;
            // Both are pinned outside; the one that is left goes on below or is given up.
            done = &mut first => (done, second),
            done = &mut second => (done, first),
        };
        match done {
            Ok(value) => (Ok(value), 2),
            Err(_) => (other.await, 2),
        }
    }

    async fn single(
        &self,
        asked: &Asked,
        client: &Arc<dyn DownstreamClient>,
        limit: Duration,
    ) -> Result<Value, AttemptError> {
        let began = Instant::now();
        let attempt = client.call(Arc::clone(&asked.request), limit);
        // The adapter keeps the time itself; this is for one that does not.
        let result = tokio::time::timeout(limit, attempt).await.unwrap_or_else(|_elapsed| {
            let text = format!("{} gave no answer within {} ms", self.name, limit.as_millis());
            let error = CallError::new(CallErrorKind::Timeout, text);
            Err(AttemptError { error, fate: AttemptFate::Unknown })
        });
        let well = match &result {
            Ok(_) => Well::Good,
            Err(error) if error.fate == AttemptFate::Rejected => Well::Good,
            Err(_) => Well::Bad,
        };
        self.tallies.attempted(well, began.elapsed());
        result
    }

    fn no_session(&self) -> AttemptError {
        let text = format!("{} is not connected", self.name);
        let error = CallError::new(CallErrorKind::Unavailable, text);
        AttemptError { error, fate: AttemptFate::NotSent }
    }
}
