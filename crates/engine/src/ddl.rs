//! Making and dropping objects: dataflow, storage and catalog change together or not at all.
//!
//! ```text
//! create: plan -> install dataflows -> store (unless in a block) -> catalog      undone from the right where a step fails
//! drop:   catalog -> dataflows, storage (in a block: at COMMIT)
//! ```
//!
//! All of it blocks (fsync, rendering) and runs on a thread of its own, under the lock `definitions`.

use std::sync::Arc;

use catalog::{Catalog, Object, ObjectKind};
use plan::{DataflowPlan, Fingerprint, SharedArrangement};
use repr::{ObjectId, PgError, SqlState, ViewOptions};
use sql::bind::BoundQuery;
use sql::{BoundStatement, Purpose};
use storage::StoredObject;

use crate::dataflows::{install, uninstall, with_lower_context};
use crate::engine::Shared;
use crate::transaction::Definition;

/// Dataflows to start, each with the fingerprint under which others may share it.
pub(crate) type Plans = Vec<(DataflowPlan, Option<SharedArrangement>)>;

/// The object that a CREATE makes, without its id and text. None for other statements.
pub(crate) fn object_of(statement: &BoundStatement, id: ObjectId, text: &str) -> Option<Object> {
    let (schema, name, kind, depends_on) = match statement {
        BoundStatement::CreateTable { schema_name, name, schema, options, .. } => {
            let kind = ObjectKind::Table { schema: schema.clone(), options: *options };
            (schema_name, name, kind, Vec::new())
        }
        BoundStatement::CreateSource { schema_name, name, description, depends_on, .. } => {
            (schema_name, name, ObjectKind::Source { description: description.clone() }, depends_on.clone())
        }
        BoundStatement::CreateConnection { schema_name, name, connector, options, .. } => {
            let kind = ObjectKind::Connection { connector: connector.clone(), options: options.clone() };
            (schema_name, name, kind, Vec::new())
        }
        BoundStatement::CreateView { schema_name, name, query, query_text, materialized, options, .. } => {
            let (schema, text) = (query.schema.clone(), query_text.clone());
            let kind = match materialized {
                true => ObjectKind::MaterializedView { schema, query: text, options: *options },
                false => ObjectKind::View { schema, query: text },
            };
            (schema_name, name, kind, query.relations.clone())
        }
        BoundStatement::CreateIndex { schema_name, name, on, columns, .. } => {
            (schema_name, name, ObjectKind::Index { on: *on, columns: columns.clone() }, vec![*on])
        }
        _ => return None,
    };
    Some(Object { id, schema: schema.clone(), name: name.clone(), kind, sql: text.to_string(), depends_on })
}

/// The dataflows that a new object needs. Errors: `0A000` for a query that cannot be maintained.
pub(crate) fn plans_of(
    shared: &Shared,
    catalog: &Catalog,
    object: &Object,
    statement: &BoundStatement,
) -> Result<Plans, PgError> {
    match (&object.kind, statement) {
        (ObjectKind::Table { schema, options }, _) => {
            Ok(vec![(plan::relation_plan(object.id, &object.name, schema, *options), None)])
        }
        (ObjectKind::MaterializedView { options, .. }, BoundStatement::CreateView { query, .. }) => {
            view_plans(shared, catalog, object.id, &object.name, query, *options)
        }
        (ObjectKind::Index { on, columns }, _) => {
            let relation = catalog.get(*on).ok_or_else(|| undefined(*on))?;
            if let ObjectKind::View { .. } | ObjectKind::SystemRelation { .. } = relation.kind {
                return Err(PgError::unsupported(format!("an index on a {}", relation.kind_name()))
                    .with_hint("Make it a materialized view."));
            }
            let width = relation.relation_schema().map_or(0, |schema| schema.columns.len());
            let fingerprint = Fingerprint { relation: *on, columns: (0..width).collect(), key: columns.clone() };
            let plan = with_lower_context(shared, catalog, |context| {
                plan::index_plan(object.id, &object.name, *on, columns, context)
            })?;
            let arrangement =
                SharedArrangement { dataflow: object.id, fingerprint: fingerprint.to_string(), key: columns.clone() };
            Ok(vec![(plan, Some(arrangement))])
        }
        _ => Ok(Vec::new()),
    }
}

/// The dataflows that maintain a query as `id`.
pub(crate) fn view_plans(
    shared: &Shared,
    catalog: &Catalog,
    id: ObjectId,
    name: &str,
    query: &BoundQuery,
    options: ViewOptions,
) -> Result<Plans, PgError> {
    let system = |id: &&ObjectId| {
        matches!(catalog.get(**id).map(|object| &object.kind), Some(ObjectKind::SystemRelation { .. }))
    };
    if let Some(relation) = query.relations.iter().find(system).and_then(|id| catalog.get(*id)) {
        return Err(PgError::unsupported(format!("maintaining a query over system relation \"{}\"", relation.name)));
    }
    let optimized = sql::optimize(query.plan.clone(), Purpose::Maintain)?;
    let mut plans = with_lower_context(shared, catalog, |context| plan::lower(id, name, &optimized, context))?;
    if let Some(mut view) = plans.pop() {
        if options.emit_on_window_close {
            let watermark = |id: ObjectId| match catalog.get(id).map(|object| &object.kind) {
                Some(ObjectKind::Source { description }) => description.watermark,
                Some(ObjectKind::Table { options, .. }) => options.watermark,
                _ => None,
            };
            view = plan::emit_on_window_close(view, &watermark)?;
        }
        view.options = options;
        plans.push(view);
    }
    let shareable = |plan: DataflowPlan| {
        let arrangement = (plan.id != id).then(|| SharedArrangement {
            dataflow: plan.id,
            fingerprint: plan.name.clone(),
            key: plan.export.key.clone(),
        });
        (plan, arrangement)
    };
    Ok(plans.into_iter().map(shareable).collect())
}

/// Makes an object. `durable`: now, rather than when a transaction block commits.
///
/// Errors: `42P07` for a name that is taken, `42P01` for a dependency that is gone, and whatever planning says.
pub(crate) fn create(
    shared: &Shared,
    statement: &BoundStatement,
    text: &str,
    durable: bool,
) -> Result<Arc<Object>, PgError> {
    let _definitions = shared.definitions.lock();
    shared.check_running()?;
    let catalog = shared.catalog();
    let id = shared.allocate_id();
    let object = object_of(statement, id, text).ok_or_else(|| PgError::internal("not a CREATE statement"))?;
    let mut next = (*catalog).clone();
    if let BoundStatement::CreateView { or_replace: true, schema_name, name, .. } = statement {
        replace_view(&mut next, schema_name, name)?;
    }
    next.insert(object.clone())?;
    if let Some(missing) = object.depends_on.iter().find(|id| catalog.get(**id).is_none()) {
        return Err(undefined(*missing));
    }
    let plans = plans_of(shared, &catalog, &object, statement)?;
    let has_dataflow = !plans.is_empty();
    install(shared, &next, id, plans)?;
    if durable && let Err(error) = store(shared, &catalog, &object, &next) {
        if has_dataflow {
            uninstall(shared, &[id]);
        }
        return Err(error);
    }
    let object = next.get(id).map(Arc::clone).ok_or_else(|| PgError::internal("the new object is gone"))?;
    *shared.catalog.write() = Arc::new(next);
    Ok(object)
}

/// Stores a new object, and forgets the one it replaces.
fn store(shared: &Shared, before: &Catalog, object: &Object, after: &Catalog) -> Result<(), PgError> {
    let replaced: Vec<ObjectId> =
        before.objects().map(|object| object.id).filter(|id| after.get(*id).is_none()).collect();
    shared.storage.put_objects(&[stored(object)])?;
    if !replaced.is_empty() {
        shared.storage.remove_objects(&replaced)?;
    }
    Ok(())
}

/// OR REPLACE takes the old view out. Errors: `42809` for another kind of object, `0A000` while something depends on it.
fn replace_view(catalog: &mut Catalog, schema: &str, name: &str) -> Result<(), PgError> {
    let Some(old) = catalog.resolve(Some(schema), name).map(Arc::clone) else { return Ok(()) };
    if !matches!(old.kind, ObjectKind::View { .. }) {
        return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{name}\" is not a view")));
    }
    if let Some(dependent) = catalog.dependents(old.id).first() {
        return Err(PgError::unsupported("replacing a view that others depend on").with_detail(format!(
            "{} {} depends on view {name}.",
            dependent.kind_name(),
            dependent.name
        )));
    }
    catalog.remove(old.id);
    Ok(())
}

pub(crate) fn stored(object: &Object) -> StoredObject {
    StoredObject { id: object.id.0, schema: object.schema.clone(), name: object.name.clone(), sql: object.sql.clone() }
}

fn undefined(id: ObjectId) -> PgError {
    PgError::new(SqlState::UNDEFINED_TABLE, format!("relation with OID {id} does not exist"))
}

/// Drops objects and, with `cascade`, what depends on them. Returns what went, dependents first; the first of these that
/// were not named are told of in a notice.
///
/// Errors: `2BP01` without `cascade` if anything but an index depends on one of them.
pub(crate) fn drop_objects(
    shared: &Shared,
    ids: &[ObjectId],
    cascade: bool,
    durable: bool,
) -> Result<Vec<Arc<Object>>, PgError> {
    // A write under way could log rows for a table whose log has just been removed. Always taken before `definitions`.
    let _writing = durable.then(|| shared.writing.blocking_lock());
    let _definitions = shared.definitions.lock();
    shared.check_running()?;
    let mut next = (*shared.catalog()).clone();
    let mut going: Vec<ObjectId> = Vec::new();
    for id in ids {
        for dependent in next.dependents_closure(*id) {
            if !going.contains(&dependent) && next.get(dependent).is_some() {
                going.push(dependent);
            }
        }
    }
    if !cascade {
        check_unused(&next, ids, &going)?;
    }
    let dropped: Vec<Arc<Object>> = in_order(&next, &going).into_iter().filter_map(|id| next.remove(id)).collect();
    let gone: Vec<ObjectId> = dropped.iter().map(|object| object.id).collect();
    if durable {
        shared.storage.remove_objects(&gone)?;
    }
    *shared.catalog.write() = Arc::new(next);
    if durable {
        release(shared, &dropped);
    }
    Ok(dropped)
}

/// Dependents before what they depend on, for several closures at once.
fn in_order(catalog: &Catalog, ids: &[ObjectId]) -> Vec<ObjectId> {
    let mut rest = ids.to_vec();
    let mut order = Vec::with_capacity(ids.len());
    while !rest.is_empty() {
        let free = |id: &ObjectId| !catalog.dependents(*id).iter().any(|other| rest.contains(&other.id));
        let (now, later): (Vec<ObjectId>, Vec<ObjectId>) = rest.iter().partition(|id| free(id));
        if now.is_empty() {
            // Objects only depend on older ones, so there is no cycle.
            order.extend(later);
            break;
        }
        order.extend(now);
        rest = later;
    }
    order
}

fn check_unused(catalog: &Catalog, named: &[ObjectId], going: &[ObjectId]) -> Result<(), PgError> {
    let mut details = Vec::new();
    let mut first = None;
    for id in named {
        for dependent in catalog.dependents_closure(*id) {
            let Some(object) = catalog.get(dependent) else { continue };
            if named.contains(&dependent) || matches!(object.kind, ObjectKind::Index { .. }) {
                continue;
            }
            let parent = object.depends_on.iter().find(|parent| going.contains(parent)).unwrap_or(id);
            if let (Some(parent), Some(target)) = (catalog.get(*parent), catalog.get(*id)) {
                first.get_or_insert_with(|| format!("{} {}", target.kind_name(), target.name));
                let line =
                    format!("{} {} depends on {} {}", object.kind_name(), object.name, parent.kind_name(), parent.name);
                if !details.contains(&line) {
                    details.push(line);
                }
            }
        }
    }
    let Some(target) = first else { return Ok(()) };
    let message = format!("cannot drop {target} because other objects depend on it");
    Err(PgError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message)
        .with_detail(details.join("\n"))
        .with_hint("Use DROP ... CASCADE to drop the dependent objects too."))
}

/// Ends what dropped objects had running.
fn release(shared: &Shared, dropped: &[Arc<Object>]) {
    let ids: Vec<ObjectId> = dropped.iter().map(|object| object.id).collect();
    uninstall(shared, &ids);
    for object in dropped {
        match object.kind {
            ObjectKind::Source { .. } => shared.readers.forget(object.id),
            ObjectKind::Table { .. } => {
                shared.table_versions.lock().remove(&object.id);
                shared.key_filters.remove(object.id);
                shared.table_times.forget(object.id);
                shared.runtime.forget_relation(object.id);
            }
            _ => {}
        }
    }
}

/// Makes a block's definitions durable. The caller holds the write lock.
pub(crate) fn commit(shared: &Shared, definitions: &[Definition]) -> Result<(), PgError> {
    if definitions.is_empty() {
        return Ok(());
    }
    let _definitions = shared.definitions.lock();
    let catalog = shared.catalog();
    let created: Vec<StoredObject> = definitions
        .iter()
        .filter_map(|definition| match definition {
            Definition::Created(object) => catalog.get(object.id).map(|object| stored(object)),
            Definition::Dropped(_) => None,
        })
        .collect();
    let dropped: Vec<Arc<Object>> = definitions
        .iter()
        .filter_map(|definition| match definition {
            Definition::Dropped(object) => Some(Arc::clone(object)),
            Definition::Created(_) => None,
        })
        .collect();
    if !created.is_empty() {
        shared.storage.put_objects(&created)?;
    }
    if !dropped.is_empty() {
        shared.storage.remove_objects(&dropped.iter().map(|object| object.id).collect::<Vec<_>>())?;
    }
    release(shared, &dropped);
    Ok(())
}

/// Undoes definitions, given latest first.
pub(crate) fn roll_back(shared: &Shared, definitions: &[Definition]) {
    if definitions.is_empty() {
        return;
    }
    let _definitions = shared.definitions.lock();
    let mut next = (*shared.catalog()).clone();
    let mut released = Vec::new();
    for definition in definitions {
        match definition {
            Definition::Created(object) => {
                // Others may have built on it meanwhile; that goes too.
                if next.get(object.id).is_some() {
                    let closure = next.dependents_closure(object.id);
                    released.extend(closure.into_iter().filter_map(|id| next.remove(id)));
                } else {
                    released.push(Arc::clone(object));
                }
            }
            Definition::Dropped(object) => {
                if let Err(error) = next.insert((**object).clone()) {
                    tracing::warn!("\"{}\" cannot be brought back: {error}", object.name);
                }
            }
        }
    }
    released.retain(|object| next.get(object.id).is_none());
    *shared.catalog.write() = Arc::new(next);
    release(shared, &released);
}
