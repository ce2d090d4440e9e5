//! Builds and sends requests, and says what is known of those that failed.

use std::fmt;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Request, Url, redirect, retry};
use serde_json::Value;

use crate::adapters::AdapterError;
use crate::adapters::http::answer::{Answered, retry_after};
use crate::adapters::target::{Credentials, Target};
use crate::adapters::tls;
use crate::ports::{AttemptError, AttemptFate};
use crate::protocol::downstream::{CallError, CallErrorKind, CallRequest};

/// Largest answer that is read, in bytes; a larger one is an error of the downstream.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest time for a connection to be made, whatever the attempt's own.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// How long an idle connection is kept; below what servers usually allow (60 s and more), so that
/// it is closed here and not there, under a request.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Idle connections kept.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// Redirects followed.
const REDIRECTS_MAX: usize = 5;

/// Sends requests to one target.
#[derive(Clone)]
pub(crate) struct Sender {
    client: Client,
    target: Target,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Sender {
    pub(crate) fn new(target: Target, kind: &'static str) -> Result<Self, AdapterError> {
        if matches!(target.credentials, Credentials::NatsFile(_)) {
            let instead = "none, basic, bearer or client_certificate";
            return Err(AdapterError::Auth { auth: "nats", kind, instead });
        }
        let client = Client::builder()
            .tls_backend_preconfigured(tls::client_config(&target.tls)?)
            .user_agent(concat!("provost/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::limited(REDIRECTS_MAX))
            .retry(retry::never())
            .no_proxy()
            .connect_timeout(CONNECT_MAX)
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build()
            .map_err(|error| AdapterError::Client { reason: in_full(&error) })?;
        Ok(Self { client, target })
    }

    /// The request of a call.
    pub(crate) fn request(&self, call: &CallRequest) -> Result<Request, AttemptError> {
        let default = if call.params.is_null() { "GET" } else { "POST" };
        let method = call.method.as_deref().unwrap_or(default);
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_invalid| wrong(format!("{method:?} is no HTTP method")))?;
        let mut url = self.url(call.path.as_deref())?;
        let in_query = [Method::GET, Method::HEAD, Method::DELETE].contains(&method);
        if in_query && !call.params.is_null() {
            add_query(&mut url, &call.params)?;
        }
        let mut builder = self.client.request(method, url).headers(headers(call)?);
        if !in_query && !call.params.is_null() {
            builder = builder.json(&call.params);
        }
        self.built(builder)
    }

    /// A POST of a JSON document to the endpoint itself.
    pub(crate) fn post(
        &self,
        call: &CallRequest,
        document: &Value,
    ) -> Result<Request, AttemptError> {
        let url = self.url(call.path.as_deref())?;
        self.built(self.client.post(url).headers(headers(call)?).json(document))
    }

    fn built(&self, builder: reqwest::RequestBuilder) -> Result<Request, AttemptError> {
        let builder = match &self.target.credentials {
            Credentials::Basic { username, password } => {
                builder.basic_auth(username, Some(password))
            }
            Credentials::Bearer(token) => builder.bearer_auth(token),
            Credentials::None | Credentials::NatsFile(_) => builder,
        };
        builder.build().map_err(|error| wrong(in_full(&error)))
    }

    /// The endpoint's address with a path added; it never leads to another host.
    fn url(&self, path: Option<&str>) -> Result<Url, AttemptError> {
        let mut url = self.target.url.clone();
        let Some(path) = path else { return Ok(url) };
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        if path.split('/').any(|segment| segment == "..") {
            return Err(wrong("path may not contain `..`".to_owned()));
        }
        let base = url.path().trim_end_matches('/');
        let whole = format!("{base}/{}", path.trim_start_matches('/'));
        url.set_path(&whole);
        url.set_query(query);
        Ok(url)
    }

    /// Sends a request and reads the whole answer, within the time.
    pub(crate) async fn send(
        &self,
        request: Request,
        timeout: Duration,
    ) -> Result<Answered, AttemptError> {
        let exchange = self.exchange(request);
        tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|_elapsed| {
            let text = format!("no answer within {} ms", timeout.as_millis());
            let error = CallError::new(CallErrorKind::Timeout, text);
            Err(AttemptError { error, fate: AttemptFate::Unknown })
        })
    }

    async fn exchange(&self, request: Request) -> Result<Answered, AttemptError> {
        let mut response = self.client.execute(request).await.map_err(|error| lost(&error))?;
        let status = response.status().as_u16();
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = after.and_then(retry_after);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| lost(&error))? {
            if ANSWER_BYTES_MAX < body.len().saturating_add(chunk.len()) {
                let text = format!("its answer is larger than {ANSWER_BYTES_MAX} bytes");
                let error = CallError::new(CallErrorKind::RemoteError, text);
                return Err(AttemptError { error, fate: AttemptFate::Failed });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answered { status, retry_after, body })
    }

    /// GETs a health path of the host; 200 is well.
    pub(crate) async fn check(
        &self,
        path: &str,
        timeout: Duration,
    ) -> Result<Option<String>, AttemptError> {
        let mut url = self.target.url.clone();
        url.set_path(path);
        url.set_query(None);
        let request = self.built(self.client.get(url))?;
        let answered = self.send(request, timeout).await?;
        if answered.status == 200 {
            return Ok(None);
        }
        let text = format!("{path} answers {}", answered.status);
        let mut error = CallError::new(CallErrorKind::RemoteError, text);
        error.code = Some(i64::from(answered.status));
        Err(AttemptError { error, fate: AttemptFate::Failed })
    }
}

/// Headers that a call may not set: they are the client's or the configuration's.
const OWN_HEADERS: [&str; 5] =
    ["host", "content-length", "transfer-encoding", "connection", "authorization"];

fn headers(call: &CallRequest) -> Result<HeaderMap, AttemptError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        if OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            return Err(wrong(format!("header {name} may not be set by a call")));
        }
        let known = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_invalid| wrong(format!("{name:?} is no header name")))?;
        let value = HeaderValue::from_str(value)
            .map_err(|_invalid| wrong(format!("header {name} has no valid value")))?;
        headers.insert(known, value);
    }
    if let Some(key) = &call.idempotency_key {
        let value = HeaderValue::from_str(key)
            .map_err(|_invalid| wrong("idempotency_key is no header value".to_owned()))?;
        headers.insert(HeaderName::from_static("idempotency-key"), value);
    }
    Ok(headers)
}

fn add_query(url: &mut Url, params: &Value) -> Result<(), AttemptError> {
    let Some(entries) = params.as_object() else {
        return Err(wrong("params of a GET, HEAD or DELETE must be an object".to_owned()));
    };
    let mut query = url.query_pairs_mut();
    for (name, value) in entries {
        match value {
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) => {
                query.append_pair(name, &value.to_string());
            }
            Value::String(text) => {
                query.append_pair(name, text);
            }
            Value::Array(_) | Value::Object(_) => {
                return Err(wrong(format!("params.{name} cannot stand in a query")));
            }
        }
    }
    Ok(())
}

/// A call that cannot be sent as it is.
pub(crate) fn wrong(message: String) -> AttemptError {
    let error = CallError::new(CallErrorKind::InvalidRequest, message);
    AttemptError { error, fate: AttemptFate::Rejected }
}

/// What is known of a request without a whole answer.
fn lost(error: &reqwest::Error) -> AttemptError {
    let text = in_full(error);
    if error.is_builder() {
        return wrong(text);
    }
    let (kind, fate) = if error.is_connect() {
        (CallErrorKind::Unavailable, AttemptFate::NotSent)
    } else if error.is_timeout() {
        (CallErrorKind::Timeout, AttemptFate::Unknown)
    } else if error.is_redirect() {
        (CallErrorKind::RemoteError, AttemptFate::Failed)
    } else {
        (CallErrorKind::Unavailable, AttemptFate::Unknown)
    };
    AttemptError { error: CallError::new(kind, text), fate }
}

/// An error with its causes in one line, without the address, which may hold secrets in its query.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut texts = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        texts.push(cause.to_string());
        next = cause.source();
    }
    if texts.is_empty() { error.to_string() } else { texts.join(": ") }
}
