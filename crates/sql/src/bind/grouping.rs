//! GROUP BY with several grouping sets: GROUPING SETS, ROLLUP, CUBE, and the function GROUPING.
//!
//! Items of GROUP BY are multiplied out to a list of sets. The aggregate node has one `GroupingSet` of them; its column
//! [`Aggregate::INTERNAL_GROUPING_ID`] says of which set a row is, and a projection above it makes of that what was asked
//! for. A key that is not in a row's set is NULL there.

use datafusion::common::{Column, ScalarValue};
use datafusion::functions_aggregate::grouping::grouping_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, GroupingSet};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, lit};
use repr::{PgError, SqlState, SqlType};
use sqlparser::ast;

use super::Binder;
use super::build::{aggregate, case, columns, internal, project};
use super::expr::{At, Clause, Inside};
use crate::typed::TypedExpr;

/// PostgreSQL's limit.
const SETS_MAX: usize = 4096;
/// Likewise, of the elements of CUBE.
const CUBE_MAX: usize = 12;

/// What GROUP BY says.
#[derive(Default)]
pub(crate) struct GroupBy {
    /// Every expression of any set, once.
    pub(crate) exprs: Vec<TypedExpr>,
    /// Indexes into `exprs`, where there is more than the one set of all.
    pub(crate) sets: Option<Vec<Vec<usize>>>,
}

/// The sets of expressions to group by, and whether they were written as sets.
pub(crate) fn expand(items: &[ast::Expr]) -> Result<(Vec<Vec<&ast::Expr>>, bool), PgError> {
    let mut sets: Vec<Vec<&ast::Expr>> = vec![Vec::new()];
    let mut written_as_sets = false;
    for item in items {
        let alternatives = alternatives(item)?;
        written_as_sets |= matches!(item, ast::Expr::GroupingSets(_) | ast::Expr::Cube(_) | ast::Expr::Rollup(_));
        check_count(sets.len().saturating_mul(alternatives.len()))?;
        let mut products = Vec::with_capacity(sets.len() * alternatives.len());
        for set in &sets {
            products.extend(alternatives.iter().map(|further| set.iter().chain(further).copied().collect::<Vec<_>>()));
        }
        sets = products;
    }
    Ok((sets, written_as_sets))
}

fn check_count(count: usize) -> Result<(), PgError> {
    match count > SETS_MAX {
        true => Err(PgError::new(SqlState("54001"), format!("too many grouping sets present (maximum {SETS_MAX})"))),
        false => Ok(()),
    }
}

/// One item of GROUP BY as the sets it stands for.
fn alternatives(item: &ast::Expr) -> Result<Vec<Vec<&ast::Expr>>, PgError> {
    match item {
        ast::Expr::Tuple(parts) => Ok(vec![parts.iter().collect()]),
        ast::Expr::Rollup(parts) => rollup(&parts.iter().map(|part| part.iter().collect()).collect::<Vec<_>>()),
        ast::Expr::Cube(parts) => cube(&parts.iter().map(|part| part.iter().collect()).collect::<Vec<_>>()),
        ast::Expr::GroupingSets(sets) => {
            let mut all = Vec::new();
            for set in sets {
                match set.as_slice() {
                    [ast::Expr::Function(function)] if is_construct(function) => all.extend(nested(function)?),
                    parts => all.push(parts.iter().collect()),
                }
            }
            Ok(all)
        }
        single => Ok(vec![vec![single]]),
    }
}

/// Whether a call is a ROLLUP or CUBE within GROUPING SETS, where the parser takes it for a function.
fn is_construct(function: &ast::Function) -> bool {
    let name = function.name.to_string().to_lowercase();
    matches!(name.as_str(), "rollup" | "cube")
}

fn nested(function: &ast::Function) -> Result<Vec<Vec<&ast::Expr>>, PgError> {
    let ast::FunctionArguments::List(list) = &function.args else {
        return Err(PgError::unsupported("this form of ROLLUP or CUBE"));
    };
    let mut parts: Vec<Vec<&ast::Expr>> = Vec::new();
    for argument in &list.args {
        match argument {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Tuple(exprs))) => {
                parts.push(exprs.iter().collect());
            }
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => parts.push(vec![expr]),
            _ => return Err(PgError::unsupported("this form of ROLLUP or CUBE")),
        }
    }
    if function.name.to_string().eq_ignore_ascii_case("rollup") { rollup(&parts) } else { cube(&parts) }
}

/// All of the parts, all but the last, and so on to none.
fn rollup<'a>(parts: &[Vec<&'a ast::Expr>]) -> Result<Vec<Vec<&'a ast::Expr>>, PgError> {
    Ok((0..=parts.len()).rev().map(|len| parts[..len].iter().flatten().copied().collect()).collect())
}

/// Every choice of the parts.
fn cube<'a>(parts: &[Vec<&'a ast::Expr>]) -> Result<Vec<Vec<&'a ast::Expr>>, PgError> {
    if parts.len() > CUBE_MAX {
        return Err(PgError::new(SqlState("54011"), format!("CUBE is limited to {CUBE_MAX} elements")));
    }
    let count = 1usize << parts.len();
    let choice = |bits: usize| {
        let chosen = parts.iter().enumerate().filter(move |(index, _)| bits >> (parts.len() - 1 - index) & 1 == 1);
        chosen.flat_map(|(_, part)| part.iter().copied()).collect()
    };
    Ok((0..count).rev().map(choice).collect())
}

impl Binder<'_> {
    /// `GROUPING(..)`, to be replaced when the grouping is known: see [`grouping_arguments`].
    pub(crate) fn bind_grouping(&self, function: &ast::Function, at: At) -> Result<TypedExpr, PgError> {
        let refuse = |message: String| Err(PgError::new(SqlState::GROUPING_ERROR, message));
        if at.inside == Inside::Aggregate {
            return refuse("arguments to GROUPING must be grouping expressions of the associated query level".into());
        }
        if !matches!(at.clause, Clause::Select | Clause::Having | Clause::OrderBy | Clause::DistinctOn | Clause::Window)
        {
            return refuse(format!("grouping operations are not allowed in {}", at.clause.name()));
        }
        let arguments = self.plain_arguments("grouping", function, at)?;
        if arguments.is_empty() {
            return Err(PgError::new(SqlState::SYNTAX_ERROR, "syntax error at or near \")\""));
        }
        if arguments.len() > 31 {
            return Err(PgError::new(SqlState("54023"), "GROUPING must have fewer than 32 arguments"));
        }
        self.aggregated.set(true);
        let arguments = arguments.into_iter().map(|argument| argument.expr).collect();
        let call = AggregateFunction::new_udf(grouping_udaf(), arguments, false, None, Vec::new(), None);
        Ok(TypedExpr::new(Expr::AggregateFunction(call), SqlType::Int4))
    }
}

/// The arguments of a call of GROUPING.
pub(crate) fn grouping_arguments(call: &AggregateFunction) -> Option<&[Expr]> {
    (call.func.name() == grouping_udaf().name()).then_some(&call.params.args)
}

/// What is to be computed above an aggregate of several sets.
pub(crate) enum Above {
    /// Whether each of these keys is missing in a row's set, as bits, the last key's the lowest.
    Missing(Vec<usize>),
    /// The value of an aggregate that stands for a key; NULL where the key is missing.
    KeyOf(usize, Column),
}

/// Groups `plan` by `sets` of `keys`, which are columns, and adds the columns of `above`.
pub(crate) fn aggregate_sets(
    plan: LogicalPlan,
    keys: &[Expr],
    sets: &[Vec<usize>],
    aggregates: Vec<Expr>,
    above: Vec<(Above, String)>,
) -> Result<LogicalPlan, PgError> {
    let lists = sets.iter().map(|set| set.iter().map(|index| keys[*index].clone()).collect()).collect();
    let plan = aggregate(plan, vec![Expr::GroupingSet(GroupingSet::GroupingSets(lists))], aggregates)?;
    // The node has its keys in order of first use, and in the id the last of them has the lowest bit.
    let mut used: Vec<usize> = Vec::new();
    for index in sets.iter().flatten() {
        if !used.contains(index) {
            used.push(*index);
        }
    }
    let id = Column::new_unqualified(Aggregate::INTERNAL_GROUPING_ID);
    let type_of = |column: &Column| {
        plan.schema().field_with_unqualified_name(&column.name).map(|field| field.data_type().clone()).map_err(internal)
    };
    let id_type = type_of(&id)?;
    let mut missing: Vec<u64> = Vec::new();
    let mut ids: Vec<Expr> = Vec::new();
    for set in sets {
        let bits = used.iter().fold(0, |bits, index| bits << 1 | u64::from(!set.contains(index)));
        let ordinal = missing.iter().filter(|other| **other == bits).count() as u64;
        missing.push(bits);
        let value = ScalarValue::UInt64(Some(bits | ordinal << used.len()));
        ids.push(lit(value.cast_to(&id_type).map_err(internal)?));
    }
    // A value a set, by the row's id.
    let by_set = |values: Vec<Expr>| {
        let mut branches: Vec<(Expr, Expr)> =
            ids.iter().map(|value| Expr::Column(id.clone()).eq(value.clone())).zip(values).collect();
        let last = branches.pop().map(|(_, value)| value).unwrap_or_else(|| lit(ScalarValue::Null));
        if branches.is_empty() { last } else { case(branches, last) }
    };
    let mut projected: Vec<Expr> =
        columns(&plan).into_iter().filter(|expr| *expr != Expr::Column(id.clone())).collect();
    for (what, name) in above {
        let values = match what {
            Above::Missing(keys) => {
                let bit = |set: &Vec<usize>, key: &usize| i32::from(!set.contains(key));
                let bits = |set: &Vec<usize>| keys.iter().fold(0i32, |bits, key| bits << 1 | bit(set, key));
                sets.iter().map(|set| lit(bits(set))).collect()
            }
            Above::KeyOf(key, value) => {
                let null = lit(ScalarValue::try_from(&type_of(&value)?).map_err(internal)?);
                let value = Expr::Column(value);
                sets.iter().map(|set| if set.contains(&key) { value.clone() } else { null.clone() }).collect()
            }
        };
        projected.push(by_set(values).alias(name));
    }
    project(plan, projected)
}
