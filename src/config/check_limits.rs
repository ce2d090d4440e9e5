//! Checks of what the processes of an agent type may use.

use crate::config::check::Checker;
use crate::config::raw_agent::RawLimits;
use crate::config::tree::join;
use crate::config::users;
use crate::protocol::care::{LimitsSpec, Privileges};
use crate::protocol::spec::RuntimeKind;

impl Checker<'_> {
    /// Limits of one agent type. Users and groups must be there, and be possible for this process.
    pub(crate) fn limits(
        &mut self,
        key: &str,
        raw: &RawLimits,
        runtime: RuntimeKind,
    ) -> LimitsSpec {
        if let Some(where_it_runs) = without_processes(runtime)
            && self.is_written(key)
        {
            self.fault(key, format!("limits hold processes, and {where_it_runs}; remove them"));
        }
        self.account(key, raw);
        if raw.output_size.is_some_and(|size| size.0 == 0) {
            let text = "would end the agent at its first line; leave it out for no limit";
            self.fault(&join(key, "output_size"), text);
        }
        let own = LimitsSpec {
            pids: raw.pids,
            cpu_weight: raw.cpu_weight,
            open_files: raw.open_files,
            core_bytes: Some(raw.core_size.0),
            output_bytes: raw.output_size.map(|size| size.0),
            run_time: raw.run_time.map(|span| span.0),
            privileges: if raw.no_new_privs { Privileges::NoNew } else { Privileges::MayGain },
            user: raw.user.clone(),
            group: raw.group.clone(),
        };
        match without_processes(runtime) {
            Some(_) => LimitsSpec::default(),
            None => own,
        }
    }

    fn account(&mut self, key: &str, raw: &RawLimits) {
        let Err(error) = users::account(raw.user.as_deref(), raw.group.as_deref()) else { return };
        let name = match raw.user {
            Some(_) if !error.is_about_group() => "user",
            Some(_) if raw.group.is_none() => "user",
            Some(_) | None => "group",
        };
        self.fault(&join(key, name), error.to_string());
    }
}

/// Why an agent of this kind has no processes here.
fn without_processes(runtime: RuntimeKind) -> Option<&'static str> {
    match runtime {
        RuntimeKind::Process | RuntimeKind::Stdio | RuntimeKind::Exec => None,
        RuntimeKind::Remote => Some("a remote agent is started elsewhere"),
        RuntimeKind::InProcess => Some("an in_process agent is a part of the daemon"),
    }
}
