//! Users and groups of this machine: from what a file says to numbers.
//!
//! Asked of the system's own directories (`nsswitch.conf`), which may be on the network: not to be
//! called where nothing may wait.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// Who a process is to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// User.
    pub uid: u32,
    /// Main group.
    pub gid: u32,
    /// All further groups.
    pub groups: Vec<u32>,
    /// What the directory says of the user; none for a number without entry.
    pub entry: Option<AccountEntry>,
}

/// A user's entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccountEntry {
    /// Name.
    pub name: String,
    /// Home folder.
    pub home: PathBuf,
    /// Shell.
    pub shell: PathBuf,
}

/// Why nobody can be that user or group.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AccountError {
    /// There is no such user.
    #[error("no user {name:?} on this machine; create it, or give the number of one")]
    NoUser {
        /// As it was written.
        name: String,
    },
    /// There is no such group.
    #[error("no group {name:?} on this machine; create it, or give the number of one")]
    NoGroup {
        /// As it was written.
        name: String,
    },
    /// A number that no user has, and no group besides.
    #[error(
        "user {uid} has no entry on this machine, so its group is not known; give `group`, too"
    )]
    GroupNeeded {
        /// The number.
        uid: u32,
    },
    /// Only root may take another user or group.
    #[error(
        "only root can run agents as another user or group, and this is user {uid}; leave it out, or start provost as root"
    )]
    NotRoot {
        /// Who this is.
        uid: u32,
    },
    /// The directory could not be read.
    #[error("cannot look up {name:?}: {message}")]
    Unreadable {
        /// As it was written.
        name: String,
        /// What the operating system said.
        message: String,
    },
}

impl AccountError {
    /// Whether it is the group that is wrong.
    #[must_use]
    pub fn is_about_group(&self) -> bool {
        matches!(self, Self::NoGroup { .. } | Self::GroupNeeded { .. })
    }
}

/// Finds who a process is to be; `None` when nothing is asked for or it is who this is already.
///
/// A user brings its main group and all its groups; `group` replaces the main one.
///
/// # Errors
///
/// [`AccountError`].
pub fn account(user: Option<&str>, group: Option<&str>) -> Result<Option<Account>, AccountError> {
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let group = group.map(find_group).transpose()?;
    let me = Uid::effective();
    let found = user.map_or_else(|| by_number(me.as_raw(), me), find_user)?;
    let (uid, gid, groups, entry) = match found {
        Found::Entry(user) => {
            let gid = group.unwrap_or(user.gid);
            let groups = groups_of(&user, gid);
            let entry = AccountEntry { name: user.name, home: user.dir, shell: user.shell };
            (user.uid, gid, groups, Some(entry))
        }
        Found::Number(uid) => {
            let gid = group.ok_or(AccountError::GroupNeeded { uid: uid.as_raw() })?;
            (uid, gid, Vec::new(), None)
        }
    };
    if !me.is_root() {
        let same = uid == me && gid == Gid::effective();
        return if same { Ok(None) } else { Err(AccountError::NotRoot { uid: me.as_raw() }) };
    }
    Ok(Some(Account { uid: uid.as_raw(), gid: gid.as_raw(), groups, entry }))
}

enum Found {
    Entry(User),
    Number(Uid),
}

fn find_user(name: &str) -> Result<Found, AccountError> {
    let unreadable = |errno: nix::Error| AccountError::Unreadable {
        name: name.to_owned(),
        message: errno.to_string(),
    };
    if let Some(user) = User::from_name(name).map_err(unreadable)? {
        return Ok(Found::Entry(user));
    }
    let number = name.parse::<u32>().ok();
    let number = number.ok_or_else(|| AccountError::NoUser { name: name.to_owned() })?;
    by_number(number, Uid::from_raw(number))
}

fn by_number(number: u32, uid: Uid) -> Result<Found, AccountError> {
    let user = User::from_uid(uid).map_err(|errno| AccountError::Unreadable {
        name: number.to_string(),
        message: errno.to_string(),
    })?;
    Ok(user.map_or(Found::Number(uid), Found::Entry))
}

fn find_group(name: &str) -> Result<Gid, AccountError> {
    let unreadable = |errno: nix::Error| AccountError::Unreadable {
        name: name.to_owned(),
        message: errno.to_string(),
    };
    if let Some(group) = Group::from_name(name).map_err(unreadable)? {
        return Ok(group.gid);
    }
    let number = name.parse::<u32>().ok();
    let number = number.ok_or_else(|| AccountError::NoGroup { name: name.to_owned() })?;
    Ok(Gid::from_raw(number))
}

/// The groups that a login of the user would have.
fn groups_of(user: &User, gid: Gid) -> Vec<u32> {
    let name = CString::new(user.name.as_str()).unwrap_or_default();
    let groups = getgrouplist(&name, gid).unwrap_or_else(|_| vec![gid]);
    groups.into_iter().map(Gid::as_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_that_nobody_has_are_errors() {
        let nobody_has = |user, group| account(user, group).unwrap_err().to_string();
        assert!(nobody_has(Some("no-such-user"), None).starts_with("no user \"no-such-user\""));
        assert!(nobody_has(Some("root"), Some("no-such-group")).starts_with("no group"));
        assert!(nobody_has(Some("4294900000"), None).contains("give `group`"));
        assert_eq!(account(None, None), Ok(None));
    }

    #[test]
    fn root_may_become_anybody_and_others_only_themselves() {
        let me = Uid::effective();
        let other = account(Some("4000000000"), Some("4000000001"));
        if me.is_root() {
            let other = other.unwrap().unwrap();
            assert_eq!(
                (other.uid, other.gid, other.groups),
                (4_000_000_000, 4_000_000_001, vec![])
            );
            let root = account(Some("0"), None).unwrap().unwrap();
            assert_eq!(root.entry.unwrap().name, "root");
        } else {
            assert_eq!(other, Err(AccountError::NotRoot { uid: me.as_raw() }));
            let myself = me.as_raw().to_string();
            assert_eq!(account(Some(&myself), None), Ok(None));
        }
    }
}
