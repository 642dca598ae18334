//! `->`, `->>`, `#>`, `#>>` and friends over json and jsonb, which both are text.

use arrow::array::{Array, ArrayRef, AsArray};
use repr::text::json;
use repr::{PgError, SqlState};

use super::kernel::Call;

pub(crate) fn field(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, names) = (call.json(0), call.text(1));
    call.map_text_nullable(|row, out| Ok(push_raw(json::field(values.get(row), names.get(row)), out)))
}

pub(crate) fn field_text(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, names) = (call.json(0), call.text(1));
    call.map_text_nullable(|row, out| Ok(push_text(json::field(values.get(row), names.get(row)), out)))
}

pub(crate) fn element(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, indexes) = (call.json(0), call.int4(1));
    call.map_text_nullable(|row, out| Ok(push_raw(json::element(values.get(row), indexes.get(row) as i64), out)))
}

pub(crate) fn element_text(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, indexes) = (call.json(0), call.int4(1));
    call.map_text_nullable(|row, out| Ok(push_text(json::element(values.get(row), indexes.get(row) as i64), out)))
}

fn push_raw(found: Option<&str>, out: &mut String) -> bool {
    found.inspect(|raw| out.push_str(raw)).is_some()
}

fn push_text(found: Option<&str>, out: &mut String) -> bool {
    found.and_then(json::as_text).inspect(|text| out.push_str(text)).is_some()
}

fn at_path<'a>(value: &'a str, path: &ArrayRef) -> Option<&'a str> {
    let path = path.as_string::<i32>();
    let mut value = value;
    for index in 0..path.len() {
        if path.is_null(index) {
            return None;
        }
        let step = path.value(index);
        value = match json::type_name(value) {
            "object" => json::field(value, step)?,
            "array" => json::element(value, step.trim().parse().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

pub(crate) fn path(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, paths) = (call.json(0), call.argument(1).0.as_list::<i32>());
    call.map_text_nullable(|row, out| Ok(push_raw(at_path(values.get(row), &paths.value(call.index(1, row))), out)))
}

pub(crate) fn path_text(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, paths) = (call.json(0), call.argument(1).0.as_list::<i32>());
    call.map_text_nullable(|row, out| Ok(push_text(at_path(values.get(row), &paths.value(call.index(1, row))), out)))
}

pub(crate) fn exists(call: &Call) -> Result<ArrayRef, PgError> {
    let (values, names) = (call.json(0), call.text(1));
    call.map_bool(|row| {
        let (value, name) = (values.get(row), names.get(row));
        Ok(match json::type_name(value) {
            "object" => json::field(value, name).is_some(),
            "array" => json::elements(value)
                .unwrap_or_default()
                .into_iter()
                .any(|element| element.starts_with('"') && json::as_text(element).is_some_and(|text| text == name)),
            "string" => json::as_text(value).is_some_and(|text| text == name),
            _ => false,
        })
    })
}

/// Whether `left` contains `right`, by jsonb's rules.
fn contained(left: &str, right: &str, top: bool) -> bool {
    match (json::type_name(left), json::type_name(right)) {
        ("object", "object") => json::members(right).unwrap_or_default().into_iter().all(|(key, wanted)| {
            let name = json::as_text(key).unwrap_or_default();
            json::field(left, &name).is_some_and(|found| contained(found, wanted, false))
        }),
        ("array", "array") => {
            let elements = json::elements(left).unwrap_or_default();
            let wanted = json::elements(right).unwrap_or_default();
            wanted.into_iter().all(|wanted| elements.iter().any(|found| contained(found, wanted, false)))
        }
        // At the top an array contains a bare scalar.
        ("array", kind) if top && kind != "object" => {
            json::elements(left).unwrap_or_default().into_iter().any(|found| contained(found, right, false))
        }
        ("number", "number") => {
            let number = |text: &str| repr::numeric::Numeric::parse(text).ok();
            number(left) == number(right)
        }
        (left_kind, right_kind) => left_kind == right_kind && left == right,
    }
}

pub(crate) fn contains(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.json(0), call.json(1));
    call.map_bool(|row| Ok(contained(left.get(row), right.get(row), true)))
}

pub(crate) fn contained_by(call: &Call) -> Result<ArrayRef, PgError> {
    let (left, right) = (call.json(0), call.json(1));
    call.map_bool(|row| Ok(contained(right.get(row), left.get(row), true)))
}

pub(crate) fn type_of(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.json(0);
    call.map_str(|row| Ok(Some(json::type_name(values.get(row)))))
}

pub(crate) fn array_length(call: &Call) -> Result<ArrayRef, PgError> {
    let values = call.json(0);
    call.map::<arrow::datatypes::Int32Type>(|row| match json::elements(values.get(row)) {
        Some(elements) => Ok(elements.len() as i32),
        None => Err(PgError::new(
            SqlState::INVALID_PARAMETER_VALUE,
            match json::type_name(values.get(row)) {
                "object" => "cannot get array length of a non-array",
                _ => "cannot get array length of a scalar",
            },
        )),
    })
}
