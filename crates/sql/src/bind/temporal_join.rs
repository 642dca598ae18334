//! `l [LEFT] JOIN r FOR SYSTEM_TIME AS OF l.ts ON ..`: each left row with the right row of its key that was in force at a moment.
//!
//! A relation says by its watermark which column its versions go by, and then this is an ASOF join: of the rows of the key
//! the last one that is not later than the moment. As of the moment at which a row is processed the answer would depend on when
//! rows came: no view of it could equal its query.

use catalog::ObjectKind;
use datafusion::common::JoinType;
use repr::{PgError, Watermark};
use sqlparser::ast::{self, BinaryOperator, Ident, JoinConstraint, JoinOperator, TableFactor};

use super::Binder;
use super::from::Item;
use super::scope::Env;
use crate::parse::object_name;

/// The relation and the moment of a factor that is read in a version of its own.
pub(super) fn versioned(factor: &TableFactor) -> Option<(&ast::ObjectName, &ast::TableVersion)> {
    match factor {
        TableFactor::Table { name, version: Some(version), .. } => Some((name, version)),
        _ => None,
    }
}

impl Binder<'_> {
    /// Joins `left` with a relation as of a moment of each of its rows.
    ///
    /// Errors: `0A000` for a relation without a watermark, and for any but an inner or left join ON a condition.
    pub(super) fn temporal_join(
        &self,
        left: Item,
        factor: &TableFactor,
        operator: &JoinOperator,
        env: &Env,
    ) -> Result<Item, PgError> {
        let Some((name, version)) = versioned(factor) else {
            return Err(PgError::internal("a temporal join of a relation without a moment"));
        };
        let watermark = self.watermark_of(name, env)?;
        let (ast::TableVersion::ForSystemTimeAsOf(moment), Some(watermark)) = (version, watermark) else {
            return Err(refused(version));
        };
        if is_processing_time(moment) {
            return Err(refused(version));
        }
        let (join_type, constraint) = match operator {
            JoinOperator::Join(constraint) | JoinOperator::Inner(constraint) => (JoinType::Inner, constraint),
            JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => (JoinType::Left, constraint),
            _ => return Err(PgError::unsupported("FOR SYSTEM_TIME AS OF in any but an inner or left join")),
        };
        if !matches!(constraint, JoinConstraint::On(_)) {
            return Err(PgError::unsupported("FOR SYSTEM_TIME AS OF in a join without ON"));
        }
        let mut plain = factor.clone();
        if let TableFactor::Table { version, .. } = &mut plain {
            *version = None;
        }
        let right = self.bind_factor(&plain, &left.1, env)?;
        let relation = &right.1.relations[0];
        let column =
            [&relation.name, &relation.columns[watermark.column].name].map(|part| Ident::with_quote('"', part));
        let nearest = ast::Expr::BinaryOp {
            left: Box::new(moment.clone()),
            op: BinaryOperator::GtEq,
            right: Box::new(ast::Expr::CompoundIdentifier(column.to_vec())),
        };
        self.asof_join(left, right, (join_type, Some(&nearest)), constraint, env)
    }

    /// The watermark of a source or table; None for anything else of that name.
    fn watermark_of(&self, name: &ast::ObjectName, env: &Env) -> Result<Option<Watermark>, PgError> {
        let name = object_name(name)?;
        if name.schema.is_none() && self.find_cte(&name.name, env)?.is_some() {
            return Ok(None);
        }
        let relation = self.relation(name.schema.as_deref(), &name.name);
        Ok(match relation.map(|(object, _)| &object.kind) {
            Some(ObjectKind::Source { description }) => description.watermark,
            Some(ObjectKind::Table { options, .. }) => options.watermark,
            _ => None,
        })
    }
}

fn is_processing_time(moment: &ast::Expr) -> bool {
    matches!(moment, ast::Expr::Function(call) if call.name.to_string().eq_ignore_ascii_case("proctime"))
}

/// Why a relation cannot be read so.
pub(super) fn refused(version: &ast::TableVersion) -> PgError {
    match version {
        ast::TableVersion::ForSystemTimeAsOf(moment) if is_processing_time(moment) => {
            PgError::unsupported("FOR SYSTEM_TIME AS OF PROCTIME()")
                .with_detail("Its answer depends on when rows came, not on which rows there are.")
                .with_hint("Write a plain JOIN, whose answer follows both of its sides.")
        }
        ast::TableVersion::ForSystemTimeAsOf(_) => PgError::unsupported("FOR SYSTEM_TIME AS OF a moment")
            .with_detail("The relation has no watermark, which would say what column its versions go by.")
            .with_hint(
                "Name the column in an ASOF JOIN: l ASOF JOIN r ON l.k = r.k AND l.ts >= r.ts. To read all as it was, \
                 end the query with AS OF and the moment.",
            ),
        other => PgError::unsupported(format!("{other} after a relation")),
    }
}
