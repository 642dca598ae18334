//! Expressions: the AST's node becomes a typed expression over the columns of a scope.
//!
//! Aggregates, window functions and subqueries stay in the expression as leaves ([`Expr::AggregateFunction`],
//! [`Expr::WindowFunction`], a column that stands for the subquery); the stage that can compute them replaces them.

use std::sync::Arc;

use datafusion::arrow::datatypes::Field;
use datafusion::functions_nested::extract::array_element_udf;
use datafusion::functions_nested::make_array::make_array_udf;
use datafusion::logical_expr::expr::{InList, Placeholder};
use datafusion::logical_expr::{Expr, lit};
use repr::{PgError, SqlState, SqlType};
use sqlparser::ast::{self, BinaryOperator, UnaryOperator, Value};

use super::build::case;
use super::scope::{Env, fold};
use super::{Binder, parameter_index};
use crate::cast::{CastContext, cast, common_type, type_from_ast};
use crate::literal;
use crate::operators::{equality_key, not_distinct, resolve_operator};
use crate::parse::symmetric;
use crate::typed::TypedExpr;

/// Which part of a statement an expression stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clause {
    Select,
    Where,
    Having,
    GroupBy,
    OrderBy,
    DistinctOn,
    JoinOn,
    FromFunction,
    Filter,
    Values,
    Limit,
    Offset,
    Window,
}

/// Whether an expression is an argument of an aggregate or a window function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    Neither,
    Aggregate,
    Window,
}

/// Where an expression stands.
#[derive(Clone, Copy)]
pub(crate) struct At<'e> {
    pub(crate) env: &'e Env<'e>,
    pub(crate) clause: Clause,
    pub(crate) inside: Inside,
    /// What WINDOW defines.
    pub(crate) windows: &'e [ast::NamedWindowDefinition],
}

impl Clause {
    /// As error messages call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Clause::Select => "SELECT",
            Clause::Where => "WHERE",
            Clause::Having => "HAVING",
            Clause::GroupBy => "GROUP BY",
            Clause::OrderBy => "ORDER BY",
            Clause::DistinctOn => "DISTINCT ON",
            Clause::JoinOn => "JOIN conditions",
            Clause::FromFunction => "functions in FROM",
            Clause::Filter => "FILTER",
            Clause::Values => "VALUES",
            Clause::Limit => "LIMIT",
            Clause::Offset => "OFFSET",
            Clause::Window => "window definitions",
        }
    }
}

impl Binder<'_> {
    /// Binds an expression that stands in `clause` over the scopes of `env`.
    pub(crate) fn bind_expr(&self, expr: &ast::Expr, env: &Env, clause: Clause) -> Result<TypedExpr, PgError> {
        self.bind_at(expr, At { env, clause, inside: Inside::Neither, windows: &[] })
    }

    pub(crate) fn bind_at(&self, expr: &ast::Expr, at: At) -> Result<TypedExpr, PgError> {
        stacker::maybe_grow(128 * 1024, 4 * 1024 * 1024, || self.bind_node(expr, at))
    }

    fn bind_node(&self, expr: &ast::Expr, at: At) -> Result<TypedExpr, PgError> {
        if misread(expr) {
            return self.bind_at(&reread(expr), at);
        }
        let bind = |expr: &ast::Expr| self.bind_at(expr, at);
        let call = |name: &str, args: &[&ast::Expr]| {
            let args = args.iter().map(|arg| bind(arg)).collect::<Result<Vec<_>, _>>()?;
            self.call(name, args)
        };
        match expr {
            ast::Expr::Identifier(ident) => self.resolve_column(ident, at.env),
            ast::Expr::CompoundIdentifier(parts) => self.resolve_qualified(parts, at.env),
            ast::Expr::Nested(inner) => bind(inner),
            ast::Expr::Value(value) => self.bind_value(value).map_err(|error| self.at(error, value.span)),
            ast::Expr::TypedString(typed) => {
                let (sql_type, typmod) = type_from_ast(&typed.data_type)?;
                let text = string_of(&typed.value.value)?;
                literal::typed(&sql_type, typmod, &text).map_err(|error| self.at(error, typed.value.span))
            }
            ast::Expr::Interval(interval) => self.bind_interval(interval),
            ast::Expr::BinaryOp { left, op, right } => self.bind_binary(left, op, right, at),
            ast::Expr::UnaryOp { op, expr } => self.bind_unary(*op, expr, at),
            ast::Expr::Cast { expr, data_type, kind, array, format } => {
                if *array || format.is_some() || matches!(kind, ast::CastKind::TryCast | ast::CastKind::SafeCast) {
                    return Err(PgError::unsupported("this form of CAST"));
                }
                let (sql_type, typmod) = type_from_ast(data_type)?;
                if let (ast::Expr::Array(array), SqlType::Array(element)) = (without_parens(expr), &sql_type) {
                    return self.bind_array(&array.elem, Some(element), at);
                }
                let span = if let ast::Expr::Value(value) = expr.as_ref() { value.span } else { span_of(expr) };
                cast(bind(expr)?, &sql_type, typmod, CastContext::Explicit).map_err(|error| self.at(error, span))
            }
            ast::Expr::IsNull(inner) => self.null_test(inner, Expr::IsNull, at),
            ast::Expr::IsNotNull(inner) => self.null_test(inner, Expr::IsNotNull, at),
            ast::Expr::IsTrue(inner) => self.truth_test(inner, "IS TRUE", Expr::IsTrue, at),
            ast::Expr::IsNotTrue(inner) => self.truth_test(inner, "IS NOT TRUE", Expr::IsNotTrue, at),
            ast::Expr::IsFalse(inner) => self.truth_test(inner, "IS FALSE", Expr::IsFalse, at),
            ast::Expr::IsNotFalse(inner) => self.truth_test(inner, "IS NOT FALSE", Expr::IsNotFalse, at),
            ast::Expr::IsUnknown(inner) => self.truth_test(inner, "IS UNKNOWN", Expr::IsUnknown, at),
            ast::Expr::IsNotUnknown(inner) => self.truth_test(inner, "IS NOT UNKNOWN", Expr::IsNotUnknown, at),
            ast::Expr::IsNotDistinctFrom(left, right) => self.not_distinct_from(left, right, at),
            ast::Expr::IsDistinctFrom(left, right) => negate(self.not_distinct_from(left, right, at)?, true),
            ast::Expr::Between { expr, negated, low, high } => {
                let value = bind(expr)?;
                let within = |low: TypedExpr, high: TypedExpr| {
                    let from = resolve_operator(">=", Some(value.clone()), low)?;
                    resolve_operator("and", Some(from), resolve_operator("<=", Some(value.clone()), high)?)
                };
                let either_way = match symmetric(low) {
                    None => within(bind(low)?, bind(high)?)?,
                    Some(bound) => {
                        let (bound, high) = (bind(bound)?, bind(high)?);
                        let forward = within(bound.clone(), high.clone())?;
                        resolve_operator("or", Some(forward), within(high, bound)?)?
                    }
                };
                negate(either_way, *negated)
            }
            ast::Expr::Like { negated, any: false, expr, pattern, escape_char } => {
                self.bind_like(if *negated { "!~~" } else { "~~" }, expr, pattern, escape_char.as_ref(), at)
            }
            ast::Expr::ILike { negated, any: false, expr, pattern, escape_char } => {
                self.bind_like(if *negated { "!~~*" } else { "~~*" }, expr, pattern, escape_char.as_ref(), at)
            }
            ast::Expr::SimilarTo { negated, expr, pattern, escape_char } => {
                let mut args = vec![bind(pattern)?];
                if let Some(escape) = escape_char {
                    args.push(self.bind_value(escape)?);
                }
                let pattern = self.call("similar_to_escape", args)?;
                negate(resolve_operator("~", Some(bind(expr)?), pattern)?, *negated)
            }
            ast::Expr::InList { expr, list, negated } => self.bind_in_list(expr, list, *negated, at),
            ast::Expr::InSubquery { expr, subquery, negated } => self.bind_in_subquery(expr, subquery, *negated, at),
            ast::Expr::Exists { subquery, negated } => self.bind_exists(subquery, *negated, at),
            ast::Expr::Subquery(query) => self.bind_scalar_subquery(query, at),
            ast::Expr::AnyOp { left, compare_op, right, .. } => {
                self.bind_quantified(left, &operator_name(compare_op), right, false, at)
            }
            ast::Expr::AllOp { left, compare_op, right } => {
                self.bind_quantified(left, &operator_name(compare_op), right, true, at)
            }
            ast::Expr::Case { operand, conditions, else_result, .. } => {
                self.bind_case(operand.as_deref(), conditions, else_result.as_deref(), at)
            }
            ast::Expr::Function(function) => self.bind_function(function, at),
            ast::Expr::Array(array) => self.bind_array(&array.elem, None, at),
            ast::Expr::CompoundFieldAccess { root, access_chain } => self.bind_access(root, access_chain, at),
            ast::Expr::AtTimeZone { timestamp, time_zone } => call("timezone", &[time_zone, timestamp]),
            ast::Expr::Extract { field, expr, .. } => {
                let field = field.to_string().to_lowercase();
                let field = field.trim_matches(['"', '\'']);
                self.call("extract", vec![literal::string(field), bind(expr)?])
            }
            ast::Expr::Ceil { expr, field: ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) } => {
                call("ceil", &[expr])
            }
            ast::Expr::Floor { expr, field: ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) } => {
                call("floor", &[expr])
            }
            ast::Expr::Position { expr, r#in } => call("strpos", &[r#in, expr]),
            ast::Expr::Substring { expr, substring_from, substring_for, .. } => {
                let mut args = vec![bind(expr)?];
                match (substring_from, substring_for) {
                    (None, None) => {}
                    (Some(from), None) => args.push(bind(from)?),
                    (Some(from), Some(length)) => args.extend([bind(from)?, bind(length)?]),
                    (None, Some(length)) => args.extend([literal::number("1")?, bind(length)?]),
                }
                self.call("substring", args)
            }
            ast::Expr::Trim { expr, trim_where, trim_what, trim_characters } => {
                let name = match trim_where {
                    None | Some(ast::TrimWhereField::Both) => "btrim",
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                };
                let mut args = vec![bind(expr)?];
                for what in trim_what.iter().map(Box::as_ref).chain(trim_characters.iter().flatten()) {
                    args.push(bind(what)?);
                }
                self.call(name, args)
            }
            ast::Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let mut args = vec![bind(expr)?, bind(overlay_what)?, bind(overlay_from)?];
                if let Some(length) = overlay_for {
                    args.push(bind(length)?);
                }
                self.call("overlay", args)
            }
            ast::Expr::Collate { expr, collation } => {
                let name = super::from::name_text(collation).to_lowercase();
                match name.trim_start_matches("pg_catalog.") {
                    "c" | "posix" | "default" | "ucs_basic" => bind(expr),
                    _ => Err(PgError::unsupported(format!("collation \"{name}\""))),
                }
            }
            ast::Expr::Tuple(_) => Err(PgError::unsupported("a row as a value")),
            ast::Expr::GroupingSets(_) | ast::Expr::Cube(_) | ast::Expr::Rollup(_) => {
                Err(PgError::unsupported("GROUPING SETS, CUBE or ROLLUP here"))
            }
            ast::Expr::Wildcard(_) | ast::Expr::QualifiedWildcard(..) => {
                Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \"*\""))
            }
            other => Err(self.at(PgError::unsupported(format!("the expression \"{other}\"")), span_of(other))),
        }
    }

    fn bind_value(&self, value: &ast::ValueWithSpan) -> Result<TypedExpr, PgError> {
        match &value.value {
            Value::Number(text, _) => literal::number(text),
            Value::Boolean(value) => Ok(literal::boolean(*value)),
            Value::Null => Ok(literal::null()),
            Value::Placeholder(id) => self.bind_parameter(id),
            other => string_of(other).map(|text| literal::string(&text)),
        }
    }

    /// `$1`: of the type that was declared for it, or of unknown type.
    fn bind_parameter(&self, id: &str) -> Result<TypedExpr, PgError> {
        let Some(index) = parameter_index(id) else {
            return Err(PgError::new(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter {id}")));
        };
        let mut types = self.context.parameter_types.borrow_mut();
        if types.len() <= index {
            types.resize(index + 1, None);
        }
        let field = types[index].as_ref().map(|sql_type| Field::new(sql_type.name(), sql_type.arrow(), true));
        let sql_type = types[index].clone().unwrap_or(SqlType::Unknown);
        let placeholder = Placeholder::new_with_field(id.to_string(), field.map(Arc::new));
        Ok(TypedExpr::new(Expr::Placeholder(placeholder), sql_type))
    }

    fn bind_interval(&self, interval: &ast::Interval) -> Result<TypedExpr, PgError> {
        let ast::Expr::Value(value) = interval.value.as_ref() else {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, "INTERVAL needs a quoted literal"));
        };
        let text = string_of(&value.value)?;
        let bare = text.trim().trim_start_matches(['-', '+']).chars().all(|c| c.is_ascii_digit() || c == '.');
        // A field says what a bare number counts: the last one named, as in '5' MINUTE TO SECOND.
        let text = match interval.last_field.as_ref().or(interval.leading_field.as_ref()) {
            Some(field) if bare => format!("{text} {field}"),
            _ => text,
        };
        literal::typed(&SqlType::Interval, -1, &text).map_err(|error| self.at(error, value.span))
    }

    fn bind_binary(
        &self,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
        at: At,
    ) -> Result<TypedExpr, PgError> {
        let name = operator_name(op);
        if let (ast::Expr::Tuple(left), ast::Expr::Tuple(right)) = (left, right) {
            let left = left.iter().map(|expr| self.bind_at(expr, at)).collect::<Result<Vec<_>, _>>()?;
            let right = right.iter().map(|expr| self.bind_at(expr, at)).collect::<Result<Vec<_>, _>>()?;
            return compare_rows(&name, left, right);
        }
        if let (ast::Expr::Tuple(left), ast::Expr::Subquery(query)) = (left, without_parens(right)) {
            return self.bind_row_subquery(left, &name, query, at);
        }
        let left = self.bind_at(left, at)?;
        let right = self.bind_at(right, at)?;
        resolve_operator(&name, Some(left), right)
    }

    fn bind_unary(&self, op: UnaryOperator, expr: &ast::Expr, at: At) -> Result<TypedExpr, PgError> {
        if op == UnaryOperator::Minus
            && let Some((value, text)) = negated_number(expr)
        {
            return literal::number(&text).map_err(|error| self.at(error, value.span));
        }
        let operand = self.bind_at(expr, at)?;
        match op {
            UnaryOperator::Not => resolve_operator("not", None, operand),
            op => resolve_operator(&op.to_string(), None, operand),
        }
    }

    /// IS NULL and IS NOT NULL, as `test`. A row passes if all of its fields do.
    fn null_test(&self, expr: &ast::Expr, test: fn(Box<Expr>) -> Expr, at: At) -> Result<TypedExpr, PgError> {
        let fields = match without_parens(expr) {
            ast::Expr::Tuple(fields) => fields.as_slice(),
            _ => std::slice::from_ref(expr),
        };
        let mut tests = Vec::new();
        for field in fields {
            tests.push(test(Box::new(self.bind_at(field, at)?.expr)));
        }
        let all = tests.into_iter().reduce(|left, right| left.and(right));
        all.map(boolean).ok_or_else(|| PgError::unsupported("IS NULL of an empty row"))
    }

    /// IS NOT DISTINCT FROM, of rows field by field.
    fn not_distinct_from(&self, left: &ast::Expr, right: &ast::Expr, at: At) -> Result<TypedExpr, PgError> {
        let (ast::Expr::Tuple(left), ast::Expr::Tuple(right)) = (without_parens(left), without_parens(right)) else {
            return not_distinct(self.bind_at(left, at)?, self.bind_at(right, at)?);
        };
        if left.len() != right.len() {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, "unequal number of entries in row expressions"));
        }
        let mut all = literal::boolean(true);
        for (left, right) in left.iter().zip(right) {
            let same = not_distinct(self.bind_at(left, at)?, self.bind_at(right, at)?)?;
            all = resolve_operator("and", Some(all), same)?;
        }
        Ok(all)
    }

    fn truth_test(
        &self,
        expr: &ast::Expr,
        name: &str,
        test: fn(Box<Expr>) -> Expr,
        at: At,
    ) -> Result<TypedExpr, PgError> {
        let typed = self.bind_at(expr, at)?;
        Ok(boolean(test(Box::new(self.boolean(typed, name)?))))
    }

    fn bind_like(
        &self,
        op: &str,
        expr: &ast::Expr,
        pattern: &ast::Expr,
        escape: Option<&ast::ValueWithSpan>,
        at: At,
    ) -> Result<TypedExpr, PgError> {
        let value = self.bind_at(expr, at)?;
        let mut pattern = self.bind_at(pattern, at)?;
        if let Some(escape) = escape {
            pattern = self.call("like_escape", vec![pattern, self.bind_value(escape)?])?;
        }
        resolve_operator(op, Some(value), pattern)
    }

    fn bind_in_list(&self, expr: &ast::Expr, list: &[ast::Expr], negated: bool, at: At) -> Result<TypedExpr, PgError> {
        if let ast::Expr::Tuple(row) = expr {
            let row = row.iter().map(|expr| self.bind_at(expr, at)).collect::<Result<Vec<_>, _>>()?;
            let mut any: Option<TypedExpr> = None;
            for item in list {
                let ast::Expr::Tuple(item) = without_parens(item) else {
                    return Err(PgError::new(SqlState::SYNTAX_ERROR, "unequal number of entries in row expressions"));
                };
                let item = item.iter().map(|expr| self.bind_at(expr, at)).collect::<Result<Vec<_>, _>>()?;
                let equal = compare_rows("=", row.clone(), item)?;
                any = Some(match any {
                    None => equal,
                    Some(before) => resolve_operator("or", Some(before), equal)?,
                });
            }
            return negate(any.unwrap_or_else(|| literal::boolean(false)), negated);
        }
        let value = self.bind_at(expr, at)?;
        let list = list.iter().map(|expr| self.bind_at(expr, at)).collect::<Result<Vec<_>, _>>()?;
        let inputs: Vec<&TypedExpr> = std::iter::once(&value).chain(&list).collect();
        if let Ok(sql_type) = common_type("IN", &inputs) {
            let sql_type = if sql_type == SqlType::Unknown { SqlType::Text } else { sql_type };
            let key = |typed: &TypedExpr| {
                let typed = if typed.sql_type == sql_type {
                    typed.clone()
                } else {
                    cast(typed.clone(), &sql_type, -1, CastContext::Implicit)?
                };
                Ok::<Expr, PgError>(equality_key(TypedExpr { typmod: -1, ..typed }))
            };
            // Asked for its error only: whether the type has equality at all.
            resolve_operator("=", Some(value.clone()), list[0].clone())?;
            let list = list.iter().map(key).collect::<Result<Vec<_>, _>>()?;
            return Ok(boolean(Expr::InList(InList::new(Box::new(key(&value)?), list, negated))));
        }
        let mut any: Option<TypedExpr> = None;
        for item in list {
            let equal = resolve_operator("=", Some(value.clone()), item)?;
            any = Some(match any {
                None => equal,
                Some(before) => resolve_operator("or", Some(before), equal)?,
            });
        }
        negate(any.unwrap_or_else(|| literal::boolean(false)), negated)
    }

    fn bind_case(
        &self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
        at: At,
    ) -> Result<TypedExpr, PgError> {
        let operand = operand.map(|expr| self.bind_at(expr, at)).transpose()?;
        let mut whens = Vec::new();
        let mut results = Vec::new();
        for branch in conditions {
            let condition = self.bind_at(&branch.condition, at)?;
            whens.push(match &operand {
                Some(operand) => resolve_operator("=", Some(operand.clone()), condition)?.expr,
                None => self.boolean(condition, "CASE/WHEN")?,
            });
            results.push(self.bind_at(&branch.result, at)?);
        }
        results.push(match otherwise {
            Some(expr) => self.bind_at(expr, at)?,
            None => literal::null(),
        });
        // PostgreSQL looks at ELSE first.
        let inputs: Vec<&TypedExpr> = results.iter().rev().take(1).chain(&results[..results.len() - 1]).collect();
        let results_typed = unify("CASE", &inputs)?;
        let (sql_type, typmod) = (results_typed[0].sql_type.clone(), shared_typmod(&results_typed));
        let mut exprs = results_typed.into_iter().map(|typed| typed.expr);
        let otherwise = exprs.next().unwrap_or_else(|| literal::null().expr);
        let branches = whens.into_iter().zip(exprs).collect();
        Ok(TypedExpr { expr: case(branches, otherwise), sql_type, typmod })
    }

    fn bind_array(&self, elements: &[ast::Expr], wanted: Option<&SqlType>, at: At) -> Result<TypedExpr, PgError> {
        let bound = elements.iter().map(|expr| self.bind_at(expr, at)).collect::<Result<Vec<_>, _>>()?;
        if bound.iter().any(|typed| matches!(typed.sql_type, SqlType::Array(_))) {
            return Err(PgError::unsupported("an array of arrays"));
        }
        let element = match wanted {
            Some(element) => element.clone(),
            None if bound.is_empty() => {
                return Err(PgError::new(SqlState::INDETERMINATE_DATATYPE, "cannot determine type of empty array")
                    .with_hint("Explicitly cast to the desired type, for example ARRAY[]::integer[]."));
            }
            None => match common_type("ARRAY", &bound.iter().collect::<Vec<_>>())? {
                SqlType::Unknown => SqlType::Text,
                element => element,
            },
        };
        let sql_type = SqlType::Array(Box::new(element.clone()));
        if bound.is_empty() {
            let empty = datafusion::common::ScalarValue::new_list_nullable(&[], &element.arrow());
            let empty = datafusion::common::ScalarValue::List(empty);
            return Ok(TypedExpr::new(lit(empty), sql_type));
        }
        let context = if wanted.is_some() { CastContext::Explicit } else { CastContext::Implicit };
        let mut exprs = Vec::new();
        for typed in bound {
            exprs.push(if typed.sql_type == element { typed.expr } else { cast(typed, &element, -1, context)?.expr });
        }
        Ok(TypedExpr::new(make_array_udf().call(exprs), sql_type))
    }

    fn bind_access(&self, root: &ast::Expr, chain: &[ast::AccessExpr], at: At) -> Result<TypedExpr, PgError> {
        // `t.tags[1]` comes as a field of t.
        let mut names = match root {
            ast::Expr::Identifier(ident) => vec![ident.clone()],
            ast::Expr::CompoundIdentifier(idents) => idents.clone(),
            _ => Vec::new(),
        };
        let mut chain = chain;
        while let (false, [ast::AccessExpr::Dot(ast::Expr::Identifier(name)), rest @ ..]) = (names.is_empty(), chain) {
            names.push(name.clone());
            chain = rest;
        }
        let mut value = match names.as_slice() {
            [] | [_] => self.bind_at(root, at)?,
            _ => self.bind_at(&ast::Expr::CompoundIdentifier(names), at)?,
        };
        for access in chain {
            if let (ast::AccessExpr::Dot(ast::Expr::Identifier(field)), SqlType::Array(element)) =
                (access, &value.sql_type)
                && **element == SqlType::Int4
                && matches!(fold(field).as_str(), "x" | "n")
            {
                // The records of `_pg_expandarray` are arrays of their two fields.
                let index = if fold(field) == "x" { 1i64 } else { 2 };
                let found = array_element_udf().call(vec![value.expr, lit(index)]);
                value = TypedExpr::new(found, SqlType::Int4);
                continue;
            }
            let ast::AccessExpr::Subscript(ast::Subscript::Index { index }) = access else {
                return Err(PgError::unsupported("a slice or a field of a value"));
            };
            let mut index = self.bind_at(index, at)?;
            if value.sql_type.is_catalog_vector() {
                // It counts from 0.
                index = resolve_operator("+", Some(index), literal::number("1")?)?;
                value = value.vector_as_array();
            }
            value = match value.sql_type.clone() {
                SqlType::Array(element) => {
                    let index = cast(index, &SqlType::Int8, -1, CastContext::Implicit)?.expr;
                    // Counting from the end is another dialect's: outside the array there is nothing.
                    let inside = index.clone().gt(lit(0i64));
                    let found = array_element_udf().call(vec![value.expr, index]);
                    let null =
                        lit(datafusion::common::ScalarValue::try_from(&element.arrow())
                            .map_err(super::build::internal)?);
                    TypedExpr { expr: case(vec![(inside, found)], null), sql_type: *element, typmod: value.typmod }
                }
                SqlType::Jsonb => resolve_operator("->", Some(value), index)?,
                other => {
                    let message =
                        format!("cannot subscript type {} because it does not support subscripting", other.sql_name());
                    return Err(PgError::new(SqlState::DATATYPE_MISMATCH, message));
                }
            };
        }
        Ok(value)
    }
}

/// A number, also in parentheses or after a minus of its own, with its sign turned: to PostgreSQL a minus belongs to the
/// number, so that -2147483648 and -(2147483648) are integers though 2147483648 is not.
fn negated_number(expr: &ast::Expr) -> Option<(&ast::ValueWithSpan, String)> {
    let mut minus = true;
    let mut inner = expr;
    loop {
        inner = match inner {
            ast::Expr::Nested(nested) => nested,
            ast::Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
                minus = !minus;
                expr
            }
            ast::Expr::Value(value) => {
                let Value::Number(text, _) = &value.value else { return None };
                return Some((value, if minus { format!("-{text}") } else { text.clone() }));
            }
            _ => return None,
        };
    }
}

/// Whether the parser took too much for the right side of IS DISTINCT FROM: it reads `a IS DISTINCT FROM b AND c` as if the
/// AND were part of it.
fn misread(expr: &ast::Expr) -> bool {
    match expr {
        ast::Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => {
            misread(left) || misread(right)
        }
        ast::Expr::UnaryOp { op: UnaryOperator::Not, expr } => misread(expr),
        ast::Expr::IsDistinctFrom(_, right) | ast::Expr::IsNotDistinctFrom(_, right) => {
            matches!(right.as_ref(), ast::Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. })
        }
        _ => false,
    }
}

/// A piece of an expression between its ANDs, ORs and NOTs.
enum Piece {
    Not,
    And,
    Or,
    Whole(ast::Expr),
}

/// The expression as it was meant: taken apart in the order of the text, and put together by precedence.
fn reread(expr: &ast::Expr) -> ast::Expr {
    let mut pieces = Vec::new();
    take_apart(expr, &mut pieces);
    let mut pieces = pieces.into_iter().peekable();
    put_together(&mut pieces, false)
}

fn take_apart(expr: &ast::Expr, pieces: &mut Vec<Piece>) {
    type Test = fn(Box<ast::Expr>, Box<ast::Expr>) -> ast::Expr;
    let (left, right, test): (_, _, Test) = match expr {
        ast::Expr::BinaryOp { left, op: op @ (BinaryOperator::And | BinaryOperator::Or), right } => {
            take_apart(left, pieces);
            pieces.push(if *op == BinaryOperator::And { Piece::And } else { Piece::Or });
            return take_apart(right, pieces);
        }
        ast::Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
            pieces.push(Piece::Not);
            return take_apart(expr, pieces);
        }
        ast::Expr::IsDistinctFrom(left, right) => (left, right, ast::Expr::IsDistinctFrom),
        ast::Expr::IsNotDistinctFrom(left, right) => (left, right, ast::Expr::IsNotDistinctFrom),
        other => return pieces.push(Piece::Whole(other.clone())),
    };
    // The test takes the first piece of its right side; what follows goes on beside it.
    let start = pieces.len();
    take_apart(right, pieces);
    if let Some(piece @ Piece::Whole(_)) = pieces.get_mut(start) {
        let first = std::mem::replace(piece, Piece::Not);
        if let Piece::Whole(first) = first {
            *piece = Piece::Whole(test(left.clone(), Box::new(first)));
        }
    } else {
        pieces.truncate(start);
        pieces.push(Piece::Whole(test(left.clone(), Box::new(ast::Expr::Nested(right.clone())))));
    }
}

/// A chain of ORs, or within one of ANDs.
fn put_together(pieces: &mut std::iter::Peekable<std::vec::IntoIter<Piece>>, within_or: bool) -> ast::Expr {
    let operand = |pieces: &mut std::iter::Peekable<std::vec::IntoIter<Piece>>| {
        if within_or { negation(pieces) } else { put_together(pieces, true) }
    };
    let mut left = operand(pieces);
    let is_next = |piece: &Piece| matches!((piece, within_or), (Piece::And, true) | (Piece::Or, false));
    while pieces.next_if(is_next).is_some() {
        let op = if within_or { BinaryOperator::And } else { BinaryOperator::Or };
        left = ast::Expr::BinaryOp { left: Box::new(left), op, right: Box::new(operand(pieces)) };
    }
    left
}

fn negation(pieces: &mut std::iter::Peekable<std::vec::IntoIter<Piece>>) -> ast::Expr {
    match pieces.next() {
        Some(Piece::Not) => ast::Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(negation(pieces)) },
        Some(Piece::Whole(expr)) => expr,
        // The pieces of an expression alternate, so there is always one here.
        Some(Piece::And | Piece::Or) | None => ast::Expr::value(Value::Null),
    }
}

/// A boolean expression.
pub(crate) fn boolean(expr: Expr) -> TypedExpr {
    TypedExpr::new(expr, SqlType::Bool)
}

/// NOT, if `negated`.
pub(crate) fn negate(typed: TypedExpr, negated: bool) -> Result<TypedExpr, PgError> {
    if negated { resolve_operator("not", None, typed) } else { Ok(typed) }
}

/// All of `inputs` as their common type; text where none has a type.
pub(crate) fn unify(context: &str, inputs: &[&TypedExpr]) -> Result<Vec<TypedExpr>, PgError> {
    let sql_type = match common_type(context, inputs)? {
        SqlType::Unknown => SqlType::Text,
        sql_type => sql_type,
    };
    inputs
        .iter()
        .map(|input| {
            if input.sql_type == sql_type {
                Ok((*input).clone())
            } else {
                cast((*input).clone(), &sql_type, -1, CastContext::Implicit)
            }
        })
        .collect()
}

/// The type modifier they all have, or none.
pub(crate) fn shared_typmod(inputs: &[TypedExpr]) -> i32 {
    match inputs {
        [first, rest @ ..] if rest.iter().all(|input| input.typmod == first.typmod) => first.typmod,
        _ => -1,
    }
}

/// Compares two rows as PostgreSQL does: column by column until a pair decides.
pub(crate) fn compare_rows(op: &str, left: Vec<TypedExpr>, right: Vec<TypedExpr>) -> Result<TypedExpr, PgError> {
    if left.len() != right.len() {
        return Err(PgError::new(SqlState::SYNTAX_ERROR, "unequal number of entries in row expressions"));
    }
    let mut pairs = left.into_iter().zip(right).rev();
    let Some((l, r)) = pairs.next() else {
        return Err(PgError::unsupported("a comparison of empty rows"));
    };
    let strict = op.trim_end_matches('=');
    let (first, join) = match op {
        "=" => ("=", "and"),
        "<>" => ("<>", "or"),
        "<" | "<=" | ">" | ">=" => (op, ""),
        other => return Err(PgError::unsupported(format!("operator {other} on rows"))),
    };
    let mut result = resolve_operator(first, Some(l), r)?;
    for (l, r) in pairs {
        result = if join.is_empty() {
            let decided = resolve_operator(strict, Some(l.clone()), r.clone())?;
            let equal = resolve_operator("=", Some(l), r)?;
            resolve_operator("or", Some(decided), resolve_operator("and", Some(equal), result)?)?
        } else {
            resolve_operator(join, Some(resolve_operator(first, Some(l), r)?), result)?
        };
    }
    Ok(result)
}

/// The operator's name as PostgreSQL's catalog has it; words in lower case.
pub(crate) fn operator_name(op: &BinaryOperator) -> String {
    match op {
        BinaryOperator::PGCustomBinaryOperator(parts) => parts.last().cloned().unwrap_or_default(),
        op => op.to_string().to_lowercase(),
    }
}

/// The expression within parentheses.
pub(crate) fn without_parens(expr: &ast::Expr) -> &ast::Expr {
    match expr {
        ast::Expr::Nested(inner) => without_parens(inner),
        expr => expr,
    }
}

fn string_of(value: &Value) -> Result<String, PgError> {
    match value {
        Value::SingleQuotedString(text)
        | Value::EscapedStringLiteral(text)
        | Value::UnicodeStringLiteral(text)
        | Value::NationalStringLiteral(text) => Ok(text.clone()),
        Value::DollarQuotedString(quoted) => Ok(quoted.value.clone()),
        Value::Number(text, _) => Ok(text.clone()),
        other => Err(PgError::unsupported(format!("the literal {other}"))),
    }
}

pub(crate) fn span_of(expr: &ast::Expr) -> sqlparser::tokenizer::Span {
    sqlparser::ast::Spanned::span(expr)
}

/// The name a SELECT item without an alias gets.
pub(crate) fn column_name(expr: &ast::Expr) -> String {
    known_name(expr).unwrap_or_else(|| "?column?".to_string())
}

/// Whether an expression's name outlives a cast: that of a column or function, not that of a constant or of another cast.
fn is_named_by_itself(expr: &ast::Expr) -> bool {
    match expr {
        ast::Expr::Nested(inner) | ast::Expr::Collate { expr: inner, .. } | ast::Expr::Cast { expr: inner, .. } => {
            is_named_by_itself(inner)
        }
        ast::Expr::Value(_) | ast::Expr::TypedString(_) | ast::Expr::Interval(_) => false,
        ast::Expr::Case { else_result, .. } => else_result.as_ref().is_some_and(|expr| is_named_by_itself(expr)),
        expr => known_name(expr).is_some(),
    }
}

fn known_name(expr: &ast::Expr) -> Option<String> {
    Some(match expr {
        ast::Expr::Identifier(ident) => fold(ident),
        ast::Expr::CompoundIdentifier(parts) => fold(parts.last()?),
        ast::Expr::Nested(inner) | ast::Expr::Collate { expr: inner, .. } => return known_name(inner),
        ast::Expr::Value(value) if matches!(value.value, Value::Boolean(_)) => "bool".to_string(),
        ast::Expr::Cast { expr, data_type, .. } => match known_name(expr).filter(|_| is_named_by_itself(expr)) {
            Some(name) => name,
            None => type_from_ast(data_type).ok()?.0.name().trim_start_matches('_').to_string(),
        },
        ast::Expr::TypedString(typed) => type_from_ast(&typed.data_type).ok()?.0.name(),
        ast::Expr::Interval(_) => "interval".to_string(),
        ast::Expr::Function(function) => match function.name.0.last()? {
            ast::ObjectNamePart::Identifier(ident) => fold(ident),
            ast::ObjectNamePart::Function(_) => return None,
        },
        ast::Expr::Case { else_result, .. } => {
            else_result.as_deref().and_then(strong_name).unwrap_or_else(|| "case".to_string())
        }
        ast::Expr::Exists { negated: false, .. } => "exists".to_string(),
        ast::Expr::Subquery(query) => return subquery_name(query),
        ast::Expr::Array(_) => "array".to_string(),
        ast::Expr::Tuple(_) => "row".to_string(),
        ast::Expr::CompoundFieldAccess { root, .. } => return known_name(root),
        ast::Expr::AtTimeZone { .. } => "timezone".to_string(),
        ast::Expr::Extract { .. } => "extract".to_string(),
        ast::Expr::Ceil { .. } => "ceil".to_string(),
        ast::Expr::Floor { .. } => "floor".to_string(),
        ast::Expr::Position { .. } => "position".to_string(),
        ast::Expr::Substring { .. } => "substring".to_string(),
        ast::Expr::Overlay { .. } => "overlay".to_string(),
        ast::Expr::Trim { trim_where, .. } => match trim_where {
            None | Some(ast::TrimWhereField::Both) => "btrim".to_string(),
            Some(ast::TrimWhereField::Leading) => "ltrim".to_string(),
            Some(ast::TrimWhereField::Trailing) => "rtrim".to_string(),
        },
        _ => return None,
    })
}

/// The name of a column or function: what a CASE takes from its ELSE.
fn strong_name(expr: &ast::Expr) -> Option<String> {
    match expr {
        ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_) | ast::Expr::Function(_) => known_name(expr),
        ast::Expr::Nested(inner) => strong_name(inner),
        ast::Expr::Cast { expr, .. } => strong_name(expr),
        _ => None,
    }
}

fn subquery_name(query: &ast::Query) -> Option<String> {
    match query.body.as_ref() {
        ast::SetExpr::Select(select) => match select.projection.first()? {
            ast::SelectItem::ExprWithAlias { alias, .. } => Some(fold(alias)),
            ast::SelectItem::UnnamedExpr(expr) => known_name(expr),
            _ => None,
        },
        ast::SetExpr::Query(query) => subquery_name(query),
        ast::SetExpr::Values(_) => Some("column1".to_string()),
        _ => None,
    }
}
