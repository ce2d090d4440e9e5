//! Checks of the connection to NATS and of its streams.

use std::collections::BTreeMap;

use crate::config::check::Checker;
use crate::config::nats::{
    JetStreamApi, Nats, NatsAuth, NatsTarget, NatsTls, OWN_STREAMS, Profile, ServerUrl,
    StreamSettings, TlsUse,
};
use crate::config::raw_nats::{RawNats, RawStream, RawTls};
use crate::config::tree::join;
use crate::config::units::Secret;
use crate::protocol::id::is_token_char;

/// Subjects that no further stream may take: those of provost's own streams, and requests, whose
/// callers would be answered by the stream instead.
const TAKEN_SUBJECTS: [&str; 10] = [
    "supervision.>",
    "agent.>",
    "system.>",
    "coordination.>",
    "downstream.>",
    "dlq.>",
    "$JS.>",
    "$SYS.>",
    "$SRV.>",
    "_INBOX.>",
];

/// Longest name of a stream.
const STREAM_NAME_MAX: usize = 64;

impl Checker<'_> {
    pub(crate) fn nats(&mut self, raw: RawNats) -> Option<Nats> {
        let target = self.target(&raw);
        let auth = self.nats_auth(&raw);
        let tls = self.tls(&raw.tls);
        if is_embedded(&raw) {
            self.embedded_only(&raw);
        }
        if raw.jetstream_domain.is_some() && raw.jetstream_api_prefix.is_some() {
            let text = "is given besides jetstream_domain; give one of them";
            self.fault("nats.jetstream_api_prefix", text);
        }
        let jetstream = match (raw.jetstream_domain, raw.jetstream_api_prefix) {
            (Some(domain), _) => JetStreamApi::Domain(domain),
            (None, Some(prefix)) => JetStreamApi::Prefix(prefix),
            (None, None) => JetStreamApi::Default,
        };
        if let Some(prefix) = &raw.inbox_prefix
            && !is_subject(prefix, Wildcards::Refused)
        {
            self.fault_of("nats.inbox_prefix", prefix, "is no subject");
        }
        let server = raw.server.map(|server| match server.contains('/') {
            true => self.path("nats.server", &server),
            false => server.into(),
        });
        let streams = self.streams(raw.streams);
        Some(Nats {
            target: target?,
            auth: auth?,
            tls,
            max_reconnect: raw.max_reconnect.and_then(|count| usize::try_from(count).ok()),
            reconnect_wait: raw.reconnect_wait.0,
            timeout: raw.timeout.0,
            ping_interval: raw.ping_interval.0,
            max_pings_out: raw.max_pings_out,
            inbox_prefix: raw.inbox_prefix,
            jetstream,
            server,
            durability: raw.durability,
            profile: raw.profile,
            streams,
        })
    }

    fn target(&mut self, raw: &RawNats) -> Option<NatsTarget> {
        if is_embedded(raw) {
            return Some(NatsTarget::Embedded);
        }
        if raw.url.is_some() && raw.urls.is_some() {
            self.fault("nats.urls", "is given besides nats.url; give one of them");
        }
        let mut servers = Vec::new();
        for text in raw.url.iter().flat_map(|url| url.split(',')) {
            servers.push(self.server_url("nats.url", text.trim()));
        }
        for (index, text) in raw.urls.iter().flatten().enumerate() {
            servers.push(self.server_url(&format!("nats.urls[{index}]"), text.trim()));
        }
        Some(NatsTarget::Servers(servers.into_iter().collect::<Option<_>>()?))
    }

    fn server_url(&mut self, key: &str, text: &str) -> Option<ServerUrl> {
        match address_fault(text, &["nats", "tls"]) {
            None => Some(ServerUrl(text.to_owned())),
            Some(reason) => {
                self.fault_of(key, text, format!("{reason}; write it like nats://127.0.0.1:4222"));
                None
            }
        }
    }

    fn nats_auth(&mut self, raw: &RawNats) -> Option<NatsAuth> {
        let mut kinds: Vec<(&str, Option<NatsAuth>)> = Vec::new();
        match (&raw.user, &raw.password) {
            (Some(user), Some(password)) => {
                let (user, password) = (user.clone(), password.clone());
                kinds.push(("user", Some(NatsAuth::UserPassword { user, password })));
            }
            (Some(_), None) => {
                self.fault("nats.password", "missing; nats.user is given");
                kinds.push(("user", None));
            }
            (None, Some(_)) => {
                self.fault("nats.user", "missing; nats.password is given");
                kinds.push(("password", None));
            }
            (None, None) => {}
        }
        if let Some(token) = &raw.token {
            kinds.push(("token", Some(NatsAuth::Token(token.clone()))));
        }
        if let Some(nkey) = &raw.nkey {
            kinds.push(("nkey", Some(self.nkey(nkey))));
        }
        if let Some(creds) = &raw.creds {
            let path = self.file("nats.creds", creds);
            kinds.push(("creds", Some(NatsAuth::CredentialsFile(path))));
        }
        if let [(first, _), (second, _), ..] = kinds.as_slice() {
            let text = format!("is given besides nats.{first}; give one kind of credentials");
            self.fault(&format!("nats.{second}"), text);
        }
        match kinds.into_iter().next() {
            None => Some(NatsAuth::None),
            Some((_, auth)) => auth,
        }
    }

    fn nkey(&mut self, nkey: &Secret) -> NatsAuth {
        let text = nkey.reveal().trim();
        let base32 = |found: char| found.is_ascii_uppercase() || ('2'..='7').contains(&found);
        if text.starts_with("SU") && text.len() == 58 && text.chars().all(base32) {
            return NatsAuth::NKey(Secret::new(text));
        }
        if text.starts_with("SU") && !text.contains(['/', '.']) {
            self.fault("nats.nkey", "is no seed of an NKey: it has 58 characters of A-Z and 2-7");
            return NatsAuth::NKey(Secret::new(text));
        }
        let path = self.path("nats.nkey", text);
        if !path.is_file() {
            // The text is not told: it may be a seed with a slip.
            let text = "is neither the seed of an NKey, which begins with SU, nor a file";
            self.fault("nats.nkey", text);
        }
        NatsAuth::NKeyFile(path)
    }

    fn tls(&mut self, raw: &RawTls) -> NatsTls {
        let ca = raw.ca.as_ref().map(|path| self.file("nats.tls.ca", path));
        let client = match (&raw.cert, &raw.key) {
            (Some(cert), Some(key)) => {
                Some((self.file("nats.tls.cert", cert), self.file("nats.tls.key", key)))
            }
            (Some(_), None) => {
                self.fault("nats.tls.key", "missing; nats.tls.cert is given");
                None
            }
            (None, Some(_)) => {
                self.fault("nats.tls.cert", "missing; nats.tls.key is given");
                None
            }
            (None, None) => None,
        };
        let wanted = match (raw.first, raw.required) {
            (true, _) => TlsUse::First,
            (false, true) => TlsUse::Required,
            (false, false) => TlsUse::AsServerAsks,
        };
        NatsTls { ca, client, wanted }
    }

    /// An embedded server is one server with credentials of its own.
    fn embedded_only(&mut self, raw: &RawNats) {
        if self.is_faulty("nats.url")
            || self.is_faulty("nats.urls")
            || self.is_faulty("nats.context")
        {
            return;
        }
        if raw.profile == Profile::Production {
            let text = "is production, which keeps 3 replicas, but the embedded server is one; \
                        give nats.url";
            self.fault("nats.profile", text);
        }
        for (name, stream) in &raw.streams {
            if stream.replicas.is_some_and(|replicas| 1 < replicas) {
                let key = join(&join("nats.streams", name), "replicas");
                self.fault(&key, "the embedded server is one and keeps 1 replica; give nats.url");
            }
        }
        const CONNECTING: [&str; 9] = [
            "user",
            "password",
            "token",
            "nkey",
            "creds",
            "tls.required",
            "tls.first",
            "tls.ca",
            "tls.cert",
        ];
        for key in CONNECTING.map(|key| format!("nats.{key}")) {
            if self.is_written(&key) {
                let text = "has no effect: without nats.url an embedded server with credentials \
                            of its own is started";
                self.warn(&key, text);
            }
        }
    }

    fn streams(&mut self, raw: BTreeMap<String, RawStream>) -> BTreeMap<String, StreamSettings> {
        let mut streams = BTreeMap::new();
        let mut taken: Vec<(String, String)> = TAKEN_SUBJECTS
            .iter()
            .map(|subject| ((*subject).to_owned(), "provost".to_owned()))
            .collect();
        for (name, raw) in raw {
            let key = join("nats.streams", &name);
            if STREAM_NAME_MAX < name.len() || name.is_empty() || !name.chars().all(is_token_char) {
                let text = format!("a stream's name is 1..={STREAM_NAME_MAX} of A-Z a-z 0-9 _ -");
                self.fault(&key, text);
            }
            self.stream_subjects(&key, &name, &raw, &mut taken);
            if let (Some(window), Some(age)) = (raw.duplicate_window, raw.max_age)
                && age < window
            {
                self.smaller(&format!("{key}.max_age"), &format!("{key}.duplicate_window"));
            }
            let settings = StreamSettings {
                subjects: raw.subjects.unwrap_or_default(),
                max_age: raw.max_age.map(|age| age.0),
                max_bytes: raw.max_bytes.map(|size| size.0),
                max_messages: raw.max_messages,
                max_messages_per_subject: raw.max_messages_per_subject,
                replicas: raw.replicas,
                duplicate_window: raw.duplicate_window.map(|window| window.0),
                storage: raw.storage,
            };
            streams.insert(name, settings);
        }
        streams
    }

    fn stream_subjects(
        &mut self,
        key: &str,
        name: &str,
        raw: &RawStream,
        taken: &mut Vec<(String, String)>,
    ) {
        let key = format!("{key}.subjects");
        if OWN_STREAMS.contains(&name) {
            if raw.subjects.is_some() {
                self.fault(&key, format!("the subjects of {name} are fixed; remove them"));
            }
            return;
        }
        let Some(subjects) = &raw.subjects else {
            let own = OWN_STREAMS.join(", ");
            self.fault(
                &key,
                format!("missing; only provost's own streams have fixed ones ({own})"),
            );
            return;
        };
        for (index, subject) in subjects.iter().enumerate() {
            let key = format!("{key}[{index}]");
            if !is_subject(subject, Wildcards::Allowed) {
                self.fault_of(&key, subject, "is no subject");
                continue;
            }
            if let Some((other, owner)) = taken.iter().find(|(other, _)| overlap(subject, other)) {
                let text = format!("overlaps {other} of {owner}; a subject belongs to one stream");
                self.fault_of(&key, subject, text);
            }
            taken.push((subject.clone(), format!("stream {name}")));
        }
    }
}

/// Whether no server is named, so that one of our own is started.
fn is_embedded(raw: &RawNats) -> bool {
    raw.url.is_none() && raw.urls.is_none()
}

/// Why a text is no `scheme://[user[:password]@]host[:port]`; `None` if it is one. The scheme may
/// be left out.
pub(crate) fn address_fault(text: &str, schemes: &[&str]) -> Option<String> {
    let rest = match text.split_once("://") {
        Some((scheme, _)) if !schemes.contains(&scheme) => {
            let scheme: String = scheme.chars().take(32).collect();
            return Some(format!("has the scheme {scheme:?}; use {}", schemes.join(" or ")));
        }
        Some((_, rest)) => rest,
        None => text,
    };
    if text.contains(|found: char| found.is_whitespace() || found.is_control()) {
        return Some("is no address: it holds a space".to_owned());
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((inside, after)) => {
            (inside, after.strip_prefix(':').or((!after.is_empty()).then_some("x")))
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    if name.is_empty() {
        return Some("names no host".to_owned());
    }
    let port_is_wrong = |port: &str| !port.parse::<u16>().is_ok_and(|port| 0 < port);
    port.is_some_and(port_is_wrong).then(|| "has no valid port".to_owned())
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Wildcards {
    Allowed,
    Refused,
}

fn is_subject(text: &str, wildcards: Wildcards) -> bool {
    let tokens: Vec<&str> = text.split('.').collect();
    let last = tokens.len().saturating_sub(1);
    let fits = |(index, token): (usize, &&str)| match *token {
        "*" => wildcards == Wildcards::Allowed,
        ">" => wildcards == Wildcards::Allowed && index == last,
        "" => false,
        plain => plain.chars().all(|found| found.is_ascii_graphic() && !matches!(found, '*' | '>')),
    };
    text.len() <= 256 && tokens.iter().enumerate().all(fits)
}

/// Whether some subject is matched by both patterns.
fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(one), Some(other)) if one == other || one == "*" || other == "*" => {}
            (_, _) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        for text in ["nats://h", "h:4222", "tls://u:p@h:1", "nats://[::1]:4222", "127.0.0.1"] {
            assert_eq!(address_fault(text, &["nats", "tls"]), None, "{text}");
        }
        let wrong =
            ["", "nats://", "nats://:4222", "h:0", "h:70000", "h:x", "a b", "http://h", "[::1]x"];
        for text in wrong {
            assert!(address_fault(text, &["nats", "tls"]).is_some(), "{text}");
        }
    }

    #[test]
    fn patterns_overlap_when_one_subject_fits_both() {
        for (a, b) in
            [("a.>", "a.b"), ("*.b", "a.*"), ("a.b", "a.b"), (">", "x.y"), ("a.*.c", "a.>")]
        {
            assert!(overlap(a, b) && overlap(b, a), "{a} {b}");
        }
        for (a, b) in [("a.>", "a"), ("a.b", "a.c"), ("a.*", "a.b.c"), ("a", "b.>")] {
            assert!(!overlap(a, b) && !overlap(b, a), "{a} {b}");
        }
    }
}
