//! One span for each attempt of a task, where a collector is named and the feature `otel` is in.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::logic::detect::WorkEnd;
use crate::protocol::id::{AgentId, NodeName, TaskId};
use crate::protocol::trace::TraceContext;

/// An attempt that has ended.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    pub(super) task: (&'a TaskId, u32),
    pub(super) task_type: &'a str,
    pub(super) agent: &'a AgentId,
    pub(super) trace: TraceContext,
    pub(super) took: Duration,
    pub(super) ended: Option<WorkEnd>,
    pub(super) at: Timestamp,
}

/// Tells spans.
#[derive(Debug)]
pub(super) struct SpanTeller {
    #[cfg(feature = "otel")]
    spans: Option<crate::adapters::otlp::Spans>,
}

#[cfg(feature = "otel")]
impl SpanTeller {
    pub(super) fn open(environment: &BTreeMap<String, String>, node: &NodeName) -> Self {
        use crate::adapters::otlp::{Collector, Spans};
        let collector = Collector::of(|name| environment.get(name).cloned(), node.as_str());
        let spans = collector.and_then(|collector| {
            let opened = Spans::open(collector);
            opened.inspect_err(|error| tracing::warn!(%error, "no spans are told")).ok()
        });
        Self { spans }
    }

    pub(super) fn tell(&self, attempt: &Attempt<'_>) {
        use crate::adapters::otlp::{Span, SpanEnd};
        let Some(spans) = self.spans.as_ref().filter(|_| attempt.trace.is_sampled()) else {
            return;
        };
        let (task, number) = attempt.task;
        let end_ns = u128::try_from(attempt.at.as_nanosecond()).unwrap_or(0);
        spans.send(Span {
            parent: attempt.trace,
            span_id: attempt.trace.of_attempt(task, number).span_id,
            name: format!("process {}", attempt.task_type),
            start_ns: end_ns.saturating_sub(attempt.took.as_nanos()),
            end_ns,
            attributes: vec![
                ("messaging.system", "nats".to_owned()),
                ("messaging.operation.type", "process".to_owned()),
                ("messaging.message.conversation_id", task.to_string()),
                ("provost.task.type", attempt.task_type.to_owned()),
                ("provost.task.attempt", number.to_string()),
                ("provost.agent.id", attempt.agent.to_string()),
            ],
            ended: match attempt.ended {
                Some(WorkEnd::Done) => SpanEnd::Done,
                Some(WorkEnd::Failed) | None => SpanEnd::Failed,
            },
        });
    }
}

#[cfg(not(feature = "otel"))]
impl SpanTeller {
    pub(super) fn open(environment: &BTreeMap<String, String>, _node: &NodeName) -> Self {
        let names = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
        if names.into_iter().any(|name| environment.get(name).is_some_and(|url| !url.is_empty())) {
            tracing::warn!("no spans are told: this provost was built without the feature otel");
        }
        Self {}
    }

    pub(super) fn tell(&self, attempt: &Attempt<'_>) {
        let Attempt { task, task_type, agent, trace, took, ended, at } = attempt;
        let (task_id, number) = task;
        tracing::trace!(
            task.id = %task_id, agent.id = %agent, attempt = number, %trace, task_type, ?took, ?ended,
            %at, "attempt ended"
        );
    }
}
