//! `sealift recovery-kit`

use serde_json::json;

use super::args;
use super::context::Context;
use super::failure::{FAILED, Failure};
use super::identities;
use super::output::{print_json, print_lines, print_warnings};
use super::shell::{Bucket, quoted, reader_command};
use crate::admin::RecoveryKit;
use crate::clock;
use crate::store::Key;

/// What the certificates of a private server are called in a kit.
const CA_FILE: &str = "ca.pem";

pub async fn run(command: args::RecoveryKit, context: Context) -> Result<u8, Failure> {
    let identities = match &command.reader.identity[..] {
        [] => Vec::new(),
        paths => identities::load(paths)?,
    };
    let reader = context.reader(identities)?;
    let (remote, _) = context.remote().await?;
    let kit = crate::admin::recovery_kit(&remote, &reader).await?;
    let url = context.absolute_url()?;
    let mut bucket = Bucket::of(&context, &url);
    let mut enclosures = Vec::new();
    if let Some(file) = bucket.as_mut().and_then(|bucket| bucket.ca_file.as_mut()) {
        let certificates = std::fs::read(&file).map_err(|error| Failure::new(FAILED, format!("{file}: {error}")))?;
        enclosures.push((CA_FILE, certificates));
        CA_FILE.clone_into(file);
    }
    kit.write(&command.dir, &page(&kit, &url, bucket.as_ref()), &enclosures)?;
    print_warnings(&context.global, &kit.warnings);
    if context.global.json {
        print_json(
            json!({
                        "dir": command.dir, "repository": kit.repository, "url": url, "signer": kit.signer, "pinned": kit.pinned,
                        "script": RecoveryKit::script_name(), "keys": key_names(&kit),
                        "newest": kit.newest.map(|(sequence, _)| sequence)
            }),
            &kit.warnings,
        )?;
    } else {
        print_lines([
            format!("recovery kit of {url} ({})", kit.repository),
            format!("signer      {}", kit.signer),
            format!("keys        {}", key_names(&kit).join(" ")),
            format!("script      {}", RecoveryKit::script_name()),
            format!("written to  {}: keep it off this host; KIT.md says how to use it", command.dir.display()),
        ])?;
    }
    Ok(context.exit_code(&kit.warnings))
}

/// `KIT.md`.
fn page(kit: &RecoveryKit, url: &str, bucket: Option<&Bucket>) -> String {
    let in_bucket = |text: &'static str| if bucket.is_some() { text } else { "" };
    let sealift = |verb: &str| reader_command(verb, url, bucket, "operator.key", &kit.signer);
    let folder = if bucket.is_some() { "repository".to_owned() } else { quoted(url) };
    let recover =
        format!("python3 {} restore {folder} -i operator.key --signer signer.pub", RecoveryKit::script_name());
    include_str!("KIT.md")
        .replace("{credentials}", in_bucket(", and the AWS variables give a key that may read the bucket"))
        .replace("{client}", in_bucket(", and rclone or any other S3 client"))
        .replace("{restore}", &sealift("restore"))
        .replace("{keys restore}", &sealift("keys restore --from keys"))
        .replace("{fetch}", &bucket.map(|bucket| fetch(url, bucket)).unwrap_or_default())
        .replace("{recover}", &recover)
        .replace("{facts}", &facts(kit, url, bucket))
}

/// A table of all that there is to know.
fn facts(kit: &RecoveryKit, url: &str, bucket: Option<&Bucket>) -> String {
    let unproved = "the repository's own word: compare it with what `sealift init` printed before you rely on it";
    let rows = [
        ("repository", Some(url.to_owned())),
        ("its id", Some(kit.repository.to_string())),
        ("endpoint", bucket.and_then(|bucket| bucket.endpoint.clone())),
        ("region", bucket.and_then(|bucket| bucket.region.clone())),
        ("signer", Some(kit.signer.to_string())),
        ("known from", (!kit.pinned).then(|| unproved.to_owned())),
        ("key files", Some(key_names(kit).join(", "))),
        ("newest snapshot", kit.newest.map(|(sequence, time)| format!("{sequence} of {time}"))),
        ("made", Some(format!("{:.0}, by sealift {}", clock::now(), env!("CARGO_PKG_VERSION")))),
    ];
    let rows = rows.into_iter().filter_map(|(name, value)| Some(format!("\n| {name} | {} |", value?)));
    format!("| | |\n|---|---|{}", rows.collect::<String>())
}

fn key_names(kit: &RecoveryKit) -> Vec<&str> {
    kit.keys.keys().map(Key::as_str).collect()
}

/// What copies the bucket into the folder `repository`.
fn fetch(url: &str, bucket: &Bucket) -> String {
    let mut options = vec!["env_auth=true".to_owned()];
    options.push(format!("provider={}", if bucket.endpoint.is_some() { "Other" } else { "AWS" }));
    options.extend(bucket.endpoint.as_ref().map(|endpoint| format!("endpoint=\"{endpoint}\"")));
    options.extend(bucket.region.as_ref().map(|region| format!("region={region}")));
    options.extend(bucket.path_style.map(|own| format!("force_path_style={own}")));
    let place = url.strip_prefix("s3://").unwrap_or(url);
    let from = quoted(&format!(":s3,{}:{place}", options.join(",")));
    let certificates = bucket.ca_file.as_ref().map(|file| format!(" --ca-cert {}", quoted(file))).unwrap_or_default();
    format!("rclone copy{certificates} {from} repository\n")
}
