//! Runs the contract of the node's store over every implementation.

use lockstep::seams::volume::disk::DiskStore;
use lockstep::seams::volume::memory::MemoryStore;
use lockstep_tests::contract::{store as contract, store_digests, store_notes};

/// Makes a test per function of the contract, over both stores.
macro_rules! on_both_stores {
    ($contract:ident in $memory:ident and $disk:ident: $($name:ident),* $(,)?) => {
        mod $memory {
            $(#[tokio::test]
            async fn $name() {
                super::$contract::$name(&super::MemoryStore::default()).await;
            })*
        }

        mod $disk {
            $(#[tokio::test]
            async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                super::$contract::$name(&super::DiskStore::open(&folder.path().join("node.redb")).unwrap()).await;
            })*
        }
    };
}

on_both_stores!(contract in memory and disk:
    a_new_store_is_empty,
    entries_are_replaced_and_tombstones_stay,
    the_later_of_two_entries_stays,
    projects_and_incarnations_are_apart,
    the_state_belongs_to_the_name,
    references_come_in_pages_in_key_order,
    an_object_is_a_value_until_its_last_ref_moves,
    positions_are_replaced_and_forgotten,
    held_records_stay_until_they_are_let_go,
    parked_records_are_read_in_pages,
    debts_are_replaced_and_repaid,
    refresh_marks_are_replaced_and_removed,
    a_project_is_forgotten_by_incarnation,
    mail_comes_in_the_order_of_its_numbers,
    received_positions_are_replaced_and_forgotten,
    registered_numbers_never_go_back,
    a_volume_that_moves_to_another_refdb_forgets_the_one_before,
    committed_requests_are_kept_until_they_are_forgotten,
    a_thousand_entries_are_one_step,
);

on_both_stores!(store_digests in digests_in_memory and digests_on_disk:
    a_digest_is_that_of_the_entries_after_every_step,
    results_of_verifications_stay_until_the_refdb_changes,
);

on_both_stores!(store_notes in notes_in_memory and notes_on_disk:
    the_gap_in_the_requests_is_kept_until_it_ends,
    blobs_are_noted_until_they_end,
);

#[tokio::test]
async fn a_disk_store_that_is_opened_again_has_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.redb");
    let store = DiskStore::open(&path).unwrap();
    contract::fill(&store).await;
    contract::check_filled(&store);
    drop(store);
    contract::check_filled(&DiskStore::open(&path).unwrap());
}

/// The file of an open store is in the state in which a killed process leaves it.
#[tokio::test]
async fn a_disk_store_that_was_not_closed_has_everything() {
    let folder = tempfile::tempdir().unwrap();
    let (path, left) = (folder.path().join("node.redb"), folder.path().join("left.redb"));
    let store = DiskStore::open(&path).unwrap();
    contract::fill(&store).await;
    std::fs::copy(&path, &left).unwrap();
    contract::check_filled(&DiskStore::open(&left).unwrap());
}

#[tokio::test]
async fn a_disk_store_is_opened_by_one_process_at_a_time_and_damage_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.redb");
    let store = DiskStore::open(&path).unwrap();
    let twice = DiskStore::open(&path).err().expect("a refusal").to_string();
    assert!(twice.contains("node.redb"), "{twice}");
    drop(store);
    std::fs::write(&path, [7; 8192]).unwrap();
    let damaged = DiskStore::open(&path).err().expect("an error").to_string();
    assert!(damaged.contains("node.redb"), "{damaged}");
}

#[tokio::test]
async fn a_memory_store_outlives_its_node_but_not_its_disk() {
    let disk = MemoryStore::default();
    contract::fill(&disk.clone()).await;
    contract::check_filled(&disk);
    disk.wipe();
    contract::a_new_store_is_empty(&disk).await;
}
