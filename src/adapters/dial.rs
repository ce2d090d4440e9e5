//! TCP and TLS to a broker: one way for all kinds that bring a protocol of their own over a stream.
//!
//! Not for what is spoken on the stream, and not for HTTP, WebSocket and NATS, whose libraries dial.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::adapters::AdapterError;
use crate::adapters::target::Target;
use crate::adapters::tls;

/// An open stream.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Opens streams to one target.
#[derive(Clone)]
pub(crate) struct Dialer {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Ports of a kind where none is given: plain and with TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) plain: u16,
    pub(crate) tls: u16,
}

impl Dialer {
    /// Reads the address and, where `tls_schemes` holds its scheme, what TLS needs.
    pub(crate) fn new(
        target: &Target,
        tls_schemes: &[&str],
        ports: Ports,
    ) -> Result<Self, AdapterError> {
        let fault = |reason: String| AdapterError::Address {
            address: target.url.as_str().to_owned(),
            reason,
        };
        let host = target.url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let uses_tls = tls_schemes.contains(&target.url.scheme());
        let port = target.url.port().unwrap_or(if uses_tls { ports.tls } else { ports.plain });
        let tls = if uses_tls {
            let name = ServerName::try_from(host.clone())
                .map_err(|error| fault(format!("TLS cannot check its host: {error}")))?;
            Some((TlsConnector::from(Arc::new(tls::client_config(&target.tls)?)), name))
        } else {
            None
        };
        Ok(Self { host, port, tls })
    }

    /// Opens a stream. Not bounded in time; the caller bounds it together with the login.
    pub(crate) async fn dial(&self) -> io::Result<Stream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Stream::Plain(stream)),
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                let stream = stream.map_err(|error| {
                    io::Error::new(error.kind(), format!("TLS does not come about: {error}"))
                })?;
                Ok(Stream::Tls(Box::new(stream)))
            }
        }
    }

    /// Host and port, for messages.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
