//! Whether a request's `Host` may name a server on loopback.

use std::net::{IpAddr, SocketAddr};

/// Whether the host of a request is acceptable where the server listens. Beyond loopback every
/// name is; on loopback only addresses and `localhost`, against DNS rebinding.
pub(crate) fn is_acceptable(host: Option<&str>, listens: SocketAddr) -> bool {
    if !listens.ip().is_loopback() {
        return true;
    }
    let Some(host) = host else { return true };
    let name = without_port(host);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(address, _)| address);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_loopback_only_addresses_and_localhost_are_answered() {
        let loopback: SocketAddr = "127.0.0.1:80".parse().unwrap();
        for host in ["127.0.0.1", "127.0.0.1:4000", "localhost:1", "LOCALHOST", "[::1]:80", "[::1]"]
        {
            assert!(is_acceptable(Some(host), loopback), "{host}");
        }
        for host in ["evil.example", "evil.example:80", "", "localhost.evil.example"] {
            assert!(!is_acceptable(Some(host), loopback), "{host}");
        }
        assert!(is_acceptable(None, loopback));
        assert!(is_acceptable(Some("evil.example"), "10.0.0.1:80".parse().unwrap()));
    }
}
