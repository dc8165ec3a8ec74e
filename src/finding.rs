//! What was done, but not as well as it might be. Every warning has a name that scripts can rely on.

use std::fmt;

/// One named warning.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Warning {
    pub name: &'static str,
    pub text: String,
    /// Whether this snapshot lacks or doubts something: exit code 3 even without `--strict`.
    pub doubt: bool,
}

impl Warning {
    /// A standing warning: the work is done, something about it could be better.
    pub fn standing(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, text: text.into(), doubt: false }
    }

    /// Something is missing from the result, or doubtful in it.
    pub fn doubt(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, text: text.into(), doubt: true }
    }

    /// One lost key must not lose everything.
    pub fn single_recipient() -> Self {
        let text = "there is one recipient: if that key is lost, every backup is lost. Add a second one that is kept \
                    offline: `sealift keys add -r KEY --identity FILE` on an operator's machine";
        Self::standing("single-recipient", text)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.text, self.name)
    }
}
