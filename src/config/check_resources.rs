//! Checks of shared resources.

use std::collections::BTreeMap;

use crate::config::check::Checker;
use crate::config::checked::Undeclared;
use crate::config::raw_resources::{RawResource, RawResourceKind, RawUndeclared};
use crate::config::tree::join;
use crate::logic::resources::ResourceSpec;
use crate::protocol::id::SubjectId;

impl Checker<'_> {
    /// All declared resources. Their names stand in subjects.
    pub(crate) fn resources(
        &mut self,
        raw: &BTreeMap<String, RawResource>,
    ) -> BTreeMap<SubjectId, ResourceSpec> {
        let mut resources = BTreeMap::new();
        for (name, resource) in raw {
            let key = join("resources", name);
            let id = match name.parse::<SubjectId>() {
                Ok(id) => id,
                Err(error) => {
                    self.fault(&key, error.to_string());
                    continue;
                }
            };
            resources.insert(id, self.resource(&key, resource));
        }
        resources
    }

    fn resource(&mut self, key: &str, raw: &RawResource) -> ResourceSpec {
        if raw.kind == RawResourceKind::Lock && raw.capacity != 1 {
            let text = "a lock has one holder at a time; leave it out, or set kind = \"pool\"";
            self.fault(&join(key, "capacity"), text);
        }
        if raw.kind != RawResourceKind::Quota && self.is_written(&join(key, "period")) {
            let text = "only a quota has a period; leave it out, or set kind = \"quota\"";
            self.fault(&join(key, "period"), text);
        }
        match raw.kind {
            RawResourceKind::Lock => ResourceSpec::LOCK,
            RawResourceKind::Pool => ResourceSpec::pool(raw.capacity),
            RawResourceKind::Quota => {
                let period = u64::try_from(raw.period.0.as_millis()).unwrap_or(u64::MAX);
                ResourceSpec::quota(raw.capacity, period)
            }
        }
    }
}

impl From<RawUndeclared> for Undeclared {
    fn from(raw: RawUndeclared) -> Self {
        match raw {
            RawUndeclared::Lock => Self::Lock,
            RawUndeclared::Refuse => Self::Refuse,
        }
    }
}
