//! Checks of downstreams.

use std::collections::BTreeMap;

use crate::config::check::Checker;
use crate::config::check_nats::address_fault;
use crate::config::downstream::{
    Breaker, Downstream, DownstreamAuth, DownstreamKind, Endpoint, Resilience, Retry,
};
use crate::config::nats::ServerUrl;
use crate::config::raw_downstream::{
    RawAuth, RawAuthKind, RawDownstream, RawEndpoint, RawResilience,
};
use crate::config::tree::join;
use crate::protocol::id::ChildName;

impl Checker<'_> {
    pub(crate) fn downstreams(
        &mut self,
        raw: BTreeMap<String, RawDownstream>,
    ) -> BTreeMap<ChildName, Downstream> {
        let mut downstreams = BTreeMap::new();
        for (name, raw) in raw {
            let key = join("downstreams", &name);
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
        let breaker = &raw.circuit_breaker;
        Resilience {
            timeout: raw.timeout.0,
            max_concurrent: usize::try_from(raw.max_concurrent).unwrap_or(usize::MAX),
            retry: Retry {
                max_attempts: retry.max_attempts,
                initial: retry.initial.0,
                multiplier: retry.multiplier,
                max: retry.max.0,
            },
            breaker: Breaker {
                failure_threshold: breaker.failure_threshold,
                error_percent: breaker.error_percent,
                request_volume: breaker.request_volume,
                success_threshold: breaker.success_threshold,
                open_for: breaker.open_for.0,
            },
        }
    }
}

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
