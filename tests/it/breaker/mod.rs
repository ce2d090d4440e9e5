//! The circuit breaker of downstreams, from outside: traces in virtual time, the machine against a
//! simple model, the handle that many threads share.
//!
//! # Tests of others
//!
//! What other breakers are held to by name, and where it stands here. Tests of this suite bear the
//! other's name in snake case where they check the same thing.
//!
//! ## cep21/circuit (`regression_test.go`, `property_test.go`)
//!
//! | theirs | here |
//! |---|---|
//! | InFlightSuccessDoesNotCloseFreshlyOpenedCircuit, RequestStartedBeforeOpenFlipIsNotAProbe, StaleFailureDoesNotPoisonProbe, NoProbeLeakOnOpenTransition, NoProbeBeforeCloserArmedOnOpen, ForceOpenNeverRuns, ManualTransitionsUnderForceFlags, OpenerExactThreshold | [`traces`] |
//! | OpenAndSaturatedIsShortCircuit, HalfOpenTokenNotConsumedByThrottle | [`traces`]: `a_permit_that_a_later_gate_returns_is_not_counted` (a rejection after the permit gives it back) |
//! | CircuitIgnoreContextFailures | [`traces`]: `an_ignored_result_frees_its_slot_and_says_nothing` |
//! | DoForwardsPanics | [`probes`]: `p4_a_panic_counts_as_a_failure_and_frees_its_slot` |
//! | StaleShouldOpenRecheckedUnderLock, StaleShouldCloseRecheckedUnderLock | `shared`: threads; not model-checked yet |
//! | TestCircuit_StateMachineProperty | [`reference`] |
//! | TransitionEventsDeliveredInOrder, TransitionAlternation_Concurrent, OpenCircuit_EmitsOpenedExactlyOnce, RunMetricsExactlyOnce_Concurrent, RaceOnConfigChange, SetConfigNotThreadSafeWhileOpenStillRecovers, TimeoutReadOnceUnderConfigChange | [`threads`] |
//! | ReentrantMetricsListener, PanickingMetricsListenerDoesNotWedgeDelivery, PanickingListenerDoesNotStrandQueuedTransition, SlowListenerDoesNotDelayStateMachines | do not apply: there are no listeners; transitions wait in a bounded queue, which [`threads`] checks when full |
//!
//! ## resilience4j (`CircuitBreakerStateMachineTest` and others)
//!
//! | theirs | here |
//! |---|---|
//! | shouldOnlyPermitFourCallsInHalfOpenState, shouldOpenAfterFailureRateThresholdExceeded(2), shouldOpenAfterSlowCallRateThresholdExceeded, shouldTransitionToHalfOpenAfterWaitDuration (PassedWaitDuration, PassedWaitUntil, WaitInterval), shouldTransitionBackToOpenStateWhenFailureRate/SlowCallRateIsAboveThreshold, shouldTransitionBackToClosedStateWhenFailureIsBelowThreshold, shouldReleasePermissionWhenExceptionIgnored, shouldIgnoreExceptionsAndThenTransitionToClosed, shouldNotAllowTransitionFromClosedToHalfOpen, circuitBreakerTransitionsToOpenAfterWaitDurationInHalfOpenState | [`traces`] |
//! | circuitBreakerTransitionsToClosedAfterWaitDurationInHalfOpenState | left out: a trial that never answers is no sign of health |
//! | shouldRecordMetricsInMetricsOnlyState, shouldPublishEachEventOnceInMetricOnlyState, shouldNotProduceEventsInDisabledState, allCircuitBreakerStatesAllowTransitionToItsOwnState, circuitBreakerDoesNotPublishStateTransitionEventsForInternalTransitions, circuitBreakerInitializeIn{Closed,Open,MetricOnly}State | `logic::breaker::behaviour` |
//! | shouldCancelAutoTransition, notCancelAutoTransitionFutureIfAlreadyDone | do not apply: no scheduled task exists; time is caught up with |
//! | Future: ApplyOnceOnMultipleFutureEval, CallerRequestCancelled | the type system: a permit is settled by value; [`probes`] `p5_…` for cancellation |
//! | ConfigTest zero…, aboveHundred…, shouldReduceMinimumNumberOfCallsToSlidingWindowSize | `logic::breaker::config` |
//! | FixedSizeSlidingWindowMetricsTest, SlidingTimeWindowMetricsTest, LockFreeMetricsContentionTest | [`reference`], [`threads`] |
//!
//! ## gobreaker
//!
//! TestGeneration, TestRollingWindowCircuitBreaker, TestIsExcludedAndIsSuccessfulCombination,
//! TestTwoStepCircuitBreaker: [`traces`]. TestPanicInRequest: [`probes`] `p4_…`.
//! TestRollingWindowCircuitBreakerInParallel: [`threads`]. TestRollingCountsGrow, BucketAt,
//! BucketIndexingConsistency: `logic::breaker::config` (slices) and [`reference`].
//! TestDistributedCircuitBreakerTimeSynchronization: does not apply, no state is shared.
//!
//! ## Polly
//!
//! HalfOpen_EnsureBreakDuration, HalfOpen_EnsureCorrectStateTransitionAfterExecution,
//! Flow_Closed_HalfOpen_Open_HalfOpen_Closed, GetHealthInfo_EnsureWindowRespected,
//! WindowCapacityRespected, SamplingDurationRespected: [`traces`].
//! BreakDurationGenerator_EnsureHalfOpenAttempts, OnActionFailureAsync_EnsureBreakDurationNotOverflow:
//! `logic::breaker::behaviour`. EnsureExceptionStackTraceDoesNotGrow, InlineContinuationDoesNotDeadlock,
//! Initialize_DisposeRegistration: do not apply (no exceptions, no continuations, no registrations).
//!
//! ## Hystrix
//!
//! TripCircuitOnFailuresAboveThreshold, CircuitDoesNotTripOnFailuresBelowThreshold,
//! SingleTestOnOpenCircuitAfterTimeWindow, MultipleTimeWindowRetriesBeforeClosingCircuit,
//! LowVolumeDoesNotTripCircuit, UnsubscriptionDoesNotLeaveCircuitStuckHalfOpen,
//! SuccessClosesCircuitWhenBusy: [`traces`]. TripCircuitOnTimeouts(AboveThreshold): a timeout is an
//! `error` of its caller; [`traces`] under the name of failures.
//!
//! ## opossum
//!
//! "When half-open, the circuit only allows one request through", "volume threshold does not affect
//! halfOpen state", "Enters halfOpen state if closed is false and more time has elapsed since
//! resetTimeout": [`traces`]. "When half-open, a filtered error should close the circuit": the
//! opposite is held here, an ignored result says nothing; [`traces`]. Export and import of state:
//! `logic::breaker::behaviour` (`a_breaker_that_was_open_before_a_restart_starts_open`). Fallbacks,
//! semaphores and health checks belong to the policies around a call.
//!
//! ## linkerd
//!
//! consecutive_failures_ignores_429, probation_failure_on_429, cold_start_protects_success_rate,
//! backoff_resets_to_base_on_retrip, simultaneous_threshold_cross_reports_consecutive_reason,
//! slow_healthy_probe_reopens, probation_admits_single_probe, success_rate_recovers_after_decay,
//! idle_reengages_cold_start_with_success|failure: [`traces`]. realized_window_equals_configured_window:
//! `logic::breaker::config`. wait_for_backoff_terminates_when_channel_closes: does not apply.
//!
//! ## tower-resilience, pybreaker, denoland/std
//!
//! half_open_admission_never_exceeds_permitted_calls_under_contention, fail_max_thread_safety,
//! half_open_thread_safety: [`threads`]. dropped_half_open_probe_future_releases_its_slot_…, "leaked
//! slot", "stale close": [`probes`]. failure_count_not_reset_during_creation, open_rejection_does_not_poll_pending_inner,
//! half_open_backpressure_waiter_…: do not apply (names are not shared; nobody waits for a permit).

#![expect(
    clippy::doc_markdown,
    reason = "names of tests of others stand as they are written there"
)]

#[path = "../../../examples/support/breaker_words.rs"]
mod breaker_words;

mod probes;
mod program;
mod reference;
mod shared;
mod threads;
mod traces;
