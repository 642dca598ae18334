//! CREATE, ALTER and DROP ROLE, GRANT and REVOKE.
//!
//! Who may change which role is PostgreSQL 15's: a superuser all, who has CREATEROLE those that are no superusers, everyone
//! the own password. Privileges on objects are not kept: every role has them all, so granting one changes nothing, and
//! taking one away is refused.

use catalog::role::{Membership, Role, is_member};
use catalog::system::{OWNER_NAME, OWNER_OID};
use repr::text::parse_scalar;
use repr::{PgError, SqlState, SqlType};
use sql::parse::{RoleName, RoleOption, RoleStatement};

use crate::deferred::{change_roles, roles};
use crate::response::Response;
use crate::roles::RoleChange;
use crate::scram::Verifier;
use crate::session::Session;
use crate::statement::{blocking, check_writable, command};

pub(super) async fn run(session: &mut Session, statement: &RoleStatement) -> Result<Response, PgError> {
    check_writable(session, tag(statement))?;
    let roles = roles(session)?;
    let changes = match statement {
        RoleStatement::Create { name, options } => create(session, &roles, name, options).await?,
        RoleStatement::Alter { name, options } => {
            let role = found(session, &roles, name)?;
            let own_password = matches!(options.as_slice(), [RoleOption::Password(_)]);
            if !(own_password && session.rights().oid(&roles) == role.oid) {
                check_may_change(session, &roles, role, "superuser roles or change superuser attribute", options)?;
            }
            let mut changed = role.clone();
            let mut changes = members(session, &roles, role.oid, options)?;
            set_options(&mut changed, options).await?;
            changes.insert(0, RoleChange::Put(changed));
            changes
        }
        RoleStatement::Rename { name, to } => rename(session, &roles, name, to)?,
        RoleStatement::AlterSetting { name, setting, value } => {
            alter_setting(session, &roles, name.as_ref(), setting.as_deref(), value.as_deref())?
        }
        RoleStatement::Drop { names, if_exists } => drop_roles(session, &roles, names, *if_exists)?,
        RoleStatement::Grant { roles: granted, to, admin } => grant(session, &roles, granted, to, *admin)?,
        RoleStatement::Revoke { roles: revoked, from, admin } => revoke(session, &roles, revoked, from, *admin)?,
        RoleStatement::GrantPrivileges { to, .. } => {
            for name in to.iter().filter(|name| **name != RoleName::Public) {
                found(session, &roles, name)?;
            }
            Vec::new()
        }
        RoleStatement::RevokePrivileges => {
            return Err(PgError::unsupported("REVOKE of a privilege")
                .with_detail("Every role has all privileges on every object.")
                .with_hint("What a role may not do at all is to log in: ALTER ROLE .. NOLOGIN."));
        }
    };
    if !changes.is_empty() {
        change_roles(session, changes).await?;
    }
    Ok(command(tag(statement)))
}

fn tag(statement: &RoleStatement) -> &'static str {
    match statement {
        RoleStatement::Create { .. } => "CREATE ROLE",
        RoleStatement::Alter { .. } | RoleStatement::Rename { .. } | RoleStatement::AlterSetting { .. } => "ALTER ROLE",
        RoleStatement::Drop { .. } => "DROP ROLE",
        RoleStatement::Grant { .. } => "GRANT ROLE",
        RoleStatement::Revoke { .. } => "REVOKE ROLE",
        RoleStatement::GrantPrivileges { .. } => "GRANT",
        RoleStatement::RevokePrivileges => "REVOKE",
    }
}

async fn create(
    session: &Session,
    roles: &[Role],
    name: &str,
    options: &[RoleOption],
) -> Result<Vec<RoleChange>, PgError> {
    let rights = session.rights();
    let superuser = rights.is_superuser(roles);
    let wants = |option: &RoleOption| match option {
        RoleOption::Superuser(true) => Some("superusers"),
        RoleOption::Replication(true) => Some("replication users"),
        RoleOption::BypassRls(true) => Some("bypassrls users"),
        _ => None,
    };
    if let Some(what) = options.iter().find_map(wants).filter(|_| !superuser) {
        return Err(denied(format!("must be superuser to create {what}")));
    }
    if !rights.may_create_roles(roles) {
        return Err(denied("permission denied to create role"));
    }
    if roles.iter().any(|role| role.name == name) {
        return Err(PgError::new(SqlState::DUPLICATE_OBJECT, format!("role \"{name}\" already exists")));
    }
    let mut role = Role::new(session.shared.allocate_id().0, name);
    set_options(&mut role, options).await?;
    let in_roles = options.iter().filter_map(|option| match option {
        RoleOption::InRole(names) => Some(names),
        _ => None,
    });
    let grantor = rights.oid(roles);
    for other in in_roles.flatten() {
        let other = named(roles, other)?;
        check_may_grant(session, roles, other)?;
        role.memberships.push(Membership { role: other.oid, grantor, admin: false });
    }
    let oid = role.oid;
    let mut changes = vec![RoleChange::Put(role)];
    changes.extend(members(session, roles, oid, options)?);
    Ok(changes)
}

/// Gives `role` what the options say of itself.
async fn set_options(role: &mut Role, options: &[RoleOption]) -> Result<(), PgError> {
    for option in options {
        match option {
            RoleOption::Superuser(on) => role.superuser = *on,
            RoleOption::CreateDb(on) => role.create_database = *on,
            RoleOption::CreateRole(on) => role.create_role = *on,
            RoleOption::Inherit(on) => role.inherit = *on,
            RoleOption::Login(on) => role.login = *on,
            RoleOption::Replication(on) => role.replication = *on,
            RoleOption::BypassRls(on) => role.bypass_row_security = *on,
            RoleOption::ConnectionLimit(limit) => role.connection_limit = *limit,
            RoleOption::ValidUntil(text) => role.valid_until_us = Some(moment_us(text)?),
            RoleOption::Password(password) => role.password = stored_password(password.as_deref()).await?,
            RoleOption::InRole(_) | RoleOption::Members(_) | RoleOption::Admins(_) => {}
        }
    }
    Ok(())
}

/// What is kept of a password: the verifier, which may also be given as it is. Errors: `0A000` for an MD5 hash.
async fn stored_password(password: Option<&str>) -> Result<Option<String>, PgError> {
    let Some(password) = password.filter(|password| !password.is_empty()) else { return Ok(None) };
    if Verifier::parse(password).is_some() {
        return Ok(Some(password.to_string()));
    }
    let is_md5 = |rest: &str| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    if password.strip_prefix("md5").is_some_and(is_md5) {
        return Err(PgError::unsupported("an MD5 password")
            .with_hint("Give the password itself, or its SCRAM-SHA-256 verifier."));
    }
    let password = password.to_string();
    blocking(move || Ok(Some(Verifier::new(&password).to_string()))).await
}

fn moment_us(text: &str) -> Result<i64, PgError> {
    let moment = parse_scalar(&SqlType::Timestamptz, -1, text)?;
    let moment = arrow::array::AsArray::as_primitive::<arrow::datatypes::TimestampMicrosecondType>(&moment);
    Ok(moment.value(0))
}

/// Those whom ROLE, USER and ADMIN make members of the role `oid`.
fn members(session: &Session, roles: &[Role], oid: u32, options: &[RoleOption]) -> Result<Vec<RoleChange>, PgError> {
    let grantor = session.rights().oid(roles);
    let mut changes = Vec::new();
    for option in options {
        let (names, admin) = match option {
            RoleOption::Members(names) => (names, false),
            RoleOption::Admins(names) => (names, true),
            _ => continue,
        };
        for name in names {
            let mut member = named(roles, name)?.clone();
            if is_member(roles, oid, member.oid) {
                return Err(circular(roles, oid, &member));
            }
            member.memberships.retain(|membership| membership.role != oid);
            member.memberships.push(Membership { role: oid, grantor, admin });
            changes.push(RoleChange::Put(member));
        }
    }
    Ok(changes)
}

fn rename(session: &Session, roles: &[Role], name: &str, to: &str) -> Result<Vec<RoleChange>, PgError> {
    let role = named(roles, name)?;
    if role.name == session.user {
        return Err(PgError::unsupported("renaming the session user"));
    }
    if role.oid == OWNER_OID {
        return Err(PgError::unsupported(format!("renaming role {OWNER_NAME}")));
    }
    if to == "public" || to == "none" || to.starts_with("pg_") {
        return Err(PgError::new(SqlState::RESERVED_NAME, format!("role name \"{to}\" is reserved")));
    }
    check_may_change(session, roles, role, "superusers", &[])?;
    if roles.iter().any(|other| other.name == to) {
        return Err(PgError::new(SqlState::DUPLICATE_OBJECT, format!("role \"{to}\" already exists")));
    }
    Ok(vec![RoleChange::Put(Role { name: to.to_string(), ..role.clone() })])
}

fn alter_setting(
    session: &Session,
    roles: &[Role],
    name: Option<&RoleName>,
    setting: Option<&str>,
    value: Option<&str>,
) -> Result<Vec<RoleChange>, PgError> {
    if setting == Some("role") {
        return Err(PgError::unsupported("ALTER ROLE .. SET role"));
    }
    if let Some((setting, value)) = setting.zip(value) {
        // A wrong name or value is an error now, not when the role connects.
        session.settings.clone().set(setting, Some(value))?;
    }
    let Some(name) = name else { return Err(PgError::unsupported("ALTER ROLE ALL")) };
    let role = found(session, roles, name)?;
    if role.oid != session.rights().oid(roles) {
        check_may_change(session, roles, role, "superusers", &[])?;
    }
    let mut role = role.clone();
    role.settings.retain(|(other, _)| setting.is_some_and(|setting| other != setting));
    if let Some((setting, value)) = setting.zip(value) {
        role.settings.push((setting.to_string(), value.to_string()));
    }
    Ok(vec![RoleChange::Put(role)])
}

fn drop_roles(
    session: &mut Session,
    roles: &[Role],
    names: &[RoleName],
    if_exists: bool,
) -> Result<Vec<RoleChange>, PgError> {
    let rights = session.rights();
    if !rights.may_create_roles(roles) {
        return Err(denied("permission denied to drop role"));
    }
    let mut changes = Vec::new();
    for name in names {
        let RoleName::Named(name) = name else {
            return Err(PgError::new(
                SqlState::INVALID_PARAMETER_VALUE,
                "cannot use special role specifier in DROP ROLE",
            ));
        };
        let Some(role) = roles.iter().find(|role| role.name == *name) else {
            if !if_exists {
                return Err(undefined(name));
            }
            session.notice(SqlState("00000"), format!("role \"{name}\" does not exist, skipping"));
            continue;
        };
        let in_use = |what: &str| PgError::new(SqlState("55006"), format!("{what} user cannot be dropped"));
        if role.oid == rights.oid(roles) {
            return Err(in_use("current"));
        }
        if role.name == session.user {
            return Err(in_use("session"));
        }
        if role.superuser && !rights.is_superuser(roles) {
            return Err(denied("must be superuser to drop superusers"));
        }
        if role.oid == OWNER_OID {
            let message = format!("cannot drop role {name} because it is required by the database system");
            return Err(PgError::new(SqlState::DEPENDENT_OBJECTS_STILL_EXIST, message));
        }
        changes.push(RoleChange::Drop(role.oid));
    }
    Ok(changes)
}

fn grant(
    session: &mut Session,
    roles: &[Role],
    granted: &[String],
    to: &[RoleName],
    admin: bool,
) -> Result<Vec<RoleChange>, PgError> {
    let grantor = session.rights().oid(roles);
    let mut changes: Vec<RoleChange> = Vec::new();
    for name in to {
        let mut member = member_of(session, roles, name)?.clone();
        for role in granted {
            let role = named(roles, role)?;
            check_may_grant(session, roles, role)?;
            if is_member(roles, role.oid, member.oid) {
                return Err(circular(roles, role.oid, &member));
            }
            match member.memberships.iter_mut().find(|membership| membership.role == role.oid) {
                Some(membership) if membership.admin || !admin => {
                    let message = format!("role \"{}\" is already a member of role \"{}\"", member.name, role.name);
                    session.notice(SqlState("00000"), message);
                }
                Some(membership) => membership.admin = true,
                None => member.memberships.push(Membership { role: role.oid, grantor, admin }),
            }
        }
        changes.push(RoleChange::Put(member));
    }
    Ok(changes)
}

fn revoke(
    session: &mut Session,
    roles: &[Role],
    revoked: &[String],
    from: &[RoleName],
    admin: bool,
) -> Result<Vec<RoleChange>, PgError> {
    let mut changes = Vec::new();
    for name in from {
        let mut member = member_of(session, roles, name)?.clone();
        for role in revoked {
            let role = named(roles, role)?;
            check_may_grant(session, roles, role)?;
            let found = member.memberships.iter().position(|membership| membership.role == role.oid);
            match found {
                Some(index) if admin => member.memberships[index].admin = false,
                Some(index) => drop(member.memberships.remove(index)),
                None => {
                    let message = format!("role \"{}\" is not a member of role \"{}\"", member.name, role.name);
                    session.warning(SqlState::WARNING, message);
                }
            }
        }
        changes.push(RoleChange::Put(member));
    }
    Ok(changes)
}

/// Who is to be a member of something.
fn member_of<'a>(session: &Session, roles: &'a [Role], name: &RoleName) -> Result<&'a Role, PgError> {
    match name {
        RoleName::Public => Err(PgError::new(SqlState::UNDEFINED_OBJECT, "role \"public\" does not exist")),
        name => found(session, roles, name),
    }
}

fn found<'a>(session: &Session, roles: &'a [Role], name: &RoleName) -> Result<&'a Role, PgError> {
    match name {
        RoleName::Named(name) => named(roles, name),
        RoleName::CurrentUser => named(roles, &session.current_user()),
        RoleName::SessionUser => named(roles, &session.user),
        RoleName::Public => named(roles, "public"),
    }
}

fn named<'a>(roles: &'a [Role], name: &str) -> Result<&'a Role, PgError> {
    roles.iter().find(|role| role.name == name).ok_or_else(|| undefined(name))
}

/// Errors: `42501` unless the session may change `role`; `what` ends the message about superusers.
fn check_may_change(
    session: &Session,
    roles: &[Role],
    role: &Role,
    what: &str,
    options: &[RoleOption],
) -> Result<(), PgError> {
    let rights = session.rights();
    if rights.is_superuser(roles) {
        return Ok(());
    }
    let flags = options.iter().find_map(|option| match option {
        RoleOption::Superuser(_) => Some("superuser roles or change superuser attribute"),
        RoleOption::Replication(_) => Some("replication roles or change replication attribute"),
        RoleOption::BypassRls(_) => Some("roles' BYPASSRLS attribute"),
        _ => None,
    });
    if let Some(what) = flags {
        return Err(denied(format!("must be superuser to alter {what}")));
    }
    if role.superuser {
        return Err(denied(format!("must be superuser to alter {what}")));
    }
    match rights.may_create_roles(roles) {
        true => Ok(()),
        false => Err(denied("permission denied")),
    }
}

fn check_may_grant(session: &Session, roles: &[Role], role: &Role) -> Result<(), PgError> {
    let rights = session.rights();
    if rights.is_superuser(roles) {
        return Ok(());
    }
    if role.superuser {
        return Err(denied("must be superuser to alter superusers"));
    }
    let own = rights.oid(roles);
    let memberships = roles.iter().filter(|other| other.oid == own).flat_map(|other| &other.memberships);
    let is_admin = memberships.into_iter().any(|membership| membership.role == role.oid && membership.admin);
    match is_admin || rights.may_create_roles(roles) {
        true => Ok(()),
        false => Err(denied(format!("must have admin option on role \"{}\"", role.name))),
    }
}

fn circular(roles: &[Role], role: u32, member: &Role) -> PgError {
    let name = roles.iter().find(|other| other.oid == role).map_or("", |role| role.name.as_str());
    let message = format!("role \"{name}\" is a member of role \"{}\"", member.name);
    PgError::new(SqlState("0LP01"), message)
}

fn undefined(name: &str) -> PgError {
    PgError::new(SqlState::UNDEFINED_OBJECT, format!("role \"{name}\" does not exist"))
}

fn denied(message: impl Into<String>) -> PgError {
    PgError::new(SqlState("42501"), message)
}
