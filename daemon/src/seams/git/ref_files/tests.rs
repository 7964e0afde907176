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
            assert_eq!(list_packed(folder.path(), "refs/heads/1").unwrap().len(), below);
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
