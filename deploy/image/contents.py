"""The contents of an image: the list in SPDX, and the licences."""

import hashlib
import json
import os
import re
import subprocess

LICENCE_FILE = re.compile(r"^(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE)", re.IGNORECASE)
TARGETS = {"amd64": "x86_64-unknown-linux-gnu", "arm64": "aarch64-unknown-linux-gnu"}


def crates(top, architecture, features):
    """The crates that are compiled into the program: name, version, licence, and the folder with its sources."""
    target = TARGETS[architecture]
    features = [] if features else ["--no-default-features"]
    tree = ["cargo", "tree", "--locked", "--package", "lockstep", *features, "--edges", "normal", "--target", target]
    lines = _run([*tree, "--prefix", "none", "--format", "{p}"], top).splitlines()
    compiled = {tuple(line.split()[:2]) for line in lines if line.strip()}
    found = json.loads(_run(["cargo", "metadata", "--locked", "--format-version", "1"], top))
    for package in sorted(found["packages"], key=lambda package: (package["name"], package["version"])):
        if (package["name"], "v" + package["version"]) in compiled:
            folder = os.path.dirname(package["manifest_path"])
            yield package["name"], package["version"], package["license"] or "NOASSERTION", folder


def _run(command, cwd):
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd).stdout


def third_party(found):
    """The texts of the crates' licences, each text once."""
    users, bare = {}, []
    for name, version, licence, folder in found:
        texts = [os.path.join(folder, file) for file in sorted(os.listdir(folder)) if LICENCE_FILE.match(file)]
        texts = [path for path in texts if os.path.isfile(path)]
        for path in texts:
            with open(path, encoding="utf-8", errors="replace") as file:
                users.setdefault(file.read().strip(), []).append(f"{name} {version} ({licence})")
        if not texts:
            bare.append(f"{name} {version} ({licence})")
    parts = ["Lockstep is made with the crates below. A line of equal signs is between two texts."]
    if bare:
        parts.append("These crates have no file with their licence. It is the one in brackets:\n" + "\n".join(bare))
    for text, names in sorted(users.items(), key=lambda item: item[1]):
        parts.append("\n".join(sorted(set(names))) + "\n\n" + text)
    return ("\n\n" + "=" * 80 + "\n\n").join(parts) + "\n"


def spdx(name, version, created, debian, found, architecture):
    """The list of everything in the image, as an SPDX 2.3 document. `debian` maps a package to version and digest."""
    packages = [_package("lockstep", version, "Apache-2.0", f"pkg:generic/lockstep@{version}")]
    for package, (its_version, _, digest) in sorted(debian.items()):
        purl = f"pkg:deb/debian/{package}@{its_version.replace(':', '%3A')}?arch={architecture}&distro=debian-12"
        entry = _package(package, its_version, "NOASSERTION", purl)
        entry["checksums"] = [{"algorithm": "SHA256", "checksumValue": digest}]
        entry["comment"] = f"Its licence is in /usr/share/doc/{package}/copyright."
        packages.append(entry)
    for crate, its_version, licence, _ in found:
        licence = re.sub(r"\s*/\s*", " OR ", licence)
        packages.append(_package(crate, its_version, licence, f"pkg:cargo/{crate}@{its_version}"))
    content = json.dumps(packages, sort_keys=True).encode()
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        # The namespace must be unique to the content, and must not differ between two builds of it.
        "documentNamespace": f"https://spdx.org/spdxdocs/{name}-{hashlib.sha256(content).hexdigest()}",
        "creationInfo": {"created": created, "creators": ["Tool: deploy/image/build"]},
        "packages": packages,
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": package["SPDXID"],
            }
            for package in packages
        ],
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _package(name, version, licence, purl):
    return {
        "SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", purl),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": licence,
        "copyrightText": "NOASSERTION",
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
        ],
    }
