//! Public keys as a person brings them: flags and files.

use super::args::Recipients;
use super::failure::Failure;
use crate::crypto::{Recipient, parse_recipients};

impl Recipients {
    /// Everything that was given; perhaps nothing.
    pub fn parse(&self) -> Result<Vec<Recipient>, Failure> {
        let mut recipients = Vec::new();
        for text in &self.recipient {
            recipients.push(Recipient::parse(text)?);
        }
        for path in &self.recipients_file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::usage(format!("{}: {error}", path.display()), "-R names a file with one recipient a line")
            })?;
            recipients.extend(parse_recipients(&text)?);
        }
        Ok(recipients)
    }

    /// At least one.
    pub fn parse_some(&self) -> Result<Vec<Recipient>, Failure> {
        let recipients = self.parse()?;
        if recipients.is_empty() {
            return Err(Failure::usage("no recipient is named", "name them with -r KEY or -R FILE"));
        }
        Ok(recipients)
    }
}
