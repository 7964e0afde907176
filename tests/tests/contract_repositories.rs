//! Runs the contract of the repositories over every implementation.

use lockstep::seams::git::Settings;
use lockstep_tests::contract::repositories as contract;
use lockstep_tests::local_git::LocalFixture;

/// Makes a test per function of the contract.
macro_rules! on_local_repositories {
    ($($name:ident),* $(,)?) => {
        mod local {
            $(#[tokio::test]
            async fn $name() {
                super::contract::$name(&super::LocalFixture::new()).await;
            })*
        }

        /// The same tests in a base path on another file system than the root.
        mod base_path {
            $(#[tokio::test]
            async fn $name() {
                super::contract::$name(&super::LocalFixture::elsewhere(&super::Settings::default())).await;
            })*
        }
    };
}

on_local_repositories!(
    a_repository_is_there_from_its_creation_to_its_deletion,
    head_points_where_it_is_told,
    refs_move_all_or_none,
    a_ref_never_moves_to_what_is_not_there,
    only_replicated_refs_are_listed,
    kept_values_are_let_go_by_label,
    values_relate_by_ancestry,
    histories_are_shared_or_not,
    numbers_are_read,
    commits_behind_tips_are_found,
    a_pack_ends_at_committed_values,
    an_object_that_is_not_committed_is_no_base,
    every_kind_of_value_is_carried,
    missing_objects_are_named,
    a_damaged_pack_is_bad,
    several_packs_are_taken_in_order,
    odd_objects_are_refused_or_carried,
    histories_go_on_upon_odd_commits,
    values_are_complete_or_not,
    repair_leaves_a_healthy_volume_alone,
);
