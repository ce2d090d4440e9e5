//! Connections of provost to a test's server, services that run beside a test, and certificates.

use std::path::PathBuf;
use std::time::Duration;

use provost::ports::{Ready, Service, ServiceError};
use provost::transport::connect::Connection;
use provost::transport::settings::{ClientCertificate, ConnectSettings};
use provost::transport::slot::ConnectionSlot;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::nats::NatsServer;

/// Settings for a server without authentication and TLS.
pub(crate) fn settings(server: &NatsServer) -> ConnectSettings {
    ConnectSettings {
        reconnect_wait: Duration::from_millis(20),
        ..ConnectSettings::to(server.url().parse().unwrap())
    }
}

/// Settings with a subject prefix.
pub(crate) fn settings_under(server: &NatsServer, prefix: &str) -> ConnectSettings {
    ConnectSettings { prefix: prefix.parse().unwrap(), ..settings(server) }
}

/// A connection to a server without authentication and TLS.
pub(crate) async fn connect(server: &NatsServer) -> Connection {
    Connection::open(&settings(server)).await.unwrap()
}

/// A connection with a subject prefix.
pub(crate) async fn connect_under(server: &NatsServer, prefix: &str) -> Connection {
    Connection::open(&settings_under(server, prefix)).await.unwrap()
}

/// A slot that holds a connection.
pub(crate) fn slot_with(connection: Connection) -> ConnectionSlot {
    let slot = ConnectionSlot::new();
    slot.put(connection);
    slot
}

/// A service that runs beside the test and ends with it.
pub(crate) struct RunningService {
    stop: CancellationToken,
    outcome: JoinHandle<Result<(), ServiceError>>,
}

impl RunningService {
    /// Starts a service and waits until it is ready or has ended.
    pub(crate) async fn start(service: &dyn Service) -> Self {
        let stop = CancellationToken::new();
        let (told, ready) = tokio::sync::oneshot::channel();
        let ready_made = Ready::new(move || told.send(()).unwrap_or_default());
        let outcome = tokio::spawn(service.run(stop.clone(), ready_made));
        // An error means that the service ended first; its outcome tells.
        ready.await.unwrap_or_default();
        Self { stop, outcome }
    }

    /// Asks it to stop and returns its outcome.
    pub(crate) async fn stop(self) -> Result<(), ServiceError> {
        self.stop.cancel();
        self.outcome().await
    }

    /// Waits for its end.
    pub(crate) async fn outcome(mut self) -> Result<(), ServiceError> {
        tokio::time::timeout(super::DEADLINE, &mut self.outcome).await.unwrap().unwrap()
    }
}

impl Drop for RunningService {
    fn drop(&mut self) {
        self.outcome.abort();
    }
}

/// An authority and certificates of it, as PEM files in a folder of their own.
pub(crate) struct Certificates {
    dir: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    /// A new authority.
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::default();
        let name = format!("authority {}", fastrand::u64(..));
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        Self { dir, authority }
    }

    /// The authority's certificate.
    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A new certificate for a name or address.
    pub(crate) fn issue(&self, name: &str) -> ClientCertificate {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.authority).unwrap();
        let path = |kind: &str| self.dir.path().join(format!("{name}-{kind}.pem"));
        std::fs::write(path("cert"), certificate.pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        ClientCertificate { cert: path("cert"), key: path("key") }
    }
}
