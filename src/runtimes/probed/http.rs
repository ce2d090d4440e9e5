//! A GET as kubelet does it: 200 to 399 is success, redirects are followed on the same host only
//! (to another host they count as success), nothing is reused, certificates are not checked.

use std::future::poll_fn;
use std::pin::{Pin, pin};

use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::runtimes::probed::tls;

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 10;

/// Bytes of a body that are read; the rest is left.
const BODY_BYTES_MAX: usize = 10 * 1024;

/// Characters of a body that are told.
const TOLD_CHARS_MAX: usize = 200;

/// What a server answered.
struct Answer {
    status: StatusCode,
    location: Option<String>,
    body: Vec<u8>,
}

/// Asks once; gives what the server made of it, or why there was no answer.
pub(super) async fn get(address: &str) -> Result<Result<(), String>, String> {
    let first: Uri = address.parse::<Uri>().map_err(|error| format!("is no address: {error}"))?;
    let mut uri = first.clone();
    for _ in 0..=REDIRECTS_MAX {
        let answer = Box::pin(fetch(&uri)).await?;
        let next = answer.location.as_deref().filter(|_| follows(answer.status));
        let Some(next) = next else { return Ok(judge(&answer)) };
        let next = resolve(&uri, next)?;
        if next.host() != first.host() {
            // The server works well enough to send somebody elsewhere.
            return Ok(Ok(()));
        }
        uri = next;
    }
    Ok(Err(format!("more than {REDIRECTS_MAX} redirects")))
}

fn follows(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn judge(answer: &Answer) -> Result<(), String> {
    if (200..400).contains(&answer.status.as_u16()) {
        return Ok(());
    }
    let body = String::from_utf8_lossy(&answer.body);
    let shown = |char: char| if char.is_control() { ' ' } else { char };
    let told: String = body.chars().take(TOLD_CHARS_MAX).map(shown).collect();
    let status = answer.status.as_u16();
    Err(match told.trim() {
        "" => format!("answered with status {status}"),
        told => format!("answered with status {status}: {told}"),
    })
}

/// Where a redirect leads, seen from where it was given.
fn resolve(from: &Uri, location: &str) -> Result<Uri, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("redirects to {location:?}: {error}");
    if location.contains("://") {
        return location.parse::<Uri>().map_err(|error| wrong(&error));
    }
    let scheme = from.scheme_str().unwrap_or("http");
    let authority = from.authority().map_or("", |authority| authority.as_str());
    let whole = if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    whole.parse::<Uri>().map_err(|error| wrong(&error))
}

async fn fetch(uri: &Uri) -> Result<Answer, String> {
    let host = uri.host().ok_or("has no host")?;
    // An address of IPv6 stands in brackets in a URI only.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        other => return Err(format!("scheme {other:?} is neither http nor https")),
    };
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
    if secure {
        let stream = tls::connect(host, stream).await?;
        Box::pin(exchange(uri, stream)).await
    } else {
        Box::pin(exchange(uri, stream)).await
    }
}

async fn exchange(
    uri: &Uri,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Answer, String> {
    let failed = |error: hyper::Error| in_full(&error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("provost-probe/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(String::new())
        .map_err(|error| error.to_string())?;
    let mut exchange = pin!(async move {
        let response = sender.send_request(request).await.map_err(failed)?;
        let location = response.headers().get(LOCATION);
        let location = location.and_then(|value| Some(value.to_str().ok()?.to_owned()));
        let status = response.status();
        let body = body_of(response).await.map_err(failed)?;
        Ok(Answer { status, location, body })
    });
    let mut connection = pin!(connection);
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            // Both are pinned outside, so that neither is lost when the other is ready.
            answer = &mut exchange => return answer,
            _closed = &mut connection, if open => open = false,
        }
    }
}

async fn body_of(response: Response<Incoming>) -> Result<Vec<u8>, hyper::Error> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while bytes.len() < BODY_BYTES_MAX {
        // Cancel safe: the body is dropped with this.
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let Some(frame) = frame else { break };
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// The error and its causes in one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_seen_from_where_they_were_given() {
        let check = |from: &str, location: &str, expected: &str| {
            let resolved = resolve(&from.parse().unwrap(), location).unwrap();
            assert_eq!(resolved.to_string(), expected);
        };
        check("http://h:1/a/b", "c", "http://h:1/a/c");
        check("http://h:1/a/b", "/c?d", "http://h:1/c?d");
        check("https://h", "//other/x", "https://other/x");
        check("https://h/x", "http://h/y", "http://h/y");
        assert!(resolve(&"http://h/".parse().unwrap(), "http:// /").is_err());
    }
}
