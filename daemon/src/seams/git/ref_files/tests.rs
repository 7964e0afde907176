//! Bisection of `packed-refs` finds the same entries as reading it from the start.

use super::*;

fn oid(number: u32) -> String {
    format!("{number:08x}").repeat(5)
}

fn write(folder: &Path, header: &str, names: &[String]) {
    let mut text = header.to_owned();
    for (number, name) in (1..).zip(names) {
        text.push_str(&format!("{} {name}\n", oid(number)));
        if number % 3 == 0 {
            text.push_str(&format!("^{}\n", oid(number)));
        }
    }
    std::fs::write(folder.join("packed-refs"), text).unwrap();
}

#[test]
fn every_packed_ref_is_found_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    for count in [0, 1, 2, 3, 10, 500] {
        let mut names: Vec<String> = (0..count).map(|n| format!("refs/heads/{}{}", n * 7 % 13, n)).collect();
        names.sort();
        for header in ["# pack-refs with: peeled fully-peeled sorted \n", "# pack-refs with: peeled \n", ""] {
            write(folder.path(), header, &names);
            for (number, name) in (1..).zip(&names) {
                let found = read(folder.path(), name).unwrap().map(|oid| oid.to_string());
                assert_eq!(found, Some(oid(number)), "{name} of {count}");
                assert_eq!(read(folder.path(), &format!("{name}x")).unwrap(), None);
            }
            for absent in ["refs/a/b", "refs/heads/~", "refs/z/z"] {
                assert_eq!(read(folder.path(), absent).unwrap(), None);
            }
            let below = names.iter().filter(|name| name.starts_with("refs/heads/1")).count();
            assert_eq!(list(folder.path(), "refs/heads/").unwrap().len(), names.len());
            assert_eq!(list_packed(folder.path(), b"refs/heads/1").unwrap().len(), below);
        }
    }
}

#[test]
fn a_loose_ref_hides_its_packed_value_and_a_garbled_one_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "# pack-refs with: peeled fully-peeled sorted \n", &["refs/heads/a".into()]);
    std::fs::create_dir_all(folder.path().join("refs/heads")).unwrap();
    std::fs::write(folder.path().join("refs/heads/a"), oid(9) + "\n").unwrap();
    assert_eq!(read(folder.path(), "refs/heads/a").unwrap().unwrap().to_string(), oid(9));
    assert_eq!(list(folder.path(), "refs/").unwrap()["refs/heads/a"].to_string(), oid(9));
    for garbled in ["", "0123", "\0\0\0"] {
        std::fs::write(folder.path().join("refs/heads/a"), garbled).unwrap();
        assert!(read(folder.path(), "refs/heads/a").is_err());
        assert!(list(folder.path(), "refs/").is_err());
    }
}

#[test]
fn a_name_that_is_not_utf_8_is_listed_as_it_is_and_seeded_under_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let lines = [(3, &b"refs/heads/a"[..]), (4, b"refs/heads/caf\xe9"), (5, b"refs/heads/z")];
    let mut text = b"# pack-refs with: peeled fully-peeled sorted \n".to_vec();
    for (number, name) in lines {
        text.extend([oid(number).as_bytes(), b" ", name, b"\n"].concat());
    }
    std::fs::write(folder.path().join("packed-refs"), text).unwrap();
    std::fs::create_dir_all(folder.path().join("refs/heads")).unwrap();
    let loose = folder.path().join(OsStr::from_bytes(b"refs/heads/na\xefve"));
    std::fs::write(loose, oid(6) + "\n").unwrap();
    assert_eq!(list(folder.path(), "refs/").unwrap().into_keys().collect::<Vec<_>>(), ["refs/heads/a", "refs/heads/z"]);
    let all: Vec<_> = list_all(folder.path(), "refs/").unwrap().into_keys().collect();
    assert_eq!(all, [&b"refs/heads/a"[..], b"refs/heads/caf\xe9", b"refs/heads/na\xefve", b"refs/heads/z"]);
    assert_eq!(read(folder.path(), "refs/heads/z").unwrap().unwrap().to_string(), oid(5));
    assert_eq!(read(folder.path(), "refs/heads/caf\u{fffd}").unwrap(), None);
}

#[test]
fn a_symbolic_ref_has_the_value_of_its_target_and_is_no_direct_ref() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "# pack-refs with: peeled fully-peeled sorted \n", &["refs/heads/main".into()]);
    std::fs::create_dir_all(folder.path().join("refs/heads")).unwrap();
    let file = |name: &str| folder.path().join("refs/heads").join(name);
    std::fs::write(file("latest"), "ref: refs/heads/main\n").unwrap();
    std::os::unix::fs::symlink("refs/heads/main", file("linked")).unwrap();
    std::fs::write(file("dangling"), "ref: refs/heads/nothing\n").unwrap();
    std::fs::write(file("loop"), "ref: refs/heads/loop\n").unwrap();
    for name in ["latest", "linked"] {
        let name = format!("refs/heads/{name}");
        assert_eq!(read(folder.path(), &name).unwrap().unwrap().to_string(), oid(1), "{name}");
        assert_eq!(symbolic(folder.path(), &name).unwrap().as_deref(), Some(&b"refs/heads/main"[..]));
    }
    assert_eq!(read(folder.path(), "refs/heads/dangling").unwrap(), None);
    assert_eq!(read(folder.path(), "refs/heads/loop").unwrap(), None);
    assert_eq!(symbolic(folder.path(), "refs/heads/main").unwrap(), None);
    assert_eq!(list(folder.path(), "refs/").unwrap().into_keys().collect::<Vec<_>>(), ["refs/heads/main"]);
}
