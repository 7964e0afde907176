//! The parser reads the parts of an object that git walks, and no others.

use super::*;

const ID: &str = "0123456789012345678901234567890123456789";

fn text(lines: &[&str]) -> Vec<u8> {
    lines.concat().replace("ID", ID).into_bytes()
}

fn id_of(result: Result<Links, Defect>) -> &'static str {
    result.expect_err("a defect").id
}

fn tree(entries: &[(&str, &[u8])]) -> Vec<u8> {
    entries.iter().flat_map(|(mode, name)| [mode.as_bytes(), b" ", name, b"\0", &[7; 20]].concat()).collect()
}

#[test]
fn a_commit_is_its_tree_and_its_parents() {
    let odd = text(&["tree ID\nparent ID\nparent ID\nauthor nobody\n", "committer X\0 <> -5 +0000\n\nm"]);
    let parsed = commit(&odd).unwrap();
    assert_eq!((parsed.tree.to_string(), parsed.parents.len(), parsed.time), (ID.to_owned(), 2, -5));
    assert_eq!(links(ObjectType::Commit, &odd).unwrap().len(), 3);
    assert_eq!(commit(&text(&["tree ID\n\n"])).unwrap().parents, []);
    assert!(commit(ID.replace('0', "a").to_uppercase().as_bytes()).is_err());
    let capital = "tree ABCDEFabcdefABCDEFabcdefABCDEFabcdefABCD\n\n";
    assert!(commit(capital.as_bytes()).is_ok(), "git reads capital letters");
    for (lines, id) in [
        (&["author ID\n"][..], "missingTree"),
        (&["tree ID"], "missingTree"),
        (&["tree ID \n"], "missingTree"),
        (&["tree ", &"x".repeat(40), "\n\n"], "badTreeSha1"),
        (&["tree ", &"0".repeat(40), "\n\n"], "badTreeSha1"),
        (&["tree ID\nparent ", &"x".repeat(40), "\n\n"], "badParentSha1"),
        (&["tree ID\nparent ID\nparent ID ID\n"], "badParentSha1"),
    ] {
        assert_eq!(id_of(links(ObjectType::Commit, &text(lines))), id, "{lines:?}");
    }
}

#[test]
fn the_time_is_the_committers_or_nothing() {
    let time = |people: &str| commit(format!("tree {ID}\n{people}\n\n").as_bytes()).unwrap().time;
    assert_eq!(time("author A <a> 1 +0000\ncommitter C <c> 17 +0000"), 17);
    assert_eq!(time("author A <a> 1 +0000\ncommitter C <c>17 +0000"), 17);
    for nothing in
        ["committer C <c> 17 +0000", "author A\ncommitter C", "author A\ncommitter C <c> 99999999999999999999"]
    {
        assert_eq!(time(nothing), 0, "{nothing}");
    }
}

#[test]
fn a_tag_is_its_target() {
    for (lines, kind) in [
        (&["object ID\ntype commit\ntag v1\n\nm"][..], ObjectType::Commit),
        (&["object ID\ntype blob\ntag x\n"], ObjectType::Blob),
        (&["object ID\ntype tag\ntag \ntagger nobody"], ObjectType::Tag),
        (&["object ID\ntype tree\0ish\ntag v1\n"], ObjectType::Tree),
    ] {
        assert_eq!(links(ObjectType::Tag, &text(lines)).unwrap()[0].1, kind, "{lines:?}");
    }
    for (lines, id) in [
        (&["type commit\nobject ID\ntag v1\n"][..], "missingObject"),
        (&["object ", &"x".repeat(40), "\ntype commit\ntag v1\n"], "badObjectSha1"),
        (&["object ID\nkind commit\ntag v1\n\n\n"], "missingTypeEntry"),
        (&["object ID\ntype commit and no end at all"], "missingType"),
        (&["object ID\ntype comet\ntag v1\n"], "badType"),
        (&["object ID\ntype commit\ntagger nobody at all\n"], "missingTagEntry"),
        (&["object ID\ntype commit\ntag and no end"], "missingTag"),
        (&["object ID\ntype blob\ntag \n"], "missingTagEntry"),
    ] {
        assert_eq!(id_of(links(ObjectType::Tag, &text(lines))), id, "{lines:?}");
    }
}

#[test]
fn a_tree_is_its_entries_whatever_their_names_order_and_modes() {
    let odd = [
        ("100664", &b"b"[..]),
        ("100666", b"a"),
        ("0100644", b"a"),
        ("40000", b".git"),
        ("040755", b".."),
        ("120777", b"x/y"),
        ("160000", b"\xff"),
        ("10000", b"pipe"),
    ];
    let content = tree(&odd);
    let kinds: Vec<_> = entries(&content).map(|entry| entry.unwrap().kind).collect();
    let (file, folder) = (Some(ObjectType::Blob), Some(ObjectType::Tree));
    assert_eq!(kinds, [file, file, file, folder, folder, file, None, None]);
    assert_eq!(links(ObjectType::Tree, &content).unwrap().len(), 6);
    assert_eq!(links(ObjectType::Tree, b"").unwrap(), []);
    let mut null = tree(&[("160000", b"sub")]);
    let at = null.len() - 20;
    null[at..].fill(0);
    assert!(links(ObjectType::Tree, &null).is_ok(), "a submodule's commit is in another repository");
    null[..6].copy_from_slice(b"100644");
    assert_eq!(id_of(links(ObjectType::Tree, &null)), "nullSha1");
    for (mode, name, id) in [("100644", &b""[..], "emptyName"), ("", b"a", "badTree"), ("10064x", b"a", "badTree")] {
        assert_eq!(id_of(links(ObjectType::Tree, &tree(&[(mode, name)]))), id);
    }
    assert_eq!(id_of(links(ObjectType::Tree, &content[..content.len() - 1])), "badTree");
}
