//! CREATE SEQUENCE and what ALTER SEQUENCE says, with PostgreSQL's rules for what goes together.

use std::sync::Arc;

use catalog::{Object, ObjectKind, Position, Sequence};
use repr::{ObjectId, PgError, SqlState, SqlType};

use super::{BoundStatement, Step, creation_target};
use crate::bind::BindContext;
use crate::cast::type_from_ast;
use crate::parse::{CreateSequence, Name, SequenceOptions};

pub(super) fn bind(create: &CreateSequence, context: &BindContext) -> Result<BoundStatement, PgError> {
    const TAG: &str = "CREATE SEQUENCE";
    let target = creation_target(&create.name, create.temporary, context)?;
    if create.if_not_exists && context.catalog.in_schema(&target.schema, &target.name).is_some() {
        return Ok(target.skipped(TAG));
    }
    let sequence = declared(&create.options)?;
    let mut object = Object::new(ObjectId(0), &target.schema, &target.name, ObjectKind::Sequence(sequence));
    own(&mut object, &create.options, context)?;
    Ok(BoundStatement::Define { tag: TAG, steps: vec![Step::Create(Box::new(object))] })
}

/// What CREATE SEQUENCE declares. Errors: 22023.
fn declared(options: &SequenceOptions) -> Result<Sequence, PgError> {
    let increment = options.increment.unwrap_or(1);
    let data_type = match &options.data_type {
        None => SqlType::Int8,
        Some(data_type) => number_type(data_type)?,
    };
    let (lowest, highest) = bounds(&data_type);
    let up = increment > 0;
    let min = options.min.flatten().unwrap_or(if up { 1 } else { lowest });
    let max = options.max.flatten().unwrap_or(if up { highest } else { -1 });
    let sequence = Sequence {
        start: options.start.unwrap_or(if up { min } else { max }),
        increment,
        min,
        max,
        cache: options.cache.unwrap_or(1),
        cycle: options.cycle.unwrap_or(false),
        owned_by: None,
        data_type,
    };
    validate(&sequence)?;
    Ok(sequence)
}

/// The sequence as ALTER SEQUENCE makes it, and where RESTART puts it. Errors: 22023.
pub(super) fn altered(sequence: &Sequence, options: &SequenceOptions) -> Result<(Sequence, Option<Position>), PgError> {
    let mut altered = sequence.clone();
    if let Some(data_type) = &options.data_type {
        let data_type = number_type(data_type)?;
        // Bounds that were the old type's are the new one's.
        let (lowest, highest) = bounds(&sequence.data_type);
        let (new_lowest, new_highest) = bounds(&data_type);
        if sequence.max == highest {
            altered.max = new_highest;
        }
        if sequence.min == lowest {
            altered.min = new_lowest;
        }
        altered.data_type = data_type;
    }
    altered.increment = options.increment.unwrap_or(altered.increment);
    let (lowest, highest) = bounds(&altered.data_type);
    let up = altered.increment > 0;
    if let Some(min) = options.min {
        altered.min = min.unwrap_or(if up { 1 } else { lowest });
    }
    if let Some(max) = options.max {
        altered.max = max.unwrap_or(if up { highest } else { -1 });
    }
    altered.start = options.start.unwrap_or(altered.start);
    altered.cache = options.cache.unwrap_or(altered.cache);
    altered.cycle = options.cycle.unwrap_or(altered.cycle);
    validate(&altered)?;
    let position = match options.restart {
        None => None,
        Some(value) => {
            let last_value = value.unwrap_or(altered.start);
            check_within("RESTART", last_value, &altered)?;
            Some(Position { last_value, is_called: false })
        }
    };
    Ok((altered, position))
}

/// Gives the sequence the owner that OWNED BY names. Errors: 42P01, 42703, 55000 for one in another schema, 42601.
pub(super) fn own(object: &mut Object, options: &SequenceOptions, context: &BindContext) -> Result<(), PgError> {
    let ObjectKind::Sequence(sequence) = &mut object.kind else { return Ok(()) };
    match &options.owned_by {
        None => return Ok(()),
        Some(None) => sequence.owned_by = None,
        Some(Some(parts)) => {
            let [qualifier @ .., column] = parts.as_slice() else { return Ok(()) };
            let name = match qualifier {
                [] => {
                    return Err(PgError::new(SqlState::SYNTAX_ERROR, "invalid OWNED BY option")
                        .with_hint("Specify OWNED BY table.column or OWNED BY NONE."));
                }
                [table] => Name { schema: None, name: table.clone(), position: 1 },
                [.., schema, table] => Name { schema: Some(schema.clone()), name: table.clone(), position: 1 },
            };
            let (table, schema) = super::resolve_table(&name, context)?;
            if table.schema != object.schema {
                let message = "sequence must be in same schema as table it is linked to";
                return Err(PgError::new(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, message));
            }
            let index = super::target_column(schema, &table.name, column, None)?;
            sequence.owned_by = Some((table.id, table.column_number(index)));
        }
    }
    object.depends_on = sequence.owned_by.map(|(table, _)| table).into_iter().collect();
    Ok(())
}

fn number_type(data_type: &sqlparser::ast::DataType) -> Result<SqlType, PgError> {
    match type_from_ast(data_type)?.0 {
        number @ (SqlType::Int2 | SqlType::Int4 | SqlType::Int8) => Ok(number),
        _ => Err(invalid("sequence type must be smallint, integer, or bigint".to_string())),
    }
}

fn bounds(data_type: &SqlType) -> (i64, i64) {
    match data_type {
        SqlType::Int2 => (i16::MIN as i64, i16::MAX as i64),
        SqlType::Int4 => (i32::MIN as i64, i32::MAX as i64),
        _ => (i64::MIN, i64::MAX),
    }
}

fn validate(sequence: &Sequence) -> Result<(), PgError> {
    let (lowest, highest) = bounds(&sequence.data_type);
    let type_name = sequence.data_type.sql_name();
    if sequence.increment == 0 {
        return Err(invalid("INCREMENT must not be zero".to_string()));
    }
    for (word, value) in [("MINVALUE", sequence.min), ("MAXVALUE", sequence.max)] {
        if !(lowest..=highest).contains(&value) {
            return Err(invalid(format!("{word} ({value}) is out of range for sequence data type {type_name}")));
        }
    }
    if sequence.min >= sequence.max {
        return Err(invalid(format!("MINVALUE ({}) must be less than MAXVALUE ({})", sequence.min, sequence.max)));
    }
    if sequence.cache < 1 {
        return Err(invalid(format!("CACHE ({}) must be greater than zero", sequence.cache)));
    }
    check_within("START", sequence.start, sequence)
}

fn check_within(word: &str, value: i64, sequence: &Sequence) -> Result<(), PgError> {
    if value < sequence.min {
        return Err(invalid(format!("{word} value ({value}) cannot be less than MINVALUE ({})", sequence.min)));
    }
    if value > sequence.max {
        return Err(invalid(format!("{word} value ({value}) cannot be greater than MAXVALUE ({})", sequence.max)));
    }
    Ok(())
}

fn invalid(message: String) -> PgError {
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}

/// The sequence that a text names as `nextval`'s argument does.
pub(crate) fn resolve_text<'a>(name: &str, context: &BindContext<'a>) -> Option<&'a Arc<Object>> {
    let object = context.search_path.resolve_text(context.catalog, name)?;
    matches!(object.kind, ObjectKind::Sequence(_)).then_some(object)
}
