//! Faults and warnings: what is wrong, where, with which value, and what would be right.
//!
//! One fault is one line; [`Faults`] are all of one answer, sorted by place.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::config::place::Place;

/// One thing that is wrong, or, among warnings, doubtful.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Fault {
    /// Where it was written.
    pub place: Place,
    /// Key, for example `agents.max`; empty when the whole file is meant.
    pub key: String,
    /// What is wrong.
    pub fault: String,
    /// The value as written, in quotes if it is text; `***` if it is secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What would be allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<String>,
    /// What was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl Fault {
    pub(crate) fn new(place: Place, key: impl Into<String>, fault: impl Into<String>) -> Self {
        Self {
            place,
            key: key.into(),
            fault: fault.into(),
            value: None,
            allowed: None,
            suggestion: None,
        }
    }

    pub(crate) fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(value.into());
        self
    }

    pub(crate) fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = Some(allowed.into());
        self
    }

    /// Suggests the candidate most alike, or tells all candidates when none is.
    pub(crate) fn suggest<'c>(
        mut self,
        written: &str,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> Self {
        let all: Vec<&str> = candidates.into_iter().collect();
        self.suggestion = nearest(written, &all).map(str::to_owned);
        if self.suggestion.is_none() && self.allowed.is_none() && !all.is_empty() {
            self.allowed = Some(all.join(", "));
        }
        self
    }
}

/// The candidate most alike, if any is alike enough.
fn nearest<'c>(written: &str, candidates: &[&'c str]) -> Option<&'c str> {
    // Long garbage is like nothing, and comparing it is quadratic.
    if 64 < written.len() {
        return None;
    }
    let lower = written.to_lowercase();
    let alike = |candidate: &&'c str| {
        let candidate = candidate.to_lowercase();
        // One slip in a short word is far off by proportion, yet it is the usual one.
        let one_slip = 2 < candidate.len()
            && 1 < lower.len()
            && strsim::damerau_levenshtein(&lower, &candidate) <= 1;
        strsim::jaro_winkler(&lower, &candidate) + if one_slip { 0.5 } else { 0.0 }
    };
    let best = candidates.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (0.8 <= alike(best)).then_some(*best)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.fault)?;
        let value = self.value.as_ref().map(|value| format!("value {value}"));
        let allowed = self.allowed.as_ref().map(|allowed| format!("allowed {allowed}"));
        let meant = self.suggestion.as_ref().map(|meant| format!("did you mean `{meant}`?"));
        let notes: Vec<String> = [value, allowed, meant].into_iter().flatten().collect();
        if notes.is_empty() { Ok(()) } else { write!(f, " ({})", notes.join("; ")) }
    }
}

/// All faults of one answer, sorted by place; never empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Sorts the faults and takes out those told twice; `None` if there are none.
    pub(crate) fn of(mut faults: Vec<Fault>) -> Option<Self> {
        faults.sort();
        faults.dedup();
        (!faults.is_empty()).then_some(Self(faults))
    }

    /// One fault alone.
    /// The configuration could not be read at all.
    #[must_use]
    pub fn unreadable(why: &str) -> Self {
        Self::only(Fault::new(Place::Default, "", format!("cannot be read: {why}")))
    }

    pub(crate) fn only(fault: Fault) -> Self {
        Self(vec![fault])
    }

    /// The faults as data.
    #[must_use]
    pub fn list(&self) -> &[Fault] {
        &self.0
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.0 {
            writeln!(f, "{fault}")?;
        }
        let plural = if self.0.len() == 1 { "fault" } else { "faults" };
        write!(f, "{} {plural} in the configuration; nothing was started", self.0.len())
    }
}

impl std::error::Error for Faults {}

impl Serialize for Faults {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}
