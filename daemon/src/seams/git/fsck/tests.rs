//! Objects that git's own fsck refuses are refused here too; flaws that many real histories have are accepted.

use super::*;

const ID: &str = "0123456789012345678901234567890123456789";
const WHO: &str = "A <a@b> 1700000000 +0000";

fn entry(mode: &str, name: &[u8]) -> Vec<u8> {
    [mode.as_bytes(), b" ", name, b"\0", &[7; 20]].concat()
}

fn check_entries(entries: &[(&str, &[u8])]) -> Result<Checked, String> {
    let content: Vec<u8> = entries.iter().flat_map(|(mode, name)| entry(mode, name)).collect();
    check(ObjectType::Tree, &content)
}

#[test]
fn commits_and_tags_need_their_lines() {
    let good = format!("tree {ID}\nparent {ID}\nauthor {WHO}\ncommitter {WHO}\n\ntext\0with nul");
    let links = check(ObjectType::Commit, good.as_bytes()).unwrap().links;
    assert_eq!(links.iter().map(|(_, kind)| *kind).collect::<Vec<_>>(), [ObjectType::Tree, ObjectType::Commit]);
    for (from, to) in [("tree", "trie"), ("author", "auth"), ("committer A <", "committer A "), (ID, "0123")] {
        assert!(check(ObjectType::Commit, good.replacen(from, to, 1).as_bytes()).is_err(), "{from} -> {to}");
    }
    assert!(check(ObjectType::Commit, good.replacen('A', "\0", 1).as_bytes()).is_err());
    let tag = format!("object {ID}\ntype commit\ntag v1\n\ntext");
    assert_eq!(check(ObjectType::Tag, tag.as_bytes()).unwrap().links.len(), 1);
    assert!(check(ObjectType::Tag, tag.replace("type commit", "type comet").as_bytes()).is_err());
}

#[test]
fn trees_need_order_known_modes_and_harmless_names() {
    let good = check_entries(&[("100644", b"a-b"), ("40000", b"a"), ("160000", b"sub"), ("120000", b"to")]).unwrap();
    assert_eq!(good.links.len(), 3, "a submodule's commit is in another repository");
    assert!(!good.ask);
    assert!(check_entries(&[("40000", b"a"), ("100644", b"a-b")]).is_err(), "a folder sorts as 'a/'");
    assert!(check_entries(&[("100644", b"a"), ("40000", b"a")]).is_err(), "one name twice");
    assert!(check_entries(&[("100600", b"a")]).is_err());
    let names: [&[u8]; 9] = [b"", b".", b"..", b".git", b".GiT", b"git~1", b"a/b", b".git. ", b".git::$INDEX"];
    for name in names {
        assert!(check_entries(&[("100644", name)]).is_err(), "{}", String::from_utf8_lossy(name));
    }
    assert!(check(ObjectType::Tree, &entry("100644", b"a")[..20]).is_err(), "cut short");
}

#[test]
fn git_is_asked_about_what_git_reads_itself() {
    assert!(check_entries(&[("120000", b".gitmodules")]).unwrap().ask);
    assert!(check_entries(&[("100644", ".g\u{200c}it".as_bytes())]).unwrap().ask);
    assert_eq!(check_entries(&[("100644", b".gitmodules")]).unwrap().special.len(), 1);
    assert_eq!(check_entries(&[("100644", b".gitignore")]).unwrap().special.len(), 0);
}
