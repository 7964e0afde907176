//! The contract of [`RefDb`]: one test per sentence. `refdb_contract!(make)` makes a `#[tokio::test]` of every case.
//! `make` is an async function that returns an empty refdb, together with everything that must live as long as it.
//! `refdb_contract!(one_test make)` makes one function `every_case`, which runs them one after the other.
//! `refdb_contract!(named)` makes a function `cases`, which lists them.
//!
//! A store whose writes take one item keeps the contract behind `StagedRefs`. A transaction that was refused there has
//! its slot poisoned, and an obstacle may be met before the others are looked for.

pub mod commit;
pub mod documents;
pub mod gerrit;
pub mod incarnations;
pub mod locks;
pub mod names;
pub mod nodes;
pub mod operator_locks;
pub mod reads;
pub mod rebuild;
pub mod sites;
pub mod slots;

use std::pin::Pin;
use std::sync::Arc;

use lockstep::base::faults::injected_bug::InjectedBugs;
use lockstep::seams::blob::long_form::LongForms;
use lockstep::seams::blob::memory::MemoryBlobs;
use lockstep::seams::refdb::memory::MemoryRefDb;
use lockstep::seams::refdb::staged::{StagedRefs, WRITE_ITEMS};
use lockstep::seams::refdb::{
    CommitAnswer, CommitRequest, IncarnationRecord, Obstacle, OpenAnswer, RefDb, RefItem, Role, SlotState,
};
use lockstep_proto::ProjectKey;

use crate::build;

/// The refdb that a case runs against.
pub type Db = RefDb;

/// A case of the contract as a value.
pub type Case = fn(Db) -> Pin<Box<dyn Future<Output = ()>>>;

/// Makes one test per case of the contract.
#[macro_export]
macro_rules! refdb_contract {
    (named) => {
        $crate::refdb_contract!(@list named nothing);
    };
    ($make:path) => {
        $crate::refdb_contract!(@list tests $make);
    };
    (one_test $make:path) => {
        $crate::refdb_contract!(@list every_case $make);
    };
    (@list $how:ident $make:path) => {
        $crate::refdb_contract!(@$how $make;
            commit::a_commit_writes_every_ref_and_the_slot,
            commit::one_stale_ref_refuses_the_whole_batch,
            commit::every_obstacle_is_listed,
            commit::a_value_that_came_back_is_refused_by_its_version,
            commit::the_same_version_of_another_transaction_is_stale,
            commit::a_wrong_old_value_is_stale,
            commit::a_first_version_meets_a_live_ref,
            commit::a_later_version_meets_no_item,
            commit::a_tombstone_keeps_its_version_and_creation_continues_it,
            commit::a_second_copy_never_commits_twice,
            commit::a_copy_that_comes_after_its_successor_changes_nothing,
            commit::of_concurrent_commits_on_one_ref_exactly_one_wins,
            commit::of_crossing_batches_none_is_halved,
            commit::a_batch_of_fifty_refs,
            commit::the_largest_batch,
            commit::a_malformed_request_is_broken_and_changes_nothing,
            commit::pseudo_refs_are_in_the_same_chain,
            commit::projects_and_their_incarnations_do_not_touch,
            names::a_marked_name_cannot_be_created,
            names::a_live_prefix_refuses_names_below_it,
            names::a_mark_raises_no_version,
            names::a_mark_can_be_set_again,
            names::a_tombstone_can_become_a_directory,
            names::a_refused_commit_marks_nothing,
            names::a_loosened_mark_is_still_a_mark,
            names::a_freed_name_can_be_created_and_has_no_mark,
            names::a_mark_that_is_set_again_is_not_loosened,
            names::only_the_last_loosening_frees_a_name,
            names::a_live_name_cannot_be_loosened,
            names::a_name_is_freed_for_a_batch_under_locks,
            locks::a_lock_is_what_stands_in_everybody_elses_way,
            locks::a_part_is_locked_whole_or_not_at_all,
            locks::a_lock_asks_for_what_its_command_builds_on,
            locks::a_locked_name_becomes_no_directory,
            locks::a_locked_ref_may_be_about_to_go,
            locks::a_seal_is_the_commit_point_once,
            locks::a_flip_moves_what_carries_the_lock_and_nothing_else,
            locks::a_released_ref_is_what_it_was,
            locks::a_part_of_the_wrong_size_is_broken,
            operator_locks::a_store_that_checks_no_locks_commits_nothing_under_one,
            operator_locks::a_commit_under_a_lock_needs_the_lock_to_be_held,
            operator_locks::of_two_holders_only_the_second_commits_once_the_first_is_broken,
            operator_locks::a_copy_that_comes_after_the_lock_was_broken_is_told_that_it_landed,
            operator_locks::a_transaction_under_ref_locks_is_sealed_only_while_the_lock_is_held,
            operator_locks::of_a_break_and_a_commit_at_once_either_is_first,
            slots::a_slot_is_empty_then_committed,
            slots::poison_takes_an_empty_slot_for_ever,
            slots::poison_does_not_touch_a_committed_slot,
            slots::a_commit_into_a_poisoned_slot_is_refused,
            slots::a_commit_into_anothers_slot_is_refused,
            slots::of_poison_and_commit_exactly_one_wins,
            slots::collection_removes_committed_slots_and_leaves_poison,
            reads::a_read_keeps_the_order_of_its_keys,
            reads::a_read_of_many_keys,
            reads::a_scan_is_in_key_order_with_tombstones,
            reads::a_scan_goes_on_behind_a_key,
            reads::a_scan_leaves_the_state_out,
            reads::projects_are_listed_in_order,
            sites::a_site_is_enrolled_once,
            sites::a_change_of_role_raises_the_epoch,
            sites::a_change_from_an_old_epoch_changes_nothing,
            sites::an_operators_change_is_one_write_with_all_its_conditions,
            sites::the_requirement_of_signatures_stays_until_it_is_taken_back,
            sites::a_failover_begins_from_the_epochs_that_were_seen,
            sites::an_unknown_site_has_no_role_to_change,
            documents::a_document_is_written_in_the_order_of_its_revisions,
            documents::the_first_declaration_that_the_refdb_went_back_stays,
            incarnations::an_incarnation_needs_the_role_and_the_epoch,
            incarnations::no_incarnation_is_opened_while_the_refdb_moves_or_after_it_has_moved,
            incarnations::a_site_that_shuts_out_earlier_programs_keeps_role_and_epoch,
            incarnations::a_site_that_is_off_opens_no_incarnation_even_if_it_is_active,
            incarnations::a_removed_site_opens_no_incarnation_even_if_it_is_active,
            incarnations::a_number_is_opened_once,
            incarnations::marks_never_go_back,
            incarnations::marks_of_other_lanes_are_broken,
            incarnations::a_freeze_is_final_and_idempotent,
            incarnations::a_frozen_incarnation_is_poisoned_then_published_then_drained,
            incarnations::marks_and_a_freeze_at_once,
            incarnations::only_a_frozen_incarnation_drains,
            incarnations::incarnations_are_listed_by_site_in_order,
            incarnations::the_highest_number_outlives_the_incarnation,
            incarnations::only_a_drained_incarnation_is_forgotten,
            nodes::a_node_is_written_once_without_a_predecessor,
            nodes::a_node_is_overwritten_by_who_knows_it,
            nodes::another_volume_start_beat_or_expulsion_differs,
            nodes::nodes_are_listed_in_order,
            nodes::a_digest_replaces_the_last_one_and_is_bounded,
            rebuild::a_rebuild_writes_refs_directories_and_sites,
            rebuild::a_rebuild_lowers_no_version_and_no_epoch,
            rebuild::a_rebuild_writes_documents_and_lowers_no_revision,
            rebuild::a_run_that_is_not_the_last_one_writes_nothing,
            rebuild::a_live_ref_becomes_no_directory,
            rebuild::a_rebuilt_ref_takes_the_next_commit,
            rebuild::a_backup_has_every_item_of_the_refdb,
            rebuild::a_write_of_the_wrong_size_is_broken,
            gerrit::the_first_gerrit_says_who_it_is_for_ever,
            gerrit::of_concurrent_firsts_one_wins,
            gerrit::an_instance_id_has_one_node,
            gerrit::a_claim_may_take_over_from_one_node_alone,
            gerrit::only_its_node_releases_an_instance_id,
            gerrit::names_that_are_no_keys_are_broken,
        );
    };
    (@tests $make:path; $($module:ident :: $case:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $case() {
                let (db, _backend) = $make().await;
                $crate::contract::refdb::$module::$case(db).await;
            }
        )*
    };
    (@named $make:path; $($module:ident :: $case:ident),* $(,)?) => {
        /// Every case with its name, to be run one after the other.
        #[must_use]
        pub fn cases() -> Vec<(&'static str, $crate::contract::refdb::Case)> {
            let all: &[(&'static str, $crate::contract::refdb::Case)] = &[$((
                concat!(stringify!($module), "::", stringify!($case)),
                |db| Box::pin($crate::contract::refdb::$module::$case(db)),
            )),*];
            all.to_vec()
        }
    };
    (@every_case $make:path; $($module:ident :: $case:ident),* $(,)?) => {
        async fn every_case() {
            // In boxes: the futures of all cases together are too large for a stack.
            let cases: &[$crate::contract::refdb::Case] =
                &[$(|db| Box::pin($crate::contract::refdb::$module::$case(db))),*];
            for case in cases {
                let (db, _backend) = $make().await;
                case(db).await;
            }
        }
    };
}

/// A refdb whose writes take one item, with commits under locks. A call that meets a lock finds the incarnation
/// of [`build::slot`] open, while the refdb itself is empty.
///
/// # Panics
/// If the incarnation cannot be opened.
pub async fn under_locks(raw: RefDb) -> RefDb {
    let known = MemoryRefDb::new().refdb();
    let site = known.sites.enroll_site(&build::site("site-a"), Role::Active).await.expect("a site");
    let record = IncarnationRecord::open(build::incarnation("node-a", 1), site.site, site.epoch, 64, 1);
    assert_eq!(known.incarnations.open_incarnation(&record).await, Ok(OpenAnswer::Opened));
    let inner = RefDb { sites: known.sites, incarnations: known.incarnations, ..raw.clone() };
    let long_forms = LongForms::new(Arc::new(MemoryBlobs::default()), "no-spill".into(), usize::MAX);
    let staged = StagedRefs::new(inner, long_forms, WRITE_ITEMS, InjectedBugs::default());
    RefDb { refs: Arc::new(staged), ..raw }
}

/// The project of most cases.
fn project() -> ProjectKey {
    build::project("tools/build#1")
}

/// The item of a ref that must have one.
async fn item(db: &Db, name: &str) -> RefItem {
    try_item(db, name).await.unwrap_or_else(|| panic!("{name} has no item"))
}

async fn try_item(db: &Db, name: &str) -> Option<RefItem> {
    db.refs.read(&project(), &[build::key(name)]).await.expect("a read").pop().expect("one answer")
}

/// Sends a commit that must succeed.
async fn land(db: &Db, request: &CommitRequest) {
    assert_eq!(db.refs.commit(request).await, Ok(CommitAnswer::Committed), "{request:?}");
}

/// Sends a commit that must be refused, and returns its obstacles.
async fn refuse(db: &Db, request: &CommitRequest) -> Vec<Obstacle> {
    match db.refs.commit(request).await {
        Ok(CommitAnswer::Refused(obstacles)) => obstacles,
        other => panic!("expected a refusal, got {other:?}: {request:?}"),
    }
}

/// The state of the slot of a request that was refused: a commit in steps does not give its slot back.
fn unused(db: &Db, request: &CommitRequest) -> SlotState {
    if db.refs.commits_in_steps(&request.transaction) { SlotState::Poisoned } else { SlotState::Empty }
}

/// The state of a slot that holds a committed request.
fn landed(request: &CommitRequest) -> SlotState {
    SlotState::Committed(request.transaction.id.clone(), request.encoded.clone())
}
