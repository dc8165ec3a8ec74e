//! Whether what a wrapped key says of its recipients can be all: whoever knows the data identity, and so whoever was removed,
//! can seal it for himself, too, and name the others alone.

use super::super::unlock::{OpenedGeneration, open_generation};
use super::super::{OperationError, Remote, Warning};
use super::survey::SurveyedEpoch;
use crate::crypto::{IdentityFile, Recipient};
use crate::repository::layout;

/// A doubt where the header shows another number of recipients than the comments name.
pub(super) fn unnamed(epoch: u32, opened: &OpenedGeneration) -> Option<Warning> {
    let mut named: Vec<&Recipient> = Vec::new();
    for recipient in &opened.holders.recipients {
        if !named.contains(&recipient) {
            named.push(recipient);
        }
    }
    let (named, sealed) = (named.len(), opened.sealed.recipients());
    (named != sealed).then(|| {
        let key = layout::data_key(epoch, opened.generation);
        let text = format!(
            "{key} is sealed for {sealed} and names {named}: perhaps somebody who was removed made it, and opens it, too. \
             `sealift keys rotate -r …` with the whole set makes one that is for nobody else"
        );
        Warning::doubt("recipients-unnamed", text)
    })
}

/// A doubt where `opened` names as a recipient whom an earlier generation names as removed.
pub(super) async fn back_again(
    remote: &Remote,
    identities: &[IdentityFile],
    epoch: &SurveyedEpoch,
    opened: &OpenedGeneration,
) -> Result<Option<Warning>, OperationError> {
    for generation in epoch.generations.range(..opened.generation) {
        let place = (epoch.epoch, *generation);
        let Ok(earlier) = open_generation(remote, place, Some(&epoch.recipient), identities).await? else { continue };
        let back = opened.holders.recipients.iter().find(|recipient| earlier.holders.former.contains(recipient));
        if let Some(back) = back {
            let text = format!(
                "{} is for {}, whom {} names as removed: perhaps he made it himself. If he is to open the snapshots again, \
                 `sealift keys rotate -r … --proof FILE` with the whole set says so",
                layout::data_key(epoch.epoch, opened.generation),
                back.as_str(),
                layout::data_key(epoch.epoch, *generation)
            );
            return Ok(Some(Warning::doubt("removed-recipient-back", text)));
        }
    }
    Ok(None)
}
