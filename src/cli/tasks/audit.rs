//! `provost task audit`: holds the whole log of tasks against its rules.

use serde_json::{Value, json};

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output::{Item, Page};
use crate::cli::tasks::Bench;
use crate::cli::tasks::arguments::AuditArguments;
use crate::cli::tasks::client::{ResultSeen, record_of};
use crate::logic::audit::{Audit, Quiet, Violation};
use crate::protocol::id::{EventId, TaskId};
use crate::transport::tasks::TASK_LOG;
use crate::transport::tasks::reader::{Found, Which};

impl Bench<'_> {
    pub(super) async fn audit(&mut self, arguments: &AuditArguments) -> Result<Exit, Failure> {
        // Both kinds of messages in the order of the stream.
        let mut audit = Audit::default();
        let mut strange: u64 = 0;
        let prefix = self.client.connection().prefix().clone();
        self.client
            .each(TASK_LOG, "coordination.>", Which::All, |found| {
                let subject = prefix.strip(&found.subject).unwrap_or_default().to_owned();
                if !take(&mut audit, &subject, &found) {
                    strange = strange.saturating_add(1);
                }
            })
            .await?;
        let quiet = if arguments.quiet { Quiet::Yes } else { Quiet::No };
        let open = if arguments.quiet { self.client.waiting().await? } else { Vec::new() };
        let (tally, mut violations) = audit.finish(quiet);
        violations.extend(open.into_iter().map(|waiting| Violation {
            task: waiting.id,
            sequence: waiting.sequence,
            rule: "never_ended",
            said: "its submission is still in its stream".to_owned(),
        }));
        let clean = violations.is_empty() && strange == 0;
        let mut page = Page::default();
        for violation in &violations {
            let Violation { task, sequence, rule, said } = violation;
            let value = json!({
                "task_id": task, "sequence": sequence, "rule": rule, "message": said,
            });
            page.text.push(format!("{rule}: task {task}, record {sequence}: {said}"));
            page.items.push(Item { name: task.to_string(), value });
        }
        let states: Vec<String> =
            tally.tasks.iter().map(|(state, count)| format!("{count} {state}")).collect();
        page.text.push(format!(
            "{} records, {} violations, {strange} unreadable; tasks: {}",
            tally.records,
            violations.len(),
            if states.is_empty() { "none".to_owned() } else { states.join(", ") },
        ));
        page.document = json!({
            "ok": clean,
            "records": tally.records,
            "tasks": tally.tasks,
            "unreadable": strange,
            "violations": page.items.iter().map(|item| &item.value).collect::<Vec<_>>(),
        });
        page.print(self.console, self.common.output)?;
        Ok(if clean { Exit::Done } else { Exit::Bad })
    }
}

/// Takes a message; tells whether it was understood.
fn take(audit: &mut Audit, subject: &str, found: &Found) -> bool {
    if subject.starts_with("coordination.log.") {
        let Some(record) = record_of(found) else { return false };
        audit.record(found.sequence, &record);
        return true;
    }
    let Some(id) = subject.strip_prefix("coordination.results.") else { return true };
    let Some(seen) = ResultSeen::read(&found.payload) else { return false };
    let event =
        seen.document.get("id").and_then(Value::as_str).and_then(|id| id.parse::<EventId>().ok());
    let (Some(event), Ok(id)) = (event, id.parse::<TaskId>()) else { return false };
    audit.result(found.sequence, &id, event, seen.data.state);
    true
}
