//! The power-cut rig: ext4 on a loop device over a file, cut with `EXT4_IOC_SHUTDOWN` in its harshest form. Everything
//! that is not in the journal on the disk at that moment is lost, as in a real power cut.
//!
//! Each boot of a machine has an id, by which a sidecar recognises that the power was cut. The rig starts its sidecar
//! in a mount namespace of its own, where each cut gives a new id.
//!
//! That namespace has a copy of every mount. A sidecar of one rig would therefore keep the volume of another rig
//! mounted, shut down, past that rig's power cut. So only one rig exists at a time.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::sync::{Mutex, MutexGuard};

use super::until;

/// Held by the one rig that exists.
static ONE: Mutex<()> = Mutex::const_new(());

/// The size of the volume, in bytes. Its file is sparse.
const SIZE: u64 = 512 << 20;

/// A C program that cuts the power of the file system of a folder: `EXT4_IOC_SHUTDOWN` with the flag NOLOGFLUSH.
const CUT: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
int main(int argc, char **argv) {
  unsigned int nologflush = 2;
  int folder = open(argv[argc - 1], O_RDONLY);
  if (folder < 0 || ioctl(folder, _IOR('X', 125, unsigned int), &nologflush) != 0) { perror("cut"); return 1; }
  return 0;
}
"#;

/// A volume whose power can be cut. It is unmounted when this is dropped.
pub struct Rig {
    folder: PathBuf,
    boots: u64,
    _one: MutexGuard<'static, ()>,
}

impl Rig {
    /// Waits until no other rig exists, then creates the volume below `folder` and mounts it. The sidecar that runs on
    /// it is `binary`.
    ///
    /// # Errors
    /// Why this machine does not allow it.
    pub async fn new(folder: &Path, binary: &Path) -> Result<Self, String> {
        let one = ONE.lock().await;
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        let mut rig = Self { folder: folder.to_owned(), boots: 0, _one: one };
        let image = std::fs::File::create(rig.image()).map_err(|error| error.to_string())?;
        image.set_len(SIZE).map_err(|error| error.to_string())?;
        std::fs::create_dir_all(rig.mounted()).map_err(|error| error.to_string())?;
        std::fs::write(folder.join("cut.c"), CUT).map_err(|error| error.to_string())?;
        run("cc", &[&folder.join("cut"), &folder.join("cut.c")], &["-o"])?;
        run("mkfs.ext4", &[&rig.image()], &["-q", "-F"])?;
        rig.mount()?;
        rig.boot()?;
        let namespace = format!(
            "#!/bin/sh\nexec unshare -m sh -c 'mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"' \
             '{}' '{}' \"$@\"\n",
            rig.boot_id().display(),
            binary.display()
        );
        std::fs::write(rig.program(), namespace).map_err(|error| error.to_string())?;
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(rig.program(), executable).map_err(|error| error.to_string())?;
        run(&rig.program().display().to_string(), &[], &["--version"])?;
        Ok(rig)
    }

    /// The folder of the git volume.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.mounted().join("git")
    }

    /// The program that runs as the sidecar.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.folder.join("lockstep")
    }

    /// Cuts the power. From now on, every access to the volume fails.
    ///
    /// # Panics
    /// If it cannot be cut.
    pub fn cut(&self) {
        run(&self.folder.join("cut").display().to_string(), &[&self.mounted()], &[]).expect("a power cut");
    }

    /// Restores the power: mounts the data that had reached the disk, under a new boot id. Every process that had the
    /// volume open must be dead, or about to die.
    ///
    /// # Panics
    /// If it cannot be mounted.
    pub async fn power_on(&mut self) {
        let last = async || run("umount", &[&self.mounted()], &[]).ok();
        assert!(
            until(last).await.is_some(),
            "a process has the volume open: {:?}",
            run("umount", &[&self.mounted()], &[])
        );
        self.mount().expect("the volume is mounted again");
        self.boot().expect("another boot");
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &[&self.image(), &self.mounted()], &["-o", "loop"])
    }

    fn boot(&mut self) -> Result<(), String> {
        self.boots += 1;
        std::fs::write(self.boot_id(), format!("boot-{}\n", self.boots)).map_err(|error| error.to_string())
    }

    fn image(&self) -> PathBuf {
        self.folder.join("image")
    }

    fn mounted(&self) -> PathBuf {
        self.folder.join("volume")
    }

    fn boot_id(&self) -> PathBuf {
        self.folder.join("boot-id")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // The unmount is lazy, because a sidecar of a failing test may still use the volume.
        let _ = run("umount", &[&self.mounted()], &["-l"]);
    }
}

/// Runs a program that must succeed.
pub(super) fn run(program: &str, paths: &[&Path], options: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(options).args(paths).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {} {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}
