//! Reads the parked records of a store page by page, because all of them together may not fit into memory.

use super::{Held, NodeStore, StoreError};

/// Records of a page.
const PAGE: usize = 64;

/// The parked records in pages, in the order of their ids. An error is the last item.
pub fn parked_pages(store: &dyn NodeStore) -> impl Iterator<Item = Result<Vec<(String, Held)>, StoreError>> {
    let mut next = Some(None::<String>);
    std::iter::from_fn(move || {
        let page = store.parked(next.take()?.as_deref(), PAGE);
        if let Ok(page) = &page
            && page.len() == PAGE
        {
            next = Some(page.last().map(|(id, _)| id.clone()));
        }
        Some(page)
    })
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryStore;
    use super::super::{Changes, HeldKind};
    use super::*;

    #[tokio::test]
    async fn every_record_is_in_one_page_and_full_pages_have_a_next_one() {
        for (records, sizes) in [(0, vec![0]), (1, vec![1]), (PAGE, vec![PAGE, 0]), (PAGE + 1, vec![PAGE, 1])] {
            let store = MemoryStore::default();
            let (kind, project) = (HeldKind::Committed, "p#1".to_owned());
            let held = Held { bytes: "b".into(), kind, project, reason: "r".into(), waits_for: vec![], since_ms: 1 };
            let park = (0..records).map(|number| (format!("{number:04}"), held.clone())).collect();
            store.commit(Changes { park, ..Changes::default() }).await.unwrap();
            let pages: Vec<_> = parked_pages(&store).collect::<Result<_, _>>().unwrap();
            assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
            let ids = pages.concat().into_iter().map(|(id, _)| id);
            assert!(ids.eq((0..records).map(|number| format!("{number:04}"))));
        }
    }
}
