//! What people use today, on the same work: each as the shell commands that its manual suggests.
//!
//! Every rival gets a consistent copy first (`.backup`), as it must; its time counts.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A tool that is on the PATH, and how it does the work.
pub struct Rival {
    pub name: &'static str,
    needs: &'static [&'static str],
    setup: &'static str,
    backup: &'static str,
    /// Into the folder `back`.
    restore: &'static str,
    /// Keeps the last 14 and deletes what only the others need; empty where it cannot.
    keep_few: &'static str,
}

const COPY: &str = r#"sqlite3 "$DB" ".timeout 30000" ".backup $WORK/copy.db""#;

pub const RIVALS: [Rival; 4] = [
    Rival {
        name: "script",
        needs: &["sqlite3", "zstd", "age", "age-keygen", "aws"],
        setup: r#"age-keygen -o "$WORK/age.key" 2>/dev/null"#,
        backup: r#"zstd -q -3 -T0 -f "$WORK/copy.db" -o "$WORK/copy.zst"
            age -r "$(age-keygen -y "$WORK/age.key")" -o "$WORK/copy.age" "$WORK/copy.zst"
            aws --endpoint-url "$ENDPOINT" s3 cp --quiet "$WORK/copy.age" "s3://$BUCKET/script/$(date +%s%N)""#,
        restore: r#"name=$(aws --endpoint-url "$ENDPOINT" s3 ls "s3://$BUCKET/script/" | tail -n 1 | awk '{print $4}')
            aws --endpoint-url "$ENDPOINT" s3 cp --quiet "s3://$BUCKET/script/$name" "$WORK/copy.age"
            age -d -i "$WORK/age.key" "$WORK/copy.age" | zstd -q -d -f -o "$WORK/back/copy.db""#,
        keep_few: "",
    },
    Rival {
        name: "restic",
        needs: &["sqlite3", "restic"],
        setup: r#"restic -q init"#,
        backup: r#"restic -q backup "$WORK/copy.db""#,
        restore: r#"restic -q restore latest --target "$WORK/back""#,
        keep_few: r#"restic -q forget --keep-last 14 --prune"#,
    },
    Rival {
        name: "rustic",
        needs: &["sqlite3", "rustic"],
        setup: r#"cat > "$WORK/rustic.toml" <<END
[repository]
repository = "opendal:s3"
password = "bench"
no-cache = true
[repository.options]
bucket = "$BUCKET"
root = "rustic"
endpoint = "$ENDPOINT"
region = "us-east-1"
access_key_id = "$AWS_ACCESS_KEY_ID"
secret_access_key = "$AWS_SECRET_ACCESS_KEY"
END
            rustic -P "$WORK/rustic" --no-progress init >/dev/null 2>&1"#,
        backup: r#"rustic -P "$WORK/rustic" --no-progress backup "$WORK/copy.db" >/dev/null 2>&1"#,
        restore: r#"rustic -P "$WORK/rustic" --no-progress restore latest "$WORK/back" >/dev/null 2>&1"#,
        // Otherwise it only marks packs, and deletes them in a later prune, a day after.
        keep_few: r#"rustic -P "$WORK/rustic" --no-progress forget --keep-last 14 --prune --instant-delete >/dev/null 2>&1"#,
    },
    Rival {
        name: "litestream",
        needs: &["sqlite3", "litestream"],
        setup: r#"cat > "$WORK/litestream.yml" <<END
dbs:
  - path: $WORK/copy.db
    replica:
      url: s3://$BUCKET/litestream
      endpoint: $ENDPOINT
      region: us-east-1
      force-path-style: true
END"#,
        backup: r#"litestream replicate -once -config "$WORK/litestream.yml" >/dev/null 2>&1"#,
        restore: r#"litestream restore -config "$WORK/litestream.yml" -o "$WORK/back/copy.db" "$WORK/copy.db" >/dev/null 2>&1"#,
        keep_few: "",
    },
];

/// One step of the work.
#[derive(Clone, Copy)]
pub enum Work {
    Setup,
    Backup,
    Restore,
    KeepFew,
}

/// Where a rival works: its scratch folder, the database, and the bucket's environment.
pub struct Place<'a> {
    pub folder: &'a Path,
    pub database: &'a Path,
    pub variables: &'a [(&'static str, String)],
}

impl Rival {
    pub fn is_installed(&self) -> bool {
        let found = |name: &&str| std::env::split_paths(&path()).any(|folder| folder.join(name).is_file());
        self.needs.iter().all(found)
    }

    /// Whether it can let go of old backups.
    pub fn keeps_few(&self) -> bool {
        !self.keep_few.is_empty()
    }

    pub fn command(&self, work: Work, place: &Place<'_>) -> Command {
        let script = match work {
            Work::Setup => self.setup.to_owned(),
            Work::Backup => format!("{COPY}\n{}", self.backup),
            Work::Restore => format!("rm -rf \"$WORK/back\"; mkdir \"$WORK/back\"\n{}", self.restore),
            Work::KeepFew => self.keep_few.to_owned(),
        };
        let folder: PathBuf = place.folder.join(self.name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &script]).env("WORK", &folder).env("DB", place.database);
        // The server speaks plain HTTP, and litestream would fail at a bundle that it does not need.
        command.env_remove("AWS_CA_BUNDLE");
        command.env("RESTIC_PASSWORD", "bench").env("RESTIC_CACHE_DIR", folder.join("cache"));
        command.envs(place.variables.iter().map(|(name, value)| (*name, value)));
        command
    }
}

fn path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}
