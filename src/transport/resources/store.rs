//! The KV bucket in which resources are kept: one entry a resource, written by compare-and-set.

use async_nats::jetstream::kv;
use bytes::Bytes;

use crate::ports::ServiceError;
use crate::protocol::id::SubjectId;
use crate::protocol::resource::KeptResource;
use crate::transport::connect::Connection;

/// Name of the bucket, without prefix.
pub const BUCKET: &str = "RESOURCES";

/// The bucket.
#[derive(Clone, Debug)]
pub(crate) struct ResourceStore {
    bucket: kv::Store,
}

/// An entry as it was read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) kept: KeptResource,
    /// 0 when there is none yet.
    pub(crate) revision: u64,
}

impl ResourceStore {
    /// Opens the bucket, or makes it.
    pub(crate) async fn open(
        connection: &Connection,
        replicas: usize,
    ) -> Result<Self, ServiceError> {
        let jetstream = connection.jetstream();
        let name = connection.prefix().stream_name(BUCKET);
        if let Ok(bucket) = jetstream.get_key_value(name.clone()).await {
            return Ok(Self { bucket });
        }
        let config = kv::Config {
            bucket: name.clone(),
            description: "Leases of shared resources.".to_owned(),
            history: 1,
            num_replicas: replicas,
            ..kv::Config::default()
        };
        let made = jetstream.create_key_value(config).await;
        let bucket = made.map_err(|error| {
            let hint = "check the server's jetstream limits and our permissions";
            ServiceError::new(format!("bucket {name} cannot be made: {error}; {hint}"))
        })?;
        Ok(Self { bucket })
    }

    /// Reads an entry.
    pub(crate) async fn load(&self, name: &SubjectId) -> Result<Found, String> {
        let entry = self.bucket.entry(name.as_str()).await.map_err(|error| error.to_string())?;
        let Some(entry) = entry.filter(|entry| entry.operation == kv::Operation::Put) else {
            return Ok(Found { kept: KeptResource::default(), revision: 0 });
        };
        let kept = serde_json::from_slice(&entry.value)
            .map_err(|error| format!("what is kept of {name} cannot be read: {error}"))?;
        Ok(Found { kept, revision: entry.revision })
    }

    /// Writes an entry, if it is still as it was read; gives its new revision.
    pub(crate) async fn save(
        &self,
        name: &SubjectId,
        kept: &KeptResource,
        revision: u64,
    ) -> Result<u64, String> {
        let text = serde_json::to_vec(kept).map_err(|error| error.to_string())?;
        let saved = self.bucket.update(name.as_str(), Bytes::from(text), revision).await;
        saved.map_err(|error| error.to_string())
    }
}
