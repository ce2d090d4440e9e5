//! Tells who changed the configuration, how and when, or tried to.

use crate::daemon::reload::{Comparison, Inner, Via};
use crate::ports::{EventDraft, EventSource};
use crate::protocol::command::CommandError;
use crate::protocol::decision::Inputs;
use crate::protocol::fact::{Fact, Severity, SystemReported};
use crate::protocol::id::{ChildName, SubjectId};
use crate::protocol::reload::{ChangeOp, Effect, ReloadRequest};

/// Changes that an event names; the rest is counted.
const CHANGES_TOLD_MAX: usize = 50;

impl Inner {
    pub(super) fn tell_done(&self, request: &ReloadRequest, via: Via, comparison: &Comparison) {
        let changes = &comparison.difference.changes;
        let count = |wanted: ChangeOp| {
            let count = changes.iter().filter(|change| change.op == wanted).count();
            u64::try_from(count).unwrap_or(u64::MAX)
        };
        let held = changes.iter().filter(|change| change.effect == Effect::RestartsDaemon).count();
        let named: Vec<String> = changes
            .iter()
            .take(CHANGES_TOLD_MAX)
            .map(|change| match &change.key {
                Some(key) => format!("{} {key}", change.name),
                None => change.name.clone(),
            })
            .collect();
        let details = asked(request, via)
            .with("fingerprint", comparison.fingerprint.clone())
            .with("added", count(ChangeOp::Add))
            .with("removed", count(ChangeOp::Remove))
            .with("changed", count(ChangeOp::Change))
            .with("held", u64::try_from(held).unwrap_or(u64::MAX))
            .with("changes", named.join(", "));
        tracing::info!(via = via.as_str(), changes = changes.len(), held, "configuration reloaded");
        self.emit("config_reloaded", details, Severity::Info);
    }

    /// Tells of a reload that was refused; a look does nothing and is not told.
    pub(super) fn refuse(
        &self,
        request: &ReloadRequest,
        via: Via,
        error: CommandError,
    ) -> CommandError {
        if request.dry_run {
            return error;
        }
        tracing::error!(
            via = via.as_str(),
            error = error.message,
            hint = error.hint,
            "configuration not reloaded"
        );
        self.told().status.refused = Some(error.message.clone());
        let details = asked(request, via).with("error", error.message.clone());
        self.emit("config_refused", details, Severity::Medium);
        error
    }

    fn emit(&self, what: &str, details: Inputs, severity: Severity) {
        let Ok(name) = "config".parse::<ChildName>() else { return };
        self.parts.tree.ports().sink.emit(EventDraft {
            fact: Fact::System(SystemReported { what: what.to_owned(), details }),
            about: SubjectId::from(&name),
            source: EventSource { kind: "daemon", name },
            severity,
            correlation: None,
            causation: None,
            generation: None,
        });
    }
}

/// Who asked, and why.
fn asked(request: &ReloadRequest, via: Via) -> Inputs {
    let mut details = Inputs::default().with("via", via.as_str());
    if let Some(by) = &request.by {
        details = details.with("by", by.clone());
    }
    if let Some(reason) = &request.reason {
        details = details.with("reason", reason.clone());
    }
    details
}
