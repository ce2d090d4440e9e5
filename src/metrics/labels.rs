//! Label values that grow with the configuration, and their bound.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use ::metrics::SharedString;

/// Different values of one label; all further ones together are [`OTHER`].
pub const LABELS_MAX: usize = 1_000;

/// Stands for the values that are one too many.
pub const OTHER: &str = "_other";

/// The values of one label that have a series of their own: the first that came.
#[derive(Debug)]
pub(super) struct Bounded(Mutex<BTreeSet<String>>);

/// Names of agents and other children.
pub(super) static CHILDREN: Bounded = Bounded::new();

/// Types of tasks.
pub(super) static TASK_TYPES: Bounded = Bounded::new();

impl Bounded {
    const fn new() -> Self {
        Self(Mutex::new(BTreeSet::new()))
    }

    /// The value, or [`OTHER`].
    pub(super) fn label(&self, value: &str) -> SharedString {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(value) {
            if LABELS_MAX <= known.len() {
                return SharedString::const_str(OTHER);
            }
            known.insert(value.to_owned());
        }
        SharedString::from_owned(value.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_values_than_the_bound_share_one_label() {
        let labels = Bounded::new();
        for number in 0..LABELS_MAX {
            assert_eq!(labels.label(&format!("w{number}")).to_string(), format!("w{number}"));
        }
        assert_eq!(labels.label("w_new").to_string(), OTHER);
        assert_eq!(labels.label("w0").to_string(), "w0");
    }
}
