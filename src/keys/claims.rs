//! Whether what a wrapped key says of its recipients can be all: whoever knows the data identity, and so whoever was removed,
//! can seal it for himself, too, and name the others alone.

use crate::crypto::{DataRecipient, IdentityFile, Recipient};
use crate::error::OperationError;
use crate::finding::Warning;
use crate::format::layout;
use crate::repository::Remote;
use crate::repository::unlock::{OpenedGeneration, open_generation};

/// A doubt where the header shows another number of recipients than the comments name.
pub(crate) fn unnamed(epoch: u32, opened: &OpenedGeneration) -> Option<Warning> {
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

/// A doubt where `opened`, of `epoch`, names as a recipient whom one of the `earlier` generations names as removed.
pub(crate) async fn back_again<'a>(
    remote: &Remote,
    identities: &[IdentityFile],
    (epoch, opened): (u32, &OpenedGeneration),
    earlier: impl IntoIterator<Item = ((u32, u32), &'a DataRecipient)>,
) -> Result<Option<Warning>, OperationError> {
    for (place, named) in earlier {
        let Ok(earlier) = open_generation(remote, place, Some(named), identities).await? else { continue };
        let back = opened.holders.recipients.iter().find(|recipient| earlier.holders.former.contains(recipient));
        if let Some(back) = back {
            let text = format!(
                "{} is for {}, whom {} names as removed: perhaps he made it himself. If he is to open the snapshots again, \
                 `sealift keys rotate -r … --proof FILE` with the whole set says so",
                layout::data_key(epoch, opened.generation),
                back.as_str(),
                layout::data_key(place.0, place.1)
            );
            return Ok(Some(Warning::doubt("removed-recipient-back", text)));
        }
    }
    Ok(None)
}
