//! The recorder behind the `metrics` facade: Prometheus text on demand.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Time between two turns of [`upkeep`].
const UPKEEP_EVERY: std::time::Duration = std::time::Duration::from_secs(5);

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the recorder, once for the process. Another recorder that a program has installed
/// before stays, and nothing is rendered here then.
pub(crate) fn install() {
    HANDLE.get_or_init(|| {
        let recorder = buckets(PrometheusBuilder::new()).build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed; /metrics stays empty");
        }
        crate::metrics::describe();
        handle
    });
}

/// All metrics as Prometheus text.
pub(crate) fn render() -> String {
    HANDLE.get().map_or_else(String::new, |handle| {
        handle.run_upkeep();
        handle.render()
    })
}

/// Histograms with buckets: they can be added up over daemons, which summaries cannot.
fn buckets(builder: PrometheusBuilder) -> PrometheusBuilder {
    builder.set_buckets(&crate::metrics::BUCKETS).unwrap_or_default()
}

/// Puts recorded samples into their buckets from time to time, so that they do not pile up while nobody
/// asks for the metrics. Ends when it is aborted.
pub(crate) async fn upkeep() {
    let mut turn = tokio::time::interval(UPKEEP_EVERY);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        if let Some(handle) = HANDLE.get() {
            handle.run_upkeep();
        }
    }
}
