//! The corpus of odd objects, held against plain git.

use std::path::Path;

use git2::{ObjectType, Repository};
use lockstep_tests::odd::{self, Answer, Odd, ids, push::push};

/// A bare repository whose server has this configuration.
fn server(folder: &Path, config: &[(&str, &str)]) -> Repository {
    let repository = Repository::init_bare(folder).unwrap();
    let mut settings = repository.config().unwrap();
    config.iter().for_each(|(key, value)| settings.set_str(key, value).unwrap());
    repository
}

/// Makes an odd object in a repository of its own. Returns its id, and a pack of all that was made.
fn made(odd: &Odd, folder: &Path) -> (String, Vec<u8>) {
    let repository = Repository::init_bare(folder).unwrap();
    let odb = repository.odb().unwrap();
    let write = |kind: ObjectType, content: &[u8]| odb.write(kind, content).unwrap().to_string();
    let id = (odd.make)(&odd::Forge::new(&write));
    (id, odd::everything(folder))
}

#[test]
fn plain_git_answers_as_the_corpus_says() {
    let folder = tempfile::tempdir().unwrap();
    let [plain, strict] = ["plain.git", "strict.git"].map(|name| folder.path().join(name));
    server(&plain, &[]);
    server(&strict, &[("receive.fsckObjects", "true")]);
    let mut wrong = Vec::new();
    for (number, odd) in odd::all().iter().enumerate() {
        let (id, pack) = made(odd, &folder.path().join(number.to_string()));
        for (to, expected) in [(&plain, odd.plain), (&strict, odd.fsck)] {
            let answer = push(to, &odd.name_of_ref(number), &id, &pack);
            if answer.is_ok() != (expected == Answer::Taken) {
                wrong.push(format!("{odd:?} is not {expected:?} by {}: {answer:?}", to.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_message_id_of_this_git_has_an_example() {
    assert!(odd::all().len() >= 60);
    let (here, known) = (ids::of_this_git(), ids::known());
    assert!(here.len() > 40, "git help -c lists the message ids as receive.fsck.<id>: {here:?}");
    let new: Vec<_> = here.difference(&known).collect();
    assert!(
        new.is_empty(),
        "this git has new message ids: {new:?}. Add an example of each to tests/src/odd (or the reason for none to \
         WITHOUT_EXAMPLE in ids.rs), and see whether `seams/git/parse` still walks what git walks"
    );
}
