//! The table, and the statements on it.

use deadpool_postgres::tokio_postgres::Row;
use grantflow::machine::FailureKind;
use grantflow::store::{MAX_RECORD, RecordKey, Stored, Tags};
use grantflow::{Client, Failure, Issuer};

/// The most bytes of a label, so that it fits into an index.
const MAX_LABEL: usize = 1024;

/// The columns: a record has a version, a lease an owner.
const COLUMNS: &str = "\
    key         text COLLATE \"C\" PRIMARY KEY,
    version     bigint,
    value       bytea,
    issuer      text,
    client_id   text,
    label       text COLLATE \"C\",
    sub         text COLLATE \"C\",
    sid         text COLLATE \"C\",
    lease_owner bytea,
    lease_until timestamptz";

/// True. It makes the statement durable that has it among its conditions, if the session is set to lose what was
/// confirmed; a setting that waits for more is left alone.
const DURABLE: &str = "set_config('synchronous_commit', CASE current_setting('synchronous_commit') \
WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true) <> ''";

/// The statements on one table.
pub(super) struct Statements {
    pub(super) create: String,
    pub(super) load: String,
    pub(super) insert: String,
    pub(super) update: String,
    pub(super) delete: String,
    pub(super) lease: String,
    pub(super) release: String,
    pub(super) list: [String; 3],
    pub(super) count: [String; 3],
}

impl Statements {
    pub(super) fn new(name: &str) -> Self {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let table = name.split('.').map(quoted).collect::<Vec<_>>().join(".");
        let last = name.rsplit('.').next().unwrap_or_default();
        let index = |column: &str| quoted(&format!("{last}_{column}"));
        let indexes = ["label", "sub", "sid"].map(|column| {
            let name = index(column);
            format!("CREATE INDEX IF NOT EXISTS {name} ON {table} ({column}, key) WHERE {column} IS NOT NULL;\n")
        });
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {table} (\n    {COLUMNS}\n) WITH (fillfactor = 70);\n{}",
            indexes.concat()
        );
        // What is asked for, and in which order the pages come.
        let which = ["label >= $1 AND label LIKE $2", "sub = $1", "sid = $1"];
        let after = ["(label, key) > ($3, $4)", "key > $2", "key > $2"];
        let order = ["label, key", "key", "key"];
        let list = |i: usize| {
            let (which, after, order, last) = (which[i], after[i], order[i], if i == 0 { "$5" } else { "$3" });
            format!(
                "SELECT issuer, client_id, label FROM {table} WHERE version IS NOT NULL AND {which} AND {after} \
                 ORDER BY {order} LIMIT {last}"
            )
        };
        let count = |i: usize| format!("SELECT count(*) FROM {table} WHERE version IS NOT NULL AND {}", which[i]);
        Self {
            create,
            load: format!(
                "SELECT version, CASE WHEN octet_length(value) <= {MAX_RECORD} THEN value END, sub, sid \
                 FROM {table} WHERE key = $1"
            ),
            insert: format!(
                "INSERT INTO {table} (key, version, value, sub, sid, issuer, client_id, label) \
                 SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE {DURABLE} ON CONFLICT (key) DO NOTHING RETURNING 1"
            ),
            update: format!(
                "UPDATE {table} SET version = $2, value = $3, sub = $4, sid = $5 \
                 WHERE key = $1 AND version = $6 AND {DURABLE} RETURNING 1"
            ),
            delete: format!("DELETE FROM {table} WHERE key = $1 AND version = $2 AND {DURABLE} RETURNING 1"),
            lease: format!(
                "INSERT INTO {table} AS lease (key, lease_owner, lease_until) \
                 SELECT $1, $2, clock_timestamp() + $3 * interval '1 millisecond' WHERE {DURABLE} \
                 ON CONFLICT (key) DO UPDATE \
                 SET lease_owner = excluded.lease_owner, lease_until = excluded.lease_until \
                 WHERE lease.lease_until <= clock_timestamp() OR lease.lease_owner = excluded.lease_owner RETURNING 1"
            ),
            release: format!("DELETE FROM {table} WHERE key = $1 AND lease_owner = $2 RETURNING 1"),
            list: [list(0), list(1), list(2)],
            count: [count(0), count(1), count(2)],
        }
    }
}

/// A text as PostgreSQL takes it: without the character NUL. Order and prefixes stay what they are.
pub(super) fn escaped(text: &str) -> String {
    text.replace('\u{1}', "\u{1}\u{2}").replace('\0', "\u{1}\u{1}")
}

fn unescaped(text: &str) -> String {
    text.replace("\u{1}\u{1}", "\0").replace("\u{1}\u{2}", "\u{1}")
}

/// What a label is like that begins with this prefix.
pub(super) fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len().saturating_add(1));
    for character in escaped(prefix).chars() {
        if let '%' | '_' | '\\' = character {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern + "%"
}

pub(super) fn number(version: u64) -> Result<i64, Failure> {
    let wrong =
        |_| Failure::not_sent(FailureKind::Store, format!("version {version} is higher than PostgreSQL counts"));
    i64::try_from(version).map_err(wrong)
}

pub(super) fn check_label(key: &RecordKey) -> Result<(), Failure> {
    let why = || format!("the label of {key} has more than the {MAX_LABEL} bytes that fit into an index");
    if key.label().len() <= MAX_LABEL { Ok(()) } else { Err(Failure::not_sent(FailureKind::Store, why())) }
}

/// Reads a row of `load`.
pub(super) fn stored(key: &RecordKey, row: &Row) -> Result<Stored, Failure> {
    let wrong = || Failure::not_sent(FailureKind::Store, format!("what PostgreSQL has of {key} is no record"));
    let version: Option<i64> = row.try_get(0).map_err(|_| wrong())?;
    let value: Option<Vec<u8>> = row.try_get(1).map_err(|_| wrong())?;
    let version = version.and_then(|version| u64::try_from(version).ok()).ok_or_else(wrong)?;
    let mut stored = Stored::new(version, value.ok_or_else(wrong)?);
    let tag = |column| row.try_get(column).map_err(|_| wrong());
    stored.tags = Tags { sub: tag(2)?, sid: tag(3)? };
    Ok(stored)
}

/// Reads a row of `list`.
pub(super) fn key(row: &Row) -> Result<RecordKey, Failure> {
    let wrong = |_| Failure::not_sent(FailureKind::Store, "what PostgreSQL lists is no record");
    let text = |column| row.try_get(column).map_err(wrong);
    let [issuer, client_id, label]: [&str; 3] = [text(0)?, text(1)?, text(2)?];
    let wrong = |_| Failure::not_sent(FailureKind::Store, "PostgreSQL lists a record of what is no issuer");
    let issuer = Issuer::new(unescaped(issuer)).map_err(wrong)?;
    Ok(RecordKey::new(&issuer, &Client::new(unescaped(client_id)), &unescaped(label)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_label_is_lost_on_the_way_and_prefixes_stay_prefixes() {
        let labels = ["", "a", "a\0b", "\u{1}", "\u{1}\0\u{1}", "\0\0", "a%_\\", "\u{1}\u{2}"];
        for label in labels {
            let there = escaped(label);
            assert!(!there.contains('\0') && unescaped(&there) == label, "{label:?} as {there:?}");
            for prefix in labels {
                assert_eq!(there.starts_with(&escaped(prefix)), label.starts_with(prefix), "{label:?} {prefix:?}");
            }
        }
        assert_eq!(pattern("50%_a"), "50\\%\\_a%");
    }

    #[test]
    fn a_name_of_a_table_stays_a_name() {
        let statements = Statements::new("app.my \"grants\"; DROP TABLE x");
        assert!(statements.load.contains(r#"FROM "app"."my ""grants""; DROP TABLE x" WHERE"#), "{}", statements.load);
        assert!(statements.create.contains(r#"INDEX IF NOT EXISTS "my ""grants""; DROP TABLE x_label" ON "app"."#));
    }
}
