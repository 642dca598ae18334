//! Names to objects: what exists, what it is made of, and what depends on it.
//!
//! A [`Catalog`] is a plain value. `engine` alone changes it, by building the next one and sharing it as `Arc<Catalog>`;
//! everyone else binds against the snapshot they hold. What is durable is each object's SQL text: a restart binds it again.

pub mod object;
pub mod system;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use repr::{ObjectId, PgError, SqlState};

pub use object::{Object, ObjectKind};

/// The schema that new objects go to.
pub const DEFAULT_SCHEMA: &str = "public";

/// User objects get ids from here on, as in PostgreSQL; below are system relations.
pub const FIRST_USER_ID: u32 = 16384;

/// All objects at one moment.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    objects: BTreeMap<ObjectId, Arc<Object>>,
    by_name: HashMap<(String, String), ObjectId>,
    /// Counts changes; a plan bound against an older version may name objects that are gone.
    pub version: u64,
}

impl Catalog {
    /// The object with this id.
    pub fn get(&self, id: ObjectId) -> Option<&Arc<Object>> {
        self.objects.get(&id)
    }

    /// Every object, in the order of its id.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    /// Finds `name`, in `schema` or, without one, along the search path: `pg_catalog`, `tw_catalog`, `public`.
    ///
    /// `information_schema` needs its name said, as in PostgreSQL.
    pub fn resolve(&self, schema: Option<&str>, name: &str) -> Option<&Arc<Object>> {
        let find =
            |schema: &str| self.by_name.get(&(schema.to_string(), name.to_string())).and_then(|id| self.get(*id));
        match schema {
            Some(schema) => find(schema),
            None => ["pg_catalog", "tw_catalog", DEFAULT_SCHEMA].into_iter().find_map(find),
        }
    }

    /// The objects that directly name `id`: an index of a table, a view over it.
    pub fn dependents(&self, id: ObjectId) -> Vec<&Arc<Object>> {
        self.objects.values().filter(|object| object.depends_on.contains(&id)).collect()
    }

    /// `id` and everything that depends on it, dependents first: the order in which DROP .. CASCADE drops.
    pub fn dependents_closure(&self, id: ObjectId) -> Vec<ObjectId> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        self.visit_dependents(id, &mut seen, &mut order);
        order
    }

    fn visit_dependents(&self, id: ObjectId, seen: &mut BTreeSet<ObjectId>, order: &mut Vec<ObjectId>) {
        if !seen.insert(id) {
            return;
        }
        for dependent in self.dependents(id) {
            self.visit_dependents(dependent.id, seen, order);
        }
        order.push(id);
    }

    /// Adds an object. Errors: `42P07` if its schema has that name already.
    pub fn insert(&mut self, object: Object) -> Result<(), PgError> {
        let key = (object.schema.clone(), object.name.clone());
        if self.by_name.contains_key(&key) {
            return Err(PgError::new(
                SqlState::DUPLICATE_TABLE,
                format!("relation \"{}\" already exists", object.name),
            ));
        }
        self.by_name.insert(key, object.id);
        self.objects.insert(object.id, Arc::new(object));
        self.version += 1;
        Ok(())
    }

    /// Takes an object out. Its dependents must have gone first.
    pub fn remove(&mut self, id: ObjectId) -> Option<Arc<Object>> {
        debug_assert!(self.dependents(id).is_empty());
        let object = self.objects.remove(&id)?;
        self.by_name.remove(&(object.schema.clone(), object.name.clone()));
        self.version += 1;
        Some(object)
    }
}
