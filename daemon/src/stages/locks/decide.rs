//! The changes of the list of locks, as pure functions of the list and the request.

use lockstep_proto::bridge::{ApiError, RefusalCode};
use lockstep_proto::limits;
use lockstep_proto::locks::{
    AcquireRequest, LOCK_REASON_BYTES, LONGEST_TTL_MS, Lock, LockKind, LockTarget, Locks, MOST_LOCKS, OWNER_BYTES,
    RenewRequest, SHORTEST_TTL_MS, TOKEN_BYTES,
};

/// The facts of a new lock that its request does not have.
pub(super) struct Acquisition<'a> {
    /// The authenticated identity of the caller.
    pub(super) by: &'a str,
    /// The wall clock of this node, in milliseconds since 1970.
    pub(super) now_ms: u64,
    /// The random part of the token.
    pub(super) nonce: u64,
}

/// Acquires a lock in the list of revision `before`. Returns the lock, and whether the list was changed. A repetition
/// finds its own lock. Locks that `is_over` names give way.
///
/// # Errors
/// Another lock overlaps, or there are too many locks.
pub(super) fn acquire(
    list: &mut Locks,
    before: u64,
    request: &AcquireRequest,
    acquisition: &Acquisition<'_>,
    is_over: impl Fn(&Lock) -> bool,
) -> Result<(Lock, bool), ApiError> {
    if let Some(own) = list.locks.iter().find(|lock| lock.request_id == request.request_id) {
        return match own.target == request.target {
            true => Ok((own.clone(), false)),
            false => Err(ApiError::invalid(format!(
                "request_id {:?} was used to lock {}; choose a new one",
                request.request_id, own.target
            ))),
        };
    }
    list.locks.retain(|lock| !is_over(lock));
    if let Some(other) = list.locks.iter().find(|lock| lock.target.overlaps(&request.target)) {
        return Err(locked_by(other, &request.target));
    }
    if list.locks.len() >= MOST_LOCKS {
        return Err(refused(
            RefusalCode::Locked,
            true,
            &format!("there are {MOST_LOCKS} locks already, and no more are kept; release or break one, and try again"),
        ));
    }
    let id = before + 1;
    let AcquireRequest { request_id, kind, target, owner, reason, ttl_ms, until } = request.clone();
    let Acquisition { by, now_ms, nonce } = acquisition;
    let token = format!("{id}-{nonce:016x}");
    let (by, since_ms, held, renewals) = ((*by).to_owned(), *now_ms, false, 0);
    let lock = Lock { token, held, id, kind, target, owner, reason, request_id, by, since_ms, renewals, ttl_ms, until };
    list.locks.push(lock.clone());
    Ok((lock, true))
}

/// Notes that every node that can commit obeys a lock. Returns whether the list was changed.
///
/// # Errors
/// The lock is gone.
pub(super) fn hold(list: &mut Locks, token: &str) -> Result<bool, ApiError> {
    let lock = with_token(list, token)?;
    let was_held = std::mem::replace(&mut lock.held, true);
    Ok(!was_held)
}

/// Renews a lock: every node watches it anew.
///
/// # Errors
/// The lock is gone.
pub(super) fn renew(list: &mut Locks, request: &RenewRequest) -> Result<bool, ApiError> {
    let lock = with_token(list, &request.token)?;
    lock.renewals += 1;
    lock.ttl_ms = request.ttl_ms.or(lock.ttl_ms);
    Ok(true)
}

/// Releases a lock. One that is gone is released already.
pub(super) fn release(list: &mut Locks, token: &str) -> bool {
    let before = list.locks.len();
    list.locks.retain(|lock| lock.token != token);
    list.locks.len() != before
}

/// Breaks the lock of a target. Returns whether the list was changed.
///
/// # Errors
/// There is no such lock.
pub(super) fn break_lock(list: &mut Locks, kind: LockKind, target: &LockTarget) -> Result<bool, ApiError> {
    let before = list.locks.len();
    list.locks.retain(|lock| lock.target != *target || lock.kind != kind);
    match list.locks.len() == before {
        true => {
            let kind = kind.name();
            let message = format!("{target} has no lock of the kind {kind}; `lockstep lock list` shows all locks");
            Err(refused(RefusalCode::Stale, false, &message))
        }
        false => Ok(true),
    }
}

/// Ends locks that have expired, unless they were renewed. Returns whether the list was changed.
pub(super) fn end(list: &mut Locks, expired: &[Lock]) -> bool {
    let before = list.locks.len();
    let is_over = |lock: &Lock| expired.iter().any(|one| one.token == lock.token && one.renewals == lock.renewals);
    list.locks.retain(|lock| !is_over(lock));
    list.locks.len() != before
}

fn with_token<'a>(list: &'a mut Locks, token: &str) -> Result<&'a mut Lock, ApiError> {
    list.locks.iter_mut().find(|lock| lock.token == token).ok_or_else(|| {
        let why = "no lock with this token is held: it was released or broken, or has expired; acquire it anew";
        refused(RefusalCode::Stale, false, why)
    })
}

fn locked_by(other: &Lock, wanted: &LockTarget) -> ApiError {
    let Lock { target, owner, reason, ttl_ms, .. } = other;
    let end = match ttl_ms {
        Some(ttl) => format!("it expires {} s after its last renewal", ttl / 1_000),
        None => "it does not expire".to_owned(),
    };
    let message = format!(
        "{wanted} cannot be locked: {target} is locked by {owner} until released (reason: {reason}); {end}; wait, or \
         break it with `lockstep lock break` or `lockstep maintenance off`"
    );
    refused(RefusalCode::Locked, true, &message)
}

fn refused(code: RefusalCode, retry: bool, message: &str) -> ApiError {
    ApiError::new(code, retry, format!("{message}; nothing was changed"))
}

/// The refusal of a lock where no write can check its token. Nobody commits under maintenance, so that is taken.
pub(super) fn no_locks(wanted: &LockTarget) -> ApiError {
    let message = format!(
        "{wanted} cannot be locked: the refdb is written one item at a time (its tables are in several Regions, or \
         refdb.writes says so), and no such write can check the token of a lock; use `lockstep maintenance on`, which \
         keeps everybody out"
    );
    refused(RefusalCode::Locked, false, &message)
}

/// Checks the fields of an acquisition.
///
/// # Errors
/// The field, its value and its bounds.
pub(super) fn check(request: &AcquireRequest) -> Result<(), ApiError> {
    bounded("request_id", &request.request_id, limits::REQUEST_ID_BYTES)?;
    bounded("owner", &request.owner, OWNER_BYTES)?;
    bounded("reason", &request.reason, LOCK_REASON_BYTES)?;
    request.until.as_deref().map_or(Ok(()), |until| bounded("until", until, TOKEN_BYTES))?;
    target(&request.target)?;
    ttl(request.ttl_ms)
}

/// Checks that a target is one thing.
///
/// # Errors
/// It is none, or several.
pub(super) fn target(target: &LockTarget) -> Result<(), ApiError> {
    let message = "field target must name a project, a project with one ref, or a site";
    if target.is_one() { Ok(()) } else { Err(ApiError::invalid(message)) }
}

/// Checks a time to live.
///
/// # Errors
/// It is too short or too long.
pub(super) fn ttl(ttl_ms: Option<u64>) -> Result<(), ApiError> {
    match ttl_ms.filter(|ttl| !(SHORTEST_TTL_MS..=LONGEST_TTL_MS).contains(ttl)) {
        None => Ok(()),
        Some(ttl) => Err(ApiError::invalid(format!(
            "field ttl_ms is {ttl}; give {SHORTEST_TTL_MS} to {LONGEST_TTL_MS} milliseconds, or leave it out for a \
             lock that does not expire"
        ))),
    }
}

/// Checks a text that people read: it has one line, and is within its bound.
///
/// # Errors
/// The field, with its length.
pub(super) fn bounded(field: &str, text: &str, most: usize) -> Result<(), ApiError> {
    if text.trim().is_empty() || text.len() > most || text.chars().any(char::is_control) {
        let bytes = text.len();
        let message = format!("field {field} has {bytes} bytes; give one line of 1 to {most} bytes");
        return Err(ApiError::invalid(message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: &str, target: LockTarget) -> AcquireRequest {
        AcquireRequest {
            request_id: id.to_owned(),
            kind: LockKind::Lock,
            target,
            owner: "alice".to_owned(),
            reason: "repack".to_owned(),
            ttl_ms: None,
            until: None,
        }
    }

    fn project(name: &str) -> LockTarget {
        LockTarget::project(name.parse().unwrap())
    }

    fn acquired(list: &mut Locks, before: u64, request: &AcquireRequest) -> Result<(Lock, bool), ApiError> {
        let acquisition = Acquisition { by: "uid 0", now_ms: 1, nonce: before };
        acquire(list, before, request, &acquisition, |_| false)
    }

    #[test]
    fn a_repetition_gets_its_own_lock_and_everybody_else_is_refused() {
        let mut list = Locks::default();
        let (first, is_new) = acquired(&mut list, 4, &request("one", project("p"))).unwrap();
        assert!(is_new && first.id == 5 && first.token.starts_with("5-") && !first.held);
        assert_eq!(acquired(&mut list, 5, &request("one", project("p"))), Ok((first.clone(), false)));
        let used = acquired(&mut list, 5, &request("one", project("q"))).unwrap_err();
        assert_eq!(used.code, RefusalCode::Invalid);
        let other = acquired(&mut list, 5, &request("two", project("p"))).unwrap_err();
        assert_eq!((other.code, other.retry), (RefusalCode::Locked, true));
        assert!(other.message.contains("project p is locked by alice until released (reason: repack)"), "{other:?}");
        let below = LockTarget::of_ref("p".parse().unwrap(), "refs/heads/a".parse().unwrap());
        assert!(acquired(&mut list, 5, &request("two", below)).is_err());
        let (second, _) = acquired(&mut list, 5, &request("two", project("q"))).unwrap();
        assert!(second.id > first.id, "tokens grow");
    }

    #[test]
    fn a_broken_lock_is_neither_held_nor_renewed_and_another_one_has_another_token() {
        let mut list = Locks::default();
        let (first, _) = acquired(&mut list, 0, &request("one", project("p"))).unwrap();
        assert_eq!((hold(&mut list, &first.token), hold(&mut list, &first.token)), (Ok(true), Ok(false)));
        let (lock, maintenance) = (LockKind::Lock, LockKind::Maintenance);
        assert!(break_lock(&mut list, lock, &project("q")).is_err());
        assert!(break_lock(&mut list, maintenance, &project("p")).is_err());
        assert_eq!(break_lock(&mut list, lock, &project("p")), Ok(true));
        let renewal = RenewRequest { token: first.token.clone(), ttl_ms: None };
        assert!(hold(&mut list, &first.token).is_err() && renew(&mut list, &renewal).is_err());
        assert!(!release(&mut list, &first.token));
        let (second, _) = acquired(&mut list, 3, &request("two", project("p"))).unwrap();
        assert_ne!(second.token, first.token);
        assert!(release(&mut list, &second.token) && list.locks.is_empty());
    }

    #[test]
    fn an_expired_lock_gives_way_unless_it_was_renewed() {
        let mut list = Locks::default();
        let (first, _) = acquired(&mut list, 0, &request("one", project("p"))).unwrap();
        let watched = list.locks.clone();
        let renewal = RenewRequest { token: first.token, ttl_ms: Some(60_000) };
        assert_eq!(renew(&mut list, &renewal), Ok(true));
        assert!(!end(&mut list, &watched), "somebody saw an older renewal");
        let watched = list.locks.clone();
        let acquisition = Acquisition { by: "uid 0", now_ms: 1, nonce: 1 };
        let is_over = |lock: &Lock| watched.contains(lock);
        let taken = acquire(&mut list.clone(), 2, &request("two", project("p")), &acquisition, is_over);
        assert!(taken.is_ok_and(|(_, is_new)| is_new));
        assert!(end(&mut list, &watched) && list.locks.is_empty());
    }

    #[test]
    fn requests_are_bounded() {
        let good = request("one", project("p"));
        assert_eq!(check(&good), Ok(()));
        let bad = [
            AcquireRequest { owner: String::new(), ..good.clone() },
            AcquireRequest { reason: "a\nb".to_owned(), ..good.clone() },
            AcquireRequest { reason: "r".repeat(LOCK_REASON_BYTES + 1), ..good.clone() },
            AcquireRequest { ttl_ms: Some(1), ..good.clone() },
            AcquireRequest { target: LockTarget::default(), ..good },
        ];
        for request in bad {
            assert_eq!(check(&request).unwrap_err().code, RefusalCode::Invalid, "{request:?}");
        }
        let mut list = Locks::default();
        for n in 0..MOST_LOCKS {
            acquired(&mut list, n as u64, &request(&n.to_string(), project(&format!("p{n}")))).unwrap();
        }
        assert!(acquired(&mut list, 99, &request("more", project("more"))).is_err());
    }
}
