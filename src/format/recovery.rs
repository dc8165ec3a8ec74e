//! What lies in every repository, and in every recovery kit, for the day without sealift: a script that restores with
//! `age`, `zstd`, `ssh-keygen` and Python's standard library, and how to use it.
//!
//! The script is a second implementation of `FORMAT.md` and shares no code with the first. Anyone who can write to the
//! bucket can replace it there: compare its hash with one known from elsewhere.

use super::layout;
use crate::crypto::{Digest, sha256};

/// `recover-<SHA-256>.py`.
pub const RECOVERY_SCRIPT: &str = include_str!("recover.py");

/// `FORMAT.md`: what the script was written from.
pub const FORMAT_DESCRIPTION: &str = include_str!("FORMAT.md");

/// The SHA-256 in the name of the script.
pub fn recovery_script_digest() -> Digest {
    sha256(RECOVERY_SCRIPT.as_bytes())
}

/// `RECOVERY.txt`: how to use the script. The same in every repository.
pub fn recovery_text() -> String {
    let script = layout::recovery_script(&recovery_script_digest());
    include_str!("RECOVERY.txt").replace("{script}", script.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::MAX_KEY_BYTES;

    #[test]
    fn script_and_description_have_the_limit_of_this_program_for_a_wrapped_key() {
        let kib = MAX_KEY_BYTES >> 10;
        assert!(RECOVERY_SCRIPT.contains(&format!("MAX_KEY, MAX_TEXT, MAX_PACK, MAX_SEALED = {kib} << 10, ")));
        let words: Vec<&str> = FORMAT_DESCRIPTION.split_whitespace().collect();
        assert!(words.join(" ").contains(&format!("A file there is at most {kib} KiB long.")));
    }

    #[test]
    fn the_script_stays_short_enough_to_be_read_before_it_is_given_a_key() {
        assert!(RECOVERY_SCRIPT.lines().count() <= 300);
        assert!(RECOVERY_SCRIPT.lines().all(|line| line.chars().count() <= 120));
    }

    #[test]
    fn the_text_names_the_script_by_its_hash() {
        let text = recovery_text();
        assert!(text.contains(&format!("recover-{}.py restore repository", recovery_script_digest())), "{text}");
        assert!(!text.contains(['{', '}']), "{text}");
    }
}
