//! A session's settings: PostgreSQL's, as far as clients set or read them.
//!
//! A setting is accepted only if its value is obeyed or cannot matter here. What would change answers and is not done is an
//! error (`DateStyle` other than ISO), so that nobody misreads an answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use catalog::system::SettingRow;
use repr::text::TimeZone;
use repr::{PgError, SqlState};

/// What a setting's values may be.
#[derive(Clone, Copy)]
enum Values {
    /// Anything.
    Any,
    /// `on` and `off`, in all of PostgreSQL's spellings.
    Bool,
    /// A duration in milliseconds, with or without a unit.
    Milliseconds,
    /// One of these, whatever their case.
    OneOf(&'static [&'static str]),
    /// A whole number, 0 or more.
    Count,
    /// A time zone.
    TimeZone,
    /// Cannot be set.
    ReadOnly,
}

struct Known {
    name: &'static str,
    default: &'static str,
    values: Values,
    /// Clients are told of changes (ParameterStatus).
    reported: bool,
    description: &'static str,
}

const fn known(
    name: &'static str,
    default: &'static str,
    values: Values,
    reported: bool,
    description: &'static str,
) -> Known {
    Known { name, default, values, reported, description }
}

const ISOLATION: Values =
    Values::OneOf(&["serializable", "strict serializable", "repeatable read", "read committed", "read uncommitted"]);
const LEVELS: Values = Values::OneOf(&[
    "debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log", "info", "notice", "warning", "error",
]);

/// The version of PostgreSQL that clients are to take us for.
pub(crate) const SERVER_VERSION: &str = "15.18";

#[rustfmt::skip]
const KNOWN: &[Known] = &[
    known("application_name", "", Values::Any, true, "Shown in pg_stat_activity."),
    known("bytea_output", "hex", Values::OneOf(&["hex"]), false, "How bytea is printed."),
    known("check_function_bodies", "on", Values::Bool, false, "Without effect."),
    known("client_encoding", "UTF8", Values::OneOf(&["UTF8", "UTF-8", "unicode"]), true, "The client's encoding."),
    known("client_min_messages", "notice", LEVELS, false, "Which notices the client gets."),
    known("DateStyle", "ISO, MDY", Values::OneOf(&["ISO", "ISO, MDY", "ISO,MDY"]), true, "How dates are printed."),
    known("default_table_access_method", "heap", Values::Any, false, "Without effect."),
    known("default_tablespace", "", Values::Any, false, "Without effect."),
    known("default_transaction_deferrable", "off", Values::Bool, false, "Without effect."),
    known("default_transaction_isolation", "read committed", ISOLATION, false, "What makes a block fail to commit: see transaction_isolation."),
    known("default_transaction_read_only", "off", Values::Bool, true, "Whether transactions may write."),
    known("escape_string_warning", "on", Values::Bool, false, "Without effect."),
    known("extra_float_digits", "1", Values::Any, false, "Floats are printed in their shortest exact form."),
    known("idle_in_transaction_session_timeout", "0", Values::Milliseconds, false, "A session idle in a transaction for longer ends; 0 is never."),
    known("idle_session_timeout", "0", Values::Milliseconds, false, "A session idle for longer ends; 0 is never."),
    known("in_hot_standby", "off", Values::ReadOnly, true, "Never a standby."),
    known("integer_datetimes", "on", Values::ReadOnly, true, "Times are integers."),
    known("IntervalStyle", "postgres", Values::OneOf(&["postgres"]), true, "How intervals are printed."),
    known("is_superuser", "on", Values::ReadOnly, true, "Whether the session may do everything."),
    known("jit", "off", Values::Bool, false, "Without effect."),
    known("lc_collate", "C.UTF-8", Values::ReadOnly, false, "Text is ordered by its bytes."),
    known("lc_ctype", "C.UTF-8", Values::ReadOnly, false, "The character classification."),
    known("lc_messages", "C.UTF-8", Values::Any, false, "Messages are in English."),
    known("lc_monetary", "C.UTF-8", Values::Any, false, "Without effect."),
    known("lc_numeric", "C.UTF-8", Values::Any, false, "Without effect."),
    known("lc_time", "C.UTF-8", Values::Any, false, "Without effect."),
    known("lock_timeout", "0", Values::Milliseconds, false, "Without effect."),
    known("max_connections", "500", Values::ReadOnly, false, "Sessions at a time."),
    known("max_identifier_length", "63", Values::ReadOnly, false, "Characters of a name."),
    known("max_index_keys", "32", Values::ReadOnly, false, "Columns of an index."),
    known("password_encryption", "scram-sha-256", Values::OneOf(&["scram-sha-256"]), false, "How passwords are kept."),
    known("role", "none", Values::Any, false, "Whose rights the session has; none is those of its user."),
    known("row_security", "on", Values::Bool, false, "Without effect."),
    known("search_path", "\"$user\", public", Values::Any, false, "Objects are in public."),
    known("server_encoding", "UTF8", Values::ReadOnly, true, "The server's encoding."),
    known("server_version", SERVER_VERSION, Values::ReadOnly, true, "The PostgreSQL version whose protocol is spoken."),
    known("server_version_num", "150018", Values::ReadOnly, false, "The same as a number."),
    known("session_authorization", "", Values::ReadOnly, true, "The session's user."),
    known("standard_conforming_strings", "on", Values::OneOf(&["on", "true", "1", "yes"]), true, "Backslashes are ordinary."),
    known("statement_timeout", "0", Values::Milliseconds, false, "Statements that take longer are cancelled; 0 is never."),
    known("synchronize_seqscans", "on", Values::Bool, false, "Without effect."),
    known("synchronous_commit", "on", Values::OneOf(&["on", "off", "local", "remote_write", "remote_apply", "true", "false", "yes", "no", "1", "0"]), false, "Whether writes are on disk before they are acknowledged."),
    known("tcp_keepalives_count", "0", Values::Count, false, "Keepalives that may be lost; 0 is the system's."),
    known("tcp_keepalives_idle", "0", Values::Count, false, "Seconds until a silent connection is probed; 0 is the system's."),
    known("tcp_keepalives_interval", "0", Values::Count, false, "Seconds between probes; 0 is the system's."),
    known("TimeZone", "UTC", Values::TimeZone, true, "The zone that times with time zone are read and printed in."),
    known("transaction_deferrable", "off", Values::Bool, false, "Without effect."),
    known("transaction_isolation", "read committed", ISOLATION, false, "A block fails with 40001 if a row that it changed was changed since; a serializable one if a table that it read in order to write was."),
    known("transaction_read_only", "off", Values::Bool, false, "Whether this transaction may write."),
    known("vacuum_freeze_min_age", "50000000", Values::Any, false, "Without effect."),
    known("work_mem", "4MB", Values::Any, false, "Without effect."),
    known("xmloption", "content", Values::Any, false, "Without effect."),
];

/// The settings of one session, by name in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    values: BTreeMap<String, String>,
    /// What RESET goes back to: the startup packet's.
    defaults: BTreeMap<String, String>,
    /// Another one whenever a value was set, so that who looks for changes looks only then.
    version: u64,
}

/// The versions given out, of all sessions: two that are equal are of the same settings.
static VERSIONS: AtomicU64 = AtomicU64::new(1);

impl Settings {
    /// The defaults, changed by a startup packet. What it says that is not understood is left as it was.
    pub(crate) fn new(user: &str, parameters: &[(String, String)]) -> Settings {
        let mut settings = Settings { values: BTreeMap::new(), defaults: BTreeMap::new(), version: 0 };
        settings.values.insert("session_authorization".to_string(), user.to_string());
        for (name, value) in parameters {
            // Whose rights a session has is nothing to be said before it is known who it is.
            if name.eq_ignore_ascii_case("role") {
                continue;
            }
            if let Err(error) = settings.set(name, Some(value)) {
                tracing::debug!("startup parameter {name}: {error}");
            }
        }
        settings.defaults = settings.values.clone();
        settings
    }

    /// Sets, or with None goes back to the default. Errors: `42704`, `22023`, `55P02`'s class for what cannot be set.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), PgError> {
        self.version = VERSIONS.fetch_add(1, Ordering::Relaxed);
        let key = name.to_lowercase();
        let Some(known) = find(&key) else {
            if key.contains('.') {
                match value {
                    Some(value) => self.values.insert(key, value.to_string()),
                    None => self.values.remove(&key),
                };
                return Ok(());
            }
            return Err(unknown(name));
        };
        let Some(value) = value else {
            match self.defaults.get(&key) {
                Some(default) => self.values.insert(key, default.clone()),
                None => self.values.remove(&key),
            };
            return Ok(());
        };
        let value = normalise(known, value)?;
        self.values.insert(key, value);
        Ok(())
    }

    /// Everything as it was after connecting.
    pub(crate) fn reset_all(&mut self) {
        self.version = VERSIONS.fetch_add(1, Ordering::Relaxed);
        self.values = self.defaults.clone();
    }

    /// Sets what clients cannot.
    pub(crate) fn force(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_string(), value.to_string());
        self.defaults.insert(name.to_string(), value.to_string());
    }

    /// What SET ROLE said. Asked for by every statement, so without a search through all that are known.
    pub(crate) fn role(&self) -> Option<&str> {
        self.values.get("role").map(String::as_str).filter(|role| *role != "none")
    }

    /// Which settings these are; other ones have another.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The value, for a setting that is known or was set.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let key = name.to_lowercase();
        self.values.get(&key).cloned().or_else(|| find(&key).map(|known| known.default.to_string()))
    }

    /// As [`Settings::get`]. Errors: `42704`.
    pub(crate) fn show(&self, name: &str) -> Result<String, PgError> {
        self.get(name).ok_or_else(|| unknown(name))
    }

    /// How the setting's name is spelt.
    pub(crate) fn spelling(name: &str) -> String {
        let key = name.to_lowercase();
        find(&key).map_or(key, |known| known.name.to_string())
    }

    pub(crate) fn is_on(&self, name: &str) -> bool {
        matches!(self.get(name).as_deref(), Some("on"))
    }

    /// Milliseconds; 0 is none.
    pub(crate) fn milliseconds(&self, name: &str) -> u64 {
        self.get(name).and_then(|value| milliseconds(&value)).unwrap_or(0)
    }

    /// Whether a write is acknowledged only once it is on disk.
    pub(crate) fn synchronous_commit(&self) -> bool {
        !matches!(self.get("synchronous_commit").as_deref(), Some("off" | "false" | "no" | "0"))
    }

    /// What ParameterStatus reports.
    pub(crate) fn reported(&self) -> Vec<(String, String)> {
        let reported = KNOWN.iter().filter(|known| known.reported);
        reported.map(|known| (known.name.to_string(), self.get(known.name).unwrap_or_default())).collect()
    }

    /// All that are known or set.
    pub(crate) fn rows(&self) -> Vec<SettingRow> {
        let known = KNOWN.iter().map(|known| SettingRow {
            name: known.name.to_string(),
            value: self.get(known.name).unwrap_or_default(),
            default: known.default.to_string(),
            description: known.description.to_string(),
        });
        let custom = self.values.iter().filter(|(name, _)| find(name).is_none()).map(|(name, value)| SettingRow {
            name: name.clone(),
            value: value.clone(),
            default: String::new(),
            description: String::new(),
        });
        known.chain(custom).collect()
    }
}

fn find(key: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name.eq_ignore_ascii_case(key))
}

fn unknown(name: &str) -> PgError {
    PgError::new(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))
}

fn invalid(known: &Known, value: &str) -> PgError {
    PgError::new(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("invalid value for parameter \"{}\": \"{value}\"", known.name),
    )
}

fn normalise(known: &Known, value: &str) -> Result<String, PgError> {
    match known.values {
        Values::Any => Ok(value.to_string()),
        Values::ReadOnly => {
            Err(PgError::new(SqlState("55P02"), format!("parameter \"{}\" cannot be changed", known.name)))
        }
        Values::Bool => match value.to_lowercase().as_str() {
            "on" | "true" | "yes" | "1" | "t" | "y" => Ok("on".to_string()),
            "off" | "false" | "no" | "0" | "f" | "n" => Ok("off".to_string()),
            _ => Err(PgError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("parameter \"{}\" requires a Boolean value", known.name),
            )),
        },
        Values::Milliseconds => match milliseconds(value) {
            Some(milliseconds) => Ok(milliseconds.to_string()),
            None => Err(invalid(known, value)),
        },
        Values::Count => match value.trim().parse::<u32>() {
            Ok(count) if count <= i32::MAX as u32 => Ok(count.to_string()),
            _ => Err(invalid(known, value)),
        },
        Values::OneOf(choices) => {
            let choice = choices.iter().find(|choice| choice.eq_ignore_ascii_case(value));
            let choice = choice.ok_or_else(|| invalid(known, value))?;
            Ok(match known.name {
                "client_encoding" => "UTF8".to_string(),
                "DateStyle" => "ISO, MDY".to_string(),
                "standard_conforming_strings" => "on".to_string(),
                _ => choice.to_string(),
            })
        }
        Values::TimeZone if value.eq_ignore_ascii_case("default") || value.eq_ignore_ascii_case("local") => {
            Ok(known.default.to_string())
        }
        Values::TimeZone => match TimeZone::parse(value) {
            Ok(_) => Ok(value.trim().to_string()),
            Err(_) => Err(invalid(known, value)),
        },
    }
}

/// `250`, `250ms`, `2s`, `1min`, `1h`, `1d`.
fn milliseconds(value: &str) -> Option<u64> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let number: u64 = value[..digits].parse().ok()?;
    let unit = match value[digits..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_comes_back_as_postgres_spells_it() {
        let mut settings = Settings::new("ann", &[("client_encoding".to_string(), "utf-8".to_string())]);
        assert_eq!(settings.get("CLIENT_ENCODING").as_deref(), Some("UTF8"));
        settings.set("statement_timeout", Some("2s")).expect("a duration");
        assert_eq!(settings.milliseconds("statement_timeout"), 2_000);
        settings.set("statement_timeout", None).expect("the default");
        assert_eq!(settings.milliseconds("statement_timeout"), 0);
        assert_eq!(settings.get("session_authorization").as_deref(), Some("ann"));
    }

    #[test]
    fn what_is_not_done_is_refused() {
        let mut settings = Settings::new("ann", &[]);
        assert_eq!(settings.set("nonsense", Some("1")).expect_err("unknown").state, SqlState::UNDEFINED_OBJECT);
        assert_eq!(settings.set("TimeZone", Some("Mars")).expect_err("zone").state, SqlState::INVALID_PARAMETER_VALUE);
        assert!(settings.set("server_version", Some("16")).is_err());
        settings.set("my.own", Some("x")).expect("a name with a dot is the user's");
    }
}
