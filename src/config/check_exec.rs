//! Checks of what an exec agent's tasks are run with.

use crate::config::check::Checker;
use crate::config::raw_agent::RawExec;
use crate::config::tree::join;
use crate::logic::template;
use crate::protocol::spec::{ExecOutput, ExecSpec, RuntimeKind};

impl Checker<'_> {
    /// Refuses a pointer that is none, or that stands where nothing is picked.
    pub(crate) fn exec(&mut self, key: &str, runtime: RuntimeKind, raw: RawExec) -> ExecSpec {
        let key = join(key, "exec");
        let RawExec { stdin, stdout, pointer, max_output_bytes } = raw;
        let spec = ExecSpec { stdin, stdout, pointer, max_output_bytes };
        if runtime != RuntimeKind::Exec && spec != ExecSpec::default() {
            self.fault(&key, "only an exec agent has a process for each task; remove it");
            return spec;
        }
        let pointer_key = join(&key, "pointer");
        if !spec.pointer.is_empty() && !spec.pointer.starts_with('/') {
            let text = "is no JSON Pointer; it is empty or begins with '/', like /result/0";
            self.fault_of(&pointer_key, &spec.pointer, text);
        } else if !spec.pointer.is_empty() && spec.stdout == ExecOutput::Text {
            let text = "points into JSON; set stdout = \"json\" or \"jsonl\"";
            self.fault_of(&pointer_key, &spec.pointer, text);
        }
        spec
    }

    /// Refuses arguments whose places for the input cannot be read.
    pub(crate) fn templates(&mut self, key: &str, arguments: &[String]) {
        for (index, argument) in arguments.iter().enumerate() {
            if let Err(fault) = template::check(argument) {
                self.fault(&format!("{key}[{index}]"), fault.to_string());
            }
        }
        let program = arguments.first().filter(|_| key.ends_with("command"));
        if program.is_some_and(|program| program.contains("{{input")) {
            self.fault(&format!("{key}[0]"), "a task's input cannot choose the program");
        }
    }
}
