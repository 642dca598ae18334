//! Reading options: each is a string the user wrote, each mistake names the option.

use std::str::FromStr;

use repr::source::Options;
use repr::{PgError, SqlState};

/// One option of a connector or a format, for the check and for the reference.
#[derive(Clone, Copy, Debug)]
pub struct OptionDoc {
    /// Its name as [`Options`] has it. A name that ends in a dot stands for all that start so.
    pub name: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// Errors with 22023 for an option that is not in `known`.
pub(crate) fn check_known(whose: &str, options: &Options, known: &[OptionDoc]) -> Result<(), PgError> {
    let is_known = |name: &str| {
        known.iter().any(|option| option.name == name || (option.name.ends_with('.') && name.starts_with(option.name)))
    };
    match options.keys().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => {
            let spelled: Vec<String> =
                known.iter().map(|option| option.name.replace('_', " ").to_uppercase()).collect();
            let hint = match spelled.is_empty() {
                true => "It takes no options.".to_string(),
                false => format!("Its options are {}.", spelled.join(", ")),
            };
            let message = format!("{whose} has no option \"{name}\"");
            Err(PgError::new(SqlState::INVALID_PARAMETER_VALUE, message).with_hint(hint))
        }
    }
}

/// Errors with 22023 where the option is missing.
pub(crate) fn required<'a>(whose: &str, options: &'a Options, name: &str) -> Result<&'a str, PgError> {
    options.get(name).map(String::as_str).ok_or_else(|| {
        let message = format!("{whose} needs the option {}", name.replace('_', " ").to_uppercase());
        PgError::new(SqlState::INVALID_PARAMETER_VALUE, message)
    })
}

/// A switch: present alone, or with a boolean.
pub(crate) fn flag(options: &Options, name: &str) -> Result<bool, PgError> {
    match options.get(name).map(|value| value.to_ascii_lowercase()).as_deref() {
        None | Some("false" | "off" | "no" | "0") => Ok(false),
        Some("true" | "on" | "yes" | "1") => Ok(true),
        Some(value) => Err(invalid(name, value)),
    }
}

/// A number, where the option is there.
pub(crate) fn number<X: FromStr>(options: &Options, name: &str) -> Result<Option<X>, PgError> {
    match options.get(name) {
        None => Ok(None),
        Some(value) => value.parse().map(Some).map_err(|_| invalid(name, value)),
    }
}

pub(crate) fn invalid(name: &str, value: &str) -> PgError {
    let message = format!("invalid value for option \"{name}\": \"{value}\"");
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}
