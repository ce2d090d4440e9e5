//! Checks of downstreams.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::check::Checker;
use crate::config::check_nats::address_fault;
use crate::config::check_policies::health_check;
use crate::config::downstream::{
    Downstream, DownstreamAuth, DownstreamKind, Endpoint, Resilience, Retry,
};
use crate::config::nats::ServerUrl;
use crate::config::raw_downstream::{
    RawAuth, RawAuthKind, RawBreakerMode, RawDownstream, RawEndpoint, RawResilience,
};
use crate::config::tree::join;
use crate::logic::breaker::{BreakerConfig, Mode, Window};
use crate::protocol::id::ChildName;

impl Checker<'_> {
    pub(crate) fn downstreams(
        &mut self,
        raw: BTreeMap<String, RawDownstream>,
    ) -> BTreeMap<ChildName, Downstream> {
        let mut downstreams = BTreeMap::new();
        let names: Vec<String> = raw.keys().cloned().collect();
        for (name, raw) in raw {
            let key = join("downstreams", &name);
            self.fallback_exists(&key, &name, &raw.resilience.fallback, &names);
            let downstream = self.downstream(&key, raw);
            if let (Some(name), Some(downstream)) = (self.parsed(&key, &name), downstream) {
                downstreams.insert(name, downstream);
            }
        }
        downstreams
    }

    fn downstream(&mut self, key: &str, raw: RawDownstream) -> Option<Downstream> {
        let endpoint = self.endpoint(&format!("{key}.endpoint"), raw.kind, &raw.endpoint);
        let auth = self.downstream_auth(&format!("{key}.auth"), &raw.auth);
        let resilience = self.resilience(&format!("{key}.resilience"), &raw.resilience);
        if let Some(kind) = raw.kind
            && kind != DownstreamKind::Mqtt
            && raw.config.client_id.is_some()
        {
            self.fault(&format!("{key}.config.client_id"), "only mqtt has a client id; remove it");
        }
        Some(Downstream {
            kind: raw.kind?,
            endpoint: endpoint?,
            auth: auth?,
            resilience,
            health: health_check(&raw.health),
            client_id: raw.config.client_id,
            keep_alive: raw.config.keep_alive.0,
            origin: self.origin(key),
        })
    }

    fn endpoint(
        &mut self,
        key: &str,
        kind: Option<DownstreamKind>,
        raw: &RawEndpoint,
    ) -> Option<Endpoint> {
        for (name, path) in [("path", &raw.path), ("health_path", &raw.health_path)] {
            if let Some(path) = path.as_ref().filter(|path| !path.starts_with('/')) {
                self.fault_of(&format!("{key}.{name}"), path, "does not begin with a slash");
            }
        }
        let ca = raw.ca.as_ref().map(|path| self.file(&format!("{key}.ca"), path));
        let key = format!("{key}.address");
        let Some(address) = &raw.address else {
            // The walk tells a missing key of a written table; here the table itself is missing.
            self.missing_address(&key);
            return None;
        };
        let schemes = kind.map_or(ANY_SCHEME, schemes);
        if let Some(reason) = address_fault(address, schemes) {
            self.fault_of(&key, address, reason);
            return None;
        }
        Some(Endpoint {
            address: ServerUrl(address.clone()),
            port: raw.port,
            path: raw.path.clone(),
            tls: raw.tls,
            ca,
            health_path: raw.health_path.clone(),
        })
    }

    fn missing_address(&mut self, key: &str) {
        if !self.is_written(key.trim_end_matches(".address")) {
            self.fault(key, "missing; it has no default");
        }
    }

    fn downstream_auth(&mut self, key: &str, raw: &RawAuth) -> Option<DownstreamAuth> {
        let given = [
            ("username", raw.username.is_some()),
            ("password", raw.password.is_some()),
            ("token", raw.token.is_some()),
            ("cert", raw.cert.is_some()),
            ("key", raw.key.is_some()),
            ("creds", raw.creds.is_some()),
        ];
        let (kind, needed): (&str, &[&str]) = match raw.kind {
            RawAuthKind::None => ("none", &[]),
            RawAuthKind::Basic => ("basic", &["username", "password"]),
            RawAuthKind::Bearer => ("bearer", &["token"]),
            RawAuthKind::ClientCertificate => ("client_certificate", &["cert", "key"]),
            RawAuthKind::Nats => ("nats", &["creds"]),
        };
        for (name, is_given) in given {
            let key = format!("{key}.{name}");
            match (needed.contains(&name), is_given) {
                (true, false) => self.fault(&key, format!("missing; {kind} needs it")),
                (false, true) => {
                    self.fault(
                        &key,
                        format!("does not belong to type {kind}; remove it or set type"),
                    );
                }
                (true, true) | (false, false) => {}
            }
        }
        let file = |checker: &mut Self, name: &str, path: &Option<String>| {
            path.as_ref().map(|path| checker.file(&format!("{key}.{name}"), path))
        };
        match raw.kind {
            RawAuthKind::None => Some(DownstreamAuth::None),
            RawAuthKind::Basic => Some(DownstreamAuth::Basic {
                username: raw.username.clone()?,
                password: raw.password.clone()?,
            }),
            RawAuthKind::Bearer => raw.token.clone().map(DownstreamAuth::Bearer),
            RawAuthKind::ClientCertificate => {
                let (cert, key) = (file(self, "cert", &raw.cert), file(self, "key", &raw.key));
                Some(DownstreamAuth::ClientCertificate { cert: cert?, key: key? })
            }
            RawAuthKind::Nats => file(self, "creds", &raw.creds).map(DownstreamAuth::Nats),
        }
    }

    fn resilience(&mut self, key: &str, raw: &RawResilience) -> Resilience {
        let retry = &raw.retry;
        if retry.max < retry.initial {
            self.smaller(&format!("{key}.retry.max"), &format!("{key}.retry.initial"));
        }
        let breaker = self.breaker(&format!("{key}.circuit_breaker"), raw);
        Resilience {
            timeout: raw.timeout.0,
            max_concurrent: usize::try_from(raw.max_concurrent).unwrap_or(usize::MAX),
            max_waiting: usize::try_from(raw.max_waiting).unwrap_or(usize::MAX),
            max_wait: raw.max_wait.0,
            hedge_after: raw.hedge_after.map(|after| after.0),
            retry: Retry {
                max_attempts: retry.max_attempts,
                initial: retry.initial.0,
                multiplier: retry.multiplier,
                max: retry.max.0,
                idempotent_methods: retry.idempotent_methods.iter().cloned().collect(),
            },
            breaker,
            rate_limit: self.rate_limit(&format!("{key}.rate_limit"), &raw.rate_limit),
            fallback: self.fallback(&format!("{key}.fallback"), &raw.fallback),
        }
    }

    fn breaker(&mut self, key: &str, resilience: &RawResilience) -> BreakerConfig {
        let raw = &resilience.circuit_breaker;
        if raw.open_max.is_some_and(|max| max < raw.open_for) {
            self.smaller(&format!("{key}.open_max"), &format!("{key}.open_for"));
        }
        if raw.slow_percent.is_some() && raw.slow_call_duration.is_none() {
            self.fault(&format!("{key}.slow_call_duration"), "missing; slow_percent needs it");
        }
        if raw.window_calls.is_some() && self.is_written(&format!("{key}.window")) {
            self.fault(&format!("{key}.window_calls"), "window is set as well; remove one of them");
        }
        let window = match raw.window_calls {
            Some(calls) => Window::Calls(calls),
            None => Window::Time(raw.window.0),
        };
        let patience = resilience.timeout.0.saturating_mul(2).max(PATIENCE_MIN);
        BreakerConfig {
            mode: match raw.mode {
                RawBreakerMode::Armed => Mode::Armed,
                RawBreakerMode::MetricsOnly => Mode::MetricsOnly,
                RawBreakerMode::Disabled => Mode::Disabled,
            },
            failure_threshold: Some(raw.failure_threshold).filter(|threshold| *threshold > 0),
            error_percent: Some(f64::from(raw.error_percent)).filter(|percent| *percent > 0.0),
            slow_percent: raw.slow_percent.map(f64::from),
            slow_call: raw.slow_call_duration.map(|limit| limit.0),
            request_volume: raw.request_volume,
            window,
            open_for: raw.open_for.0,
            open_max: raw.open_max.map_or(OPEN_MAX.max(raw.open_for.0), |max| max.0),
            open_factor: raw.open_factor,
            jitter: raw.jitter,
            half_open_probes: raw.half_open_probes,
            success_threshold: raw.success_threshold,
            half_open_timeout: Some(raw.half_open_timeout.map_or(patience, |timeout| timeout.0)),
        }
    }
}

/// Longest open time where none is given.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// Shortest time that probes get where none is given.
const PATIENCE_MIN: Duration = Duration::from_secs(5);

const ANY_SCHEME: &[&str] = &[
    "http", "https", "ws", "wss", "mqtt", "mqtts", "tcp", "ssl", "redis", "rediss", "nats", "tls",
];

fn schemes(kind: DownstreamKind) -> &'static [&'static str] {
    match kind {
        DownstreamKind::Http | DownstreamKind::JsonRpc => &["http", "https"],
        DownstreamKind::Mqtt => &["mqtt", "mqtts", "tcp", "ssl"],
        DownstreamKind::Redis => &["redis", "rediss"],
        DownstreamKind::Nats => &["nats", "tls"],
        DownstreamKind::Websocket => &["ws", "wss", "http", "https"],
    }
}
