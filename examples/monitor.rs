//! Prints every supervision event as it happens: `cargo run --example monitor [URL]`.
//!
//! Any NATS client in any language can do the same; of provost only the envelope's type is used.

use futures_util::StreamExt as _;
use provost::protocol::event::Envelope;

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, reason = "printing is what it is for")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    let client = async_nats::connect(url).await?;
    let mut events = client.subscribe("supervision.>").await?;
    while let Some(message) = events.next().await {
        let event: Envelope = serde_json::from_slice(&message.payload)?;
        println!("{} {} {}", event.time, message.subject, event.data);
    }
    Ok(())
}
