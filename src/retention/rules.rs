//! Which rules hold, and where they come from.

use super::RetainRequest;
use crate::finding::Warning;
use crate::format::Retention;
use crate::history::History;
use crate::policy::retain::Plan;

/// Where the rules come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// This machine's configuration, or the command's flags.
    Own,
    /// The newest snapshot says that they were in force on its host. Good for showing a plan, not for deleting by it.
    Record,
    /// Nobody set any.
    Standard,
}

pub struct Rules {
    pub rules: Retention,
    pub origin: Origin,
}

impl Rules {
    /// Those of this machine, else those of the newest record, else the standard ones.
    pub fn of(own: Option<Retention>, history: &History) -> Self {
        if let Some(rules) = own {
            return Self { rules, origin: Origin::Own };
        }
        match recorded(history) {
            Some(rules) => Self { rules: rules.clone(), origin: Origin::Record },
            None => Self { rules: Retention::standard(), origin: Origin::Standard },
        }
    }

    /// What a reader elsewhere will not be able to explain by the rules that the newest record names.
    pub(super) fn warnings(&self, history: &History, plan: &Plan, request: &RetainRequest) -> Option<Warning> {
        let explained = request.remove.is_empty() && recorded(history) == Some(&self.rules);
        if explained || plan.removed().next().is_none() {
            return None;
        }
        let text = match (recorded(history), request.remove.is_empty()) {
            (_, false) => "what is removed by hand is reported once as vanished by every machine that saw it",
            (Some(_), true) => {
                "these are not the rules that the newest snapshot names: what they remove is reported once as vanished \
                 by every machine that saw it"
            }
            (None, true) => {
                "the newest snapshot names no rules, because the host has none: what is removed is reported once as \
                 vanished by every machine that saw it. Write them into [retention] of the host's sealift.toml"
            }
        };
        Some(Warning::standing("unexplained-removal", text))
    }
}

fn recorded(history: &History) -> Option<&Retention> {
    history.verified().next_back()?.record.retention.as_ref()
}
