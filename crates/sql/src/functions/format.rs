//! `format(template, ..)`: `%s`, `%I` and `%L` with positions, widths and `-`, as chapter 9.4.1 of PostgreSQL's manual has it.

use arrow::array::ArrayRef;
use catalog::system::quote_identifier;
use repr::{PgError, SqlState};

use super::kernel::Call;

/// One `%..` of a template.
struct Specifier {
    /// Which argument, from 1; None is the next one.
    position: Option<usize>,
    left: bool,
    width: Width,
    kind: char,
}

enum Width {
    Fixed(usize),
    /// That of an argument: the next one, or the one at this position.
    Argument(Option<usize>),
}

/// The template and its arguments, each as text.
pub(crate) fn format(call: &Call) -> Result<ArrayRef, PgError> {
    let template = call.text(0);
    call.map_text_nullable(|row, out| {
        if call.is_null(0, row) {
            return Ok(false);
        }
        let argument = |index: usize| -> Result<Option<String>, PgError> {
            if index == 0 || index >= call.argument_count() {
                return Err(invalid("too few arguments for format()"));
            }
            Ok((!call.is_null(index, row)).then(|| call.text(index).get(row).to_string()))
        };
        fill(template.get(row), &argument, out)?;
        Ok(true)
    })
}

fn invalid(message: &str) -> PgError {
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

fn fill(
    template: &str,
    argument: &dyn Fn(usize) -> Result<Option<String>, PgError>,
    out: &mut String,
) -> Result<(), PgError> {
    let mut rest = template;
    let mut last = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let (specifier, after) = specifier(rest)?;
        rest = after;
        let (left, width) = match specifier.width {
            Width::Fixed(width) => (specifier.left, width),
            Width::Argument(position) => {
                last = position.unwrap_or(last + 1);
                let given = argument(last)?.map_or(Ok(0), |text| text.parse::<i64>());
                let given = given.map_err(|_| invalid("width of format() must be an integer"))?;
                (specifier.left || given < 0, given.unsigned_abs() as usize)
            }
        };
        last = specifier.position.unwrap_or(last + 1);
        let value = argument(last)?;
        let shown = match (specifier.kind, value) {
            ('s', value) => value.unwrap_or_default(),
            ('I', Some(value)) => quote_identifier(&value),
            ('I', None) => {
                return Err(PgError::new(SqlState("22004"), "null values cannot be formatted as an SQL identifier"));
            }
            (_, Some(value)) => quote_literal(&value),
            (_, None) => "NULL".to_string(),
        };
        let padding = " ".repeat(width.saturating_sub(shown.chars().count()));
        match left {
            true => out.push_str(&format!("{shown}{padding}")),
            false => out.push_str(&format!("{padding}{shown}")),
        }
    }
    out.push_str(rest);
    Ok(())
}

/// What follows a `%`, and what follows that.
fn specifier(text: &str) -> Result<(Specifier, &str), PgError> {
    let unterminated = || invalid("unterminated format() type specifier").with_hint("For a single \"%\" use \"%%\".");
    let number = |text: &str| -> Option<usize> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        (digits > 0).then_some(digits)
    };
    let mut rest = text;
    let mut position = None;
    if let Some(digits) = number(rest)
        && let Some(after) = rest[digits..].strip_prefix('$')
    {
        position = rest[..digits].parse().ok();
        if position == Some(0) {
            return Err(invalid("format specifies argument 0, but arguments are numbered from 1"));
        }
        rest = after;
    }
    let mut left = false;
    while let Some(after) = rest.strip_prefix('-') {
        left = true;
        rest = after;
    }
    let mut width = Width::Fixed(0);
    if let Some(after) = rest.strip_prefix('*') {
        rest = after;
        width = Width::Argument(None);
        if let Some(digits) = number(rest)
            && let Some(after) = rest[digits..].strip_prefix('$')
        {
            width = Width::Argument(rest[..digits].parse().ok());
            rest = after;
        }
    } else if let Some(digits) = number(rest) {
        width = Width::Fixed(rest[..digits].parse().unwrap_or(0));
        rest = &rest[digits..];
    }
    let kind = rest.chars().next().ok_or_else(unterminated)?;
    if !matches!(kind, 's' | 'I' | 'L') {
        let message = format!("unrecognized format() type specifier \"{kind}\"");
        return Err(invalid(&message).with_hint("For a single \"%\" use \"%%\"."));
    }
    Ok((Specifier { position, left, width, kind }, &rest[1..]))
}

/// As `quote_literal` does: an E string where there is a backslash.
fn quote_literal(value: &str) -> String {
    let doubled = value.replace('\'', "''");
    match value.contains('\\') {
        true => format!("E'{}'", doubled.replace('\\', "\\\\")),
        false => format!("'{doubled}'"),
    }
}
