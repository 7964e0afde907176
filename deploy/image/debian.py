"""The files of Debian packages: fetched with apt, compared with the pinned digests, and unpacked."""

import glob
import hashlib
import os
import re
import shutil
import subprocess

from oci import is_program

HERE = os.path.dirname(os.path.abspath(__file__))


class Refused(Exception):
    """The image cannot be built. The text says why, and what to do."""


def architecture():
    """Debian's name of this machine's architecture, which is also OCI's for amd64 and arm64."""
    return subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()


def names():
    """The names in packages.txt."""
    with open(os.path.join(HERE, "packages.txt")) as file:
        return [line.split("#")[0].strip() for line in file if line.split("#")[0].strip()]


def lock_path():
    return os.path.join(HERE, f"packages.{architecture()}.lock")


def locked():
    """The pinned packages: name -> (version, sha256)."""
    try:
        with open(lock_path()) as file:
            rows = [line.split() for line in file if line.strip() and not line.startswith("#")]
    except FileNotFoundError:
        raise Refused(f"{lock_path()} is missing: run `deploy/image/build --lock`, or build with --unpinned")
    return {name: (version, digest) for name, version, digest in rows}


def fetch(cache, pinned):
    """Brings packages into the cache. With `pinned`, exactly those; without, the newest ones that apt knows. Returns
    name -> (version, file)."""
    os.makedirs(cache, exist_ok=True)
    found = {}
    for name in names():
        version, digest = pinned.get(name, (None, None)) if pinned is not None else (_newest(name), None)
        if version is None:
            raise Refused(f"package {name} is in packages.txt and not in the lock: run `deploy/image/build --lock`")
        file = _file(cache, name, version)
        if file is None:
            _apt(["download", f"{name}={version}"], cache, name, version)
            file = _file(cache, name, version)
        with open(file, "rb") as content:
            has = hashlib.sha256(content.read()).hexdigest()
        if digest not in (None, has):
            os.remove(file)
            raise Refused(f"{name} {version} has the digest {has}, and {lock_path()} says {digest}: it was changed")
        found[name] = (version, file, has)
    return found


def _file(cache, name, version):
    files = glob.glob(os.path.join(cache, f"{name}_{version.replace(':', '%3a')}_*.deb"))
    return files[0] if files else None


def _newest(name):
    said = subprocess.run(["apt-cache", "policy", name], check=True, capture_output=True, text=True).stdout
    found = re.search(r"^  Candidate: (\S+)$", said, re.MULTILINE)
    return found.group(1) if found and found.group(1) != "(none)" else None


def _apt(args, cwd, name, version):
    ran = subprocess.run(["apt-get", "-qq", *args], cwd=cwd, capture_output=True, text=True)
    if ran.returncode != 0:
        raise Refused(
            f"{name} {version} cannot be fetched: {ran.stderr.strip()}\n"
            "run `apt-get update`; if Debian has a newer version by now, run `deploy/image/build --lock`"
        )


def write_lock(cache):
    """Pins the newest version of each package."""
    found = fetch(cache, None)
    with open(lock_path(), "w") as file:
        file.write("# Debian packages of the image: name, version, SHA-256. Written by `deploy/image/build --lock`.\n")
        for name, (version, _, digest) in sorted(found.items()):
            file.write(f"{name} {version} {digest}\n")


def unpack(packages, folder):
    """Unpacks all packages into one folder, with /bin, /lib and /lib64 as links, as Debian has them."""
    for name in ("bin", "lib", "lib64", "sbin"):
        os.makedirs(os.path.join(folder, "usr", name), exist_ok=True)
        os.symlink(f"usr/{name}", os.path.join(folder, name))
    for _, file, _ in packages.values():
        # `dpkg-deb -x` would replace the links by folders.
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", file], stdout=subprocess.PIPE) as tar:
            subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", folder], stdin=tar.stdout, check=True)
        if tar.returncode != 0:
            raise Refused(f"{file} cannot be unpacked: delete it, and build again")


def take(source, root, path):
    """Copies one file of the unpacked packages into the image, and what a link leads to."""
    origin, target = os.path.join(source, path), os.path.join(root, path)
    if not os.path.lexists(origin):
        raise Refused(f"/{path} is in none of the packages of packages.txt")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.lexists(target):
        return
    shutil.copy2(origin, target, follow_symlinks=False)
    if os.path.islink(origin):
        to = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(origin)))
        take(source, root, to.lstrip("/"))


def take_libraries(source, root):
    """Copies every library that the programs in the image load, and those that they load, and so on. A library that is
    in the image already, such as one of a Java runtime, is not looked for."""
    there = {name for _, _, files in os.walk(root) for name in files if ".so" in name}
    libraries = {}
    for parent in ("usr/lib", "usr/lib64"):
        for folder, _, files in os.walk(os.path.join(source, parent)):
            for name in files:
                if ".so" in name:
                    libraries.setdefault(name, os.path.relpath(os.path.join(folder, name), source))
    seen, waiting = set(), list(_programs(root))
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        needed, loader = _needed(path)
        if loader:
            take(source, root, loader.lstrip("/"))
        for name in needed:
            if name in there:
                continue
            if name not in libraries:
                raise Refused(f"{os.path.relpath(path, root)} loads {name}, which no package of packages.txt has")
            take(source, root, libraries[name])
            waiting.append(os.path.realpath(os.path.join(root, libraries[name])))


def _programs(root):
    for folder, _, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)
            if not os.path.islink(path) and is_program(path):
                yield path


def _needed(path):
    """The names of the libraries that a file loads, and the path of the loader, if it is a program."""
    said = subprocess.run(["readelf", "-Wdl", path], check=True, capture_output=True, text=True).stdout
    loader = re.search(r"program interpreter: (\S+)\]", said)
    return re.findall(r"\(NEEDED\).*\[(.+)\]", said), loader and loader.group(1)
