//! From an agent's settings to what the keeper is told: limits of its processes, and who they are.

use std::collections::BTreeMap;

use crate::config::{Account, account};
use crate::protocol::exit::StartError;
use crate::protocol::id::Generation;
use crate::protocol::spec::AgentSpec;
use crate::runtimes::keeper::{Confines, Hold, Identity};

/// Who the agent's processes are to be; `None` for the daemon's own user.
///
/// # Errors
///
/// A user or group that was there when the settings were checked and is not any more.
pub(crate) async fn account_of(spec: &AgentSpec) -> Result<Option<Account>, StartError> {
    let limits = &spec.care.limits;
    if limits.user.is_none() && limits.group.is_none() {
        return Ok(None);
    }
    let (user, group) = (limits.user.clone(), limits.group.clone());
    // The directory of users may be on the network.
    let asked =
        tokio::task::spawn_blocking(move || account(user.as_deref(), group.as_deref())).await;
    let message = match asked {
        Ok(Ok(account)) => return Ok(account),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    let program = spec.command.first().cloned().unwrap_or_default();
    Err(StartError::System { program, message })
}

/// What the processes of one run may use, and who they are.
pub(crate) fn confines(
    spec: &AgentSpec,
    generation: Generation,
    account: Option<&Account>,
) -> Confines {
    let limits = &spec.care.limits;
    let identity = account.map(|account| Identity {
        uid: account.uid,
        gid: account.gid,
        groups: account.groups.clone(),
    });
    Confines {
        name: format!("{}.{generation}", spec.name),
        hold: Hold::Strongest,
        memory_bytes: memory_limit(spec),
        pids: limits.pids,
        cpu_weight: limits.cpu_weight,
        open_files: limits.open_files,
        core_bytes: limits.core_bytes,
        privileges: limits.privileges,
        identity,
    }
}

/// The agent's memory limit in bytes.
pub(crate) fn memory_limit(spec: &AgentSpec) -> Option<u64> {
    spec.max_memory_mb.map(|mib| mib.saturating_mul(1 << 20))
}

/// What a login of that user would find in its environment.
pub(crate) fn login(account: Option<&Account>) -> BTreeMap<String, String> {
    let Some(entry) = account.and_then(|account| account.entry.as_ref()) else {
        return BTreeMap::new();
    };
    let entries = [
        ("HOME", entry.home.display().to_string()),
        ("LOGNAME", entry.name.clone()),
        ("SHELL", entry.shell.display().to_string()),
        ("USER", entry.name.clone()),
    ];
    entries.map(|(name, value)| (name.to_owned(), value)).into()
}
