//! Spans to an OpenTelemetry collector: OTLP over HTTP, as JSON.
//!
//! The few documents that are needed are written here: the SDK with its protobuf and its own
//! batching would add some forty crates for them. A queue of [`QUEUE_MAX`] spans and one task; what
//! finds no room, or was not taken at the third attempt, is dropped and counted in
//! `provost_spans_dropped_total`.

use std::fmt;
use std::time::Duration;

use reqwest::{Client, redirect, retry};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::adapters::AdapterError;
use crate::adapters::tls::{TlsSettings, client_config};
use crate::metrics;
use crate::protocol::trace::TraceContext;

/// Spans that may wait.
pub const QUEUE_MAX: usize = 2_048;

/// Spans in one request.
pub const BATCH_MAX: usize = 512;

/// Longest time that a span waits for others.
const LINGER: Duration = Duration::from_secs(1);

/// Longest time of one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Attempts for one batch.
const ATTEMPTS: u32 = 3;

/// Something that took time.
#[derive(Clone, Debug)]
pub struct Span {
    /// The trace, and the span that this one hangs under.
    pub parent: TraceContext,
    /// The span itself.
    pub span_id: u64,
    /// What, without ids.
    pub name: String,
    /// When it began, in nanoseconds since 1970.
    pub start_ns: u128,
    /// When it ended.
    pub end_ns: u128,
    /// What is known of it.
    pub attributes: Vec<(&'static str, String)>,
    /// How it ended.
    pub ended: SpanEnd,
}

/// How a span ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SpanEnd {
    /// Well.
    Done,
    /// Badly.
    Failed,
}

/// Where a collector is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Collector {
    /// Address that spans are posted to.
    pub url: String,
    /// Value of `service.name`.
    pub service: String,
    /// Value of `service.instance.id`.
    pub instance: String,
}

impl Collector {
    /// As the variables of OpenTelemetry say; `None` where they name no collector.
    #[must_use]
    pub fn of(variable: impl Fn(&str) -> Option<String>, instance: &str) -> Option<Self> {
        let filled = |name: &str| variable(name).filter(|value| !value.is_empty());
        let base = |url: String| format!("{}/v1/traces", url.trim_end_matches('/'));
        let url = filled("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            .or_else(|| filled("OTEL_EXPORTER_OTLP_ENDPOINT").map(base))?;
        let service = filled("OTEL_SERVICE_NAME").unwrap_or_else(|| "provost".to_owned());
        Some(Self { url, service, instance: instance.to_owned() })
    }
}

/// Hands spans over. Dropping it ends the task; what waits is lost then.
pub struct Spans {
    give: mpsc::Sender<Span>,
    _worker: JoinSet<()>,
}

impl Spans {
    /// Begins to post to a collector.
    ///
    /// # Errors
    ///
    /// [`AdapterError`] when no client can be made.
    pub fn open(collector: Collector) -> Result<Self, AdapterError> {
        let client = Client::builder()
            .tls_backend_preconfigured(client_config(&TlsSettings::default())?)
            .user_agent(concat!("provost/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .no_proxy()
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| AdapterError::Client { reason: error.to_string() })?;
        let (give, take) = mpsc::channel(QUEUE_MAX);
        let mut worker = JoinSet::new();
        worker.spawn(work(client, collector, take));
        Ok(Self { give, _worker: worker })
    }

    /// Hands a span over; returns at once.
    pub fn send(&self, span: Span) {
        if self.give.try_send(span).is_err() {
            metrics::spans_dropped(1);
        }
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spans").finish_non_exhaustive()
    }
}

async fn work(client: Client, collector: Collector, mut take: mpsc::Receiver<Span>) {
    while let Some(first) = take.recv().await {
        tokio::time::sleep(LINGER).await;
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX
            && let Ok(span) = take.try_recv()
        {
            batch.push(span);
        }
        let document = document(&collector, &batch);
        let mut pause = LINGER;
        for attempt in 1..=ATTEMPTS {
            let sent = client.post(&collector.url).json(&document).send().await;
            let failure = match sent {
                Ok(answer) if answer.status().is_success() => break,
                Ok(answer) => format!("the collector answered {}", answer.status()),
                Err(error) => error.without_url().to_string(),
            };
            if attempt == ATTEMPTS {
                tracing::warn!(error = failure, spans = batch.len(), "spans are dropped");
                metrics::spans_dropped(u64::try_from(batch.len()).unwrap_or(u64::MAX));
            } else {
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2);
            }
        }
    }
}

/// The request of OTLP for these spans.
#[must_use]
pub fn document(collector: &Collector, spans: &[Span]) -> Value {
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let spans: Vec<Value> = spans
        .iter()
        .map(|span| {
            let attributes: Vec<Value> =
                span.attributes.iter().map(|(key, value)| attribute(key, value)).collect();
            // 5 is a consumer; 1 is well, 2 an error.
            let code = if span.ended == SpanEnd::Done { 1 } else { 2 };
            json!({
                "traceId": format!("{:032x}", span.parent.trace_id),
                "spanId": format!("{:016x}", span.span_id),
                "parentSpanId": format!("{:016x}", span.parent.span_id),
                "name": span.name,
                "kind": 5,
                "startTimeUnixNano": span.start_ns.to_string(),
                "endTimeUnixNano": span.end_ns.to_string(),
                "attributes": attributes,
                "status": {"code": code},
            })
        })
        .collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": [
            attribute("service.name", &collector.service),
            attribute("service.instance.id", &collector.instance),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
        ]},
        "scopeSpans": [{"scope": {"name": "provost"}, "spans": spans}],
    }]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collector_is_where_the_variables_of_opentelemetry_say() {
        let of = |name: &str, value: &str| {
            let found = |asked: &str| (asked == name).then(|| value.to_owned());
            Collector::of(found, "n1").map(|collector| collector.url)
        };
        let base = of("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/");
        assert_eq!(base.as_deref(), Some("http://c:4318/v1/traces"));
        let whole = of("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/x");
        assert_eq!(whole.as_deref(), Some("http://c/x"));
        assert_eq!(of("OTEL_EXPORTER_OTLP_ENDPOINT", ""), None);
    }
}
