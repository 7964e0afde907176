//! Invariant 5, second half: without faults and after a bounded time, the index and the caches of each node's Gerrit
//! match the refs of the node, for its own commits too.

use std::collections::BTreeMap;

use lockstep_proto::refresh::Subject;
use lockstep_proto::{ProjectName, RefName};

use crate::sim::backend::Volume;

/// The document that a Gerrit has for each subject that it knows.
pub type Documents = BTreeMap<Subject, String>;

/// The documents that a Gerrit would build from the refs now: one per subject that exists.
#[must_use]
pub fn documents(volume: &dyn Volume, project: &ProjectName) -> Documents {
    if !volume.has(project) {
        return Documents::new();
    }
    let mut documents = Documents::new();
    documents.insert(Subject::Project { project: project.clone() }, "here".to_owned());
    for (name, oid) in volume.refs(project) {
        let Some(subject) = subject(project, &name) else { continue };
        let document = documents.entry(subject).or_default();
        document.push_str(&format!("{name} {oid}\n"));
    }
    documents
}

/// The subject of a ref. This is written independently of the code under test.
#[must_use]
pub fn subject(project: &ProjectName, name: &RefName) -> Option<Subject> {
    let parts: Vec<&str> = name.as_str().split('/').collect();
    match parts.as_slice() {
        ["refs", "heads", ..] => Some(Subject::Branch { project: project.clone(), name: name.clone() }),
        ["refs", "meta", "config"] => Some(Subject::ProjectConfig { project: project.clone() }),
        ["refs", "changes", _, number, _] => {
            Some(Subject::Change { project: project.clone(), number: number.parse().ok()? })
        }
        _ => None,
    }
}

/// The first document of a Gerrit, for these projects, that does not match the refs. None if all match.
#[must_use]
pub fn gerrit_differs(
    volume: &dyn Volume,
    projects: &[ProjectName],
    index: &Documents,
    caches: &Documents,
) -> Option<String> {
    let truth: Documents = projects.iter().flat_map(|project| documents(volume, project)).collect();
    let wrong = truth.iter().find(|(subject, document)| index.get(subject) != Some(document));
    let wrong = wrong.map(|(subject, document)| {
        format!("its index has {:?} of {subject}, the refs say {document:?}", index.get(subject))
    });
    let gone = index.iter().find(|(subject, _)| !truth.contains_key(subject));
    let gone = gone.map(|(subject, document)| format!("its index has {document:?} of {subject}, which is gone"));
    let cached = caches.iter().find(|(subject, document)| truth.get(subject) != Some(document));
    let cached = cached.map(|(subject, document)| {
        format!("its caches have {document:?} of {subject}, the refs say {:?}", truth.get(subject))
    });
    wrong.or(gone).or(cached)
}

#[cfg(test)]
mod tests {
    use lockstep::base::faults::injected_bug::InjectedBugs;

    use super::*;
    use crate::sim::backend::Backend;
    use crate::sim::memory::MemoryBackend;

    #[test]
    fn a_document_that_is_old_missing_or_too_much_is_found() {
        let volume = MemoryBackend::of_models(1, InjectedBugs::default()).volume();
        let project: ProjectName = "p".parse().unwrap();
        let names = [project.clone()];
        let subject = Subject::Project { project: project.clone() };
        let some: Documents = [(subject, "here".to_owned())].into();
        let differs = |index: &Documents, caches: &Documents| gerrit_differs(volume.as_ref(), &names, index, caches);
        assert_eq!(differs(&Documents::new(), &Documents::new()), None);
        assert!(differs(&some, &Documents::new()).is_some_and(|what| what.contains("which is gone")));
        assert!(differs(&Documents::new(), &some).is_some_and(|what| what.contains("its caches have")));
        let head = "refs/heads/main".parse().unwrap();
        let made = futures::FutureExt::now_or_never(async { volume.repositories().create(&project, &head).await });
        assert_eq!(made, Some(Ok(())));
        assert!(differs(&Documents::new(), &Documents::new()).is_some_and(|what| what.contains("the refs say")));
        assert_eq!(differs(&some, &some), None);
    }
}
