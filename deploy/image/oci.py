"""Writes an image as an OCI archive: a tar file that podman, buildah, skopeo and containerd read.

The same files give the same bytes: entries are sorted, owned by root unless said otherwise, and dated by one time.
"""

import datetime
import gzip
import hashlib
import io
import json
import os
import stat
import tarfile


def _blob(media_type, content, extra=None):
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    return {"mediaType": media_type, "digest": digest, "size": len(content), **(extra or {})}, content


def layer(folder, epoch, owners):
    """Packs a folder. `owners` maps a path below it to the user and group id that own it. Returns the packed bytes, and
    the digest of the unpacked ones."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(_below(folder)):
            name = os.path.relpath(path, folder)
            entry = archive.gettarinfo(path, arcname=name)
            # Hard links are stored as files: which of two names comes first must not matter.
            if entry.islnk():
                entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", os.lstat(path).st_size
            entry.uid, entry.gid = owners.get(name, (0, 0))
            entry.uname = entry.gname = ""
            entry.mtime = epoch
            if entry.isreg():
                with open(path, "rb") as file:
                    archive.addfile(entry, file)
            else:
                archive.addfile(entry)
    plain = plain.getvalue()
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=6, mtime=0) as out:
        out.write(plain)
    return packed.getvalue(), "sha256:" + hashlib.sha256(plain).hexdigest()


def _below(folder):
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            yield os.path.join(parent, name)


def archive(path, name, layers, run, epoch, architecture):
    """Writes the archive of an image called `name` from packed layers, the lowest first. `run` is the part `config` of
    its configuration. Returns the digest of its manifest."""
    created = iso(epoch)
    config = {
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [diff for _, diff in layers]},
        "history": [{"created": created, "created_by": "deploy/image/build"} for _ in layers],
    }
    blobs = [_blob("application/vnd.oci.image.layer.v1.tar+gzip", packed) for packed, _ in layers]
    config = _blob("application/vnd.oci.image.config.v1+json", _json(config))
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config[0],
        "layers": [descriptor for descriptor, _ in blobs],
        "annotations": run["Labels"],
    }
    names = {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}
    manifest = _blob("application/vnd.oci.image.manifest.v1+json", _json(manifest), {"annotations": names})
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    files["index.json"] = _json(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest[0]]}
    )
    for descriptor, content in [*blobs, config, manifest]:
        files["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")] = content
    with tarfile.open(path, mode="w", format=tarfile.GNU_FORMAT) as out:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(content), epoch, 0o644
            out.addfile(entry, io.BytesIO(content))
    return manifest[0]["digest"]


def _json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def iso(epoch):
    """A time in the form that labels and SPDX have."""
    return datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def put(root, path, content, mode=0o644):
    """Writes a file of an image."""
    target = os.path.join(root, path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    os.chmod(target, mode)


def is_program(path):
    """Whether a file is one that the kernel runs or loads."""
    with open(path, "rb") as file:
        return stat.S_ISREG(os.stat(path).st_mode) and file.read(4) == b"\x7fELF"
