//! What answers when the downstream does not: its last good answer, another downstream, a fixed
//! answer, in this order.
//!
//! A call that is wrong in itself gets none: nobody would answer it better. The last good answer and
//! the fixed one stand for requests only. Another downstream takes every call that surely was not
//! carried out here, and others where a second time does no harm.

use std::sync::{Arc, Weak};

use crate::adapters::call::judge::{Failed, Reach};
use crate::adapters::call::{Asked, CallPath, lock};
use crate::logic::breaker::config::millis;
use crate::logic::call::key_of;
use crate::logic::retry::Repetition;
use crate::protocol::downstream::{CallDone, CallError, CallOp, CallSource};

impl CallPath {
    pub(super) async fn fall_back(
        &self,
        asked: &Asked,
        failed: Failed,
    ) -> Result<CallDone, CallError> {
        if failed.reach == Reach::Wrong {
            return Err(failed.error);
        }
        if let Some(done) = self.last_good(asked) {
            return Ok(done);
        }
        if let Some(done) = self.elsewhere(asked, failed.reach).await {
            return Ok(done);
        }
        match &self.rules.fallback.answer {
            Some(answer) if asked.request.op == CallOp::Request => Ok(CallDone {
                result: answer.clone(),
                source: CallSource::Fallback,
                age_ms: 0,
                attempts: 0,
            }),
            Some(_) | None => Err(failed.error),
        }
    }

    fn last_good(&self, asked: &Asked) -> Option<CallDone> {
        let age_max = millis(self.rules.fallback.cache?);
        let asks =
            asked.request.op == CallOp::Request && asked.repetition == Repetition::Idempotent;
        let key = asks.then(|| key_of(&asked.request))?;
        let kept = lock(&self.last_good).get(self.now_ms(), &key, age_max)?;
        let result = Arc::unwrap_or_clone(kept.answer);
        Some(CallDone { result, source: CallSource::Cache, age_ms: kept.age_ms, attempts: 0 })
    }

    /// Makes the call on the other downstream, with its policies but without its fallback. Its
    /// failure is not told: the caller asked this one.
    async fn elsewhere(&self, asked: &Asked, reach: Reach) -> Option<CallDone> {
        let other = self.other.get().and_then(Weak::upgrade)?;
        let harmless = match reach {
            Reach::Refused | Reach::NotDone => true,
            Reach::Doubtful => asked.repetition == Repetition::Idempotent,
            Reach::Wrong => false,
        };
        if !harmless || other.check(&asked.request).is_err() {
            return None;
        }
        other.tallies.taken();
        let answer = Box::pin(other.live(asked)).await.map_err(|failed| failed.error);
        other.tallies.ended(&answer);
        match answer {
            Ok(done) => Some(CallDone { source: CallSource::Fallback, ..done }),
            Err(error) => {
                tracing::debug!(downstream = %self.name, other = %other.name, %error, "fallback");
                None
            }
        }
    }
}
