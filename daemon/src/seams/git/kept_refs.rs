//! The names of the refs that hold kept values: a label becomes a name, and the name becomes the label again.

/// Prefix of the refs that hold kept values.
pub(super) const KEEP: &str = "refs/lockstep/keep/";

/// Longest file name that a label becomes, in bytes. Linux allows 255, and git adds `.lock`.
const KEEP_FILE: usize = 200;
/// Separates the folders into which a longer label is split. An encoded label never contains it, so a folder of one
/// label never collides with the file of another.
const KEEP_FOLDER: &str = "+/";

/// Returns the name of the ref that keeps a value: the label, with bytes that are special in ref or file names as
/// `%xx`.
pub(super) fn keep_ref(label: &str) -> String {
    let mut name = String::from(KEEP);
    let mut file = 0;
    for byte in label.bytes() {
        let written = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02x}"),
        };
        if file + written.len() > KEEP_FILE {
            name.push_str(KEEP_FOLDER);
            file = 0;
        }
        file += written.len();
        name.push_str(&written);
    }
    name
}

/// Returns the label of a ref that keeps a value; `None` for a ref that another program put there.
pub(super) fn label_of(name: &str) -> Option<String> {
    let written = name.strip_prefix(KEEP)?.replace(KEEP_FOLDER, "");
    let decoded = percent_encoding::percent_decode_str(&written).decode_utf8().ok()?;
    (keep_ref(&decoded) == name).then(|| decoded.into_owned())
}
