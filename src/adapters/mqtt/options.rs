//! Settings of an MQTT session, and what the library is told of them.

use rumqttc::{
    AckMode, Broker, BrokerSessionResumePolicy, IncomingPacketSizeLimit, LastWill, MqttOptions,
};

use crate::adapters::AdapterError;
use crate::adapters::dial::{Dialer, Ports};
use crate::adapters::mqtt::quality;
use crate::adapters::patience::CONNECT_MAX;
use crate::adapters::target::{Credentials, Target};
use crate::config::Subscription;

/// Largest packet that is taken, in bytes.
const PACKET_BYTES_MAX: u32 = 17 * 1024 * 1024;

/// Messages of quality 1 and 2 that the broker may send before we have confirmed.
pub(super) const UNCONFIRMED_MAX: u16 = 256;

/// What a session is made from.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    target: Target,
    dialer: Dialer,
}

impl Settings {
    pub(super) fn new(target: Target) -> Result<Self, AdapterError> {
        let auth = match target.credentials {
            Credentials::None | Credentials::Basic { .. } => None,
            Credentials::Bearer(_) => Some("bearer"),
            Credentials::NatsFile(_) => Some("nats"),
        };
        if let Some(auth) = auth {
            let instead = "none, basic or client_certificate";
            return Err(AdapterError::Auth { auth, kind: "mqtt", instead });
        }
        let ports = Ports { plain: 1883, tls: 8883 };
        let dialer = Dialer::new(&target, &["mqtts", "ssl"], ports)?;
        Ok(Self { target, dialer })
    }

    pub(super) fn client_id(&self) -> &str {
        &self.target.client_id
    }

    pub(super) fn subscriptions(&self) -> &[Subscription] {
        &self.target.subscriptions
    }

    pub(super) fn address(&self) -> String {
        self.dialer.address()
    }

    /// The options of the library: dialling and TLS are ours, and so are confirmations.
    pub(super) fn options(&self) -> MqttOptions {
        let target = &self.target;
        // The name of the host is only written down there: the connector dials.
        let broker = Broker::tcp("broker", 1883);
        let mut options = MqttOptions::new(target.client_id.clone(), broker);
        let dialer = self.dialer.clone();
        options.set_socket_connector(move |_host, _options| {
            let dialer = dialer.clone();
            async move { dialer.dial().await }
        });
        let keep_alive = u16::try_from(target.keep_alive.as_secs()).unwrap_or(u16::MAX).max(1);
        options.set_keep_alive(keep_alive);
        options.set_connect_timeout(CONNECT_MAX);
        options.set_ack_mode(AckMode::Manual);
        let limit = IncomingPacketSizeLimit::Bytes(PACKET_BYTES_MAX);
        options.set_incoming_packet_size_limit(limit);
        options.set_receive_maximum(Some(UNCONFIRMED_MAX));
        let expiry = u32::try_from(target.session_expiry.as_secs()).unwrap_or(u32::MAX);
        options.set_session_expiry_interval(Some(expiry));
        options.set_clean_start(expiry == 0);
        // What the broker kept for us while no daemon ran is taken.
        options.set_broker_session_resume_policy(BrokerSessionResumePolicy::AllowBrokerOnly);
        if let Credentials::Basic { username, password } = &target.credentials {
            options.set_credentials(username.clone(), password.clone());
        }
        if let Some(will) = &target.will {
            let qos = quality(will.qos);
            let message = will.message.clone();
            let will = LastWill::new(will.topic.clone(), message, qos, will.retain, None);
            options.set_last_will(will);
        }
        options
    }
}
