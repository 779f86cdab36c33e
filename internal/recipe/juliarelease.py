"""Chooses a release of Julia and fetches it, from a place that is laid out as Julia's own.

  juliarelease.py --from URL choose --wanted wanted.json --out julia.json
  juliarelease.py --from URL fetch --release julia.json --to DIR

wanted.json asks for an exact version or for ranges; of these the newest release
that is no pre-release is taken, and with "before" the newest that was there then:
the list has no dates, so the server is asked when a file was put there. julia.json
holds the version, the path below URL, and the SHA-256 from the list.
"""

import argparse
import base64
import datetime
import email.utils
import hashlib
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request

TIMEOUT = 60  # seconds without a byte


class Failure(Exception):
    """Something to say in one line."""


def without_password(url):
    """The address, and the header for the name and password that were in it."""
    parts = urllib.parse.urlsplit(url)
    if "@" not in parts.netloc:
        return url, {}
    login, _, host = parts.netloc.rpartition("@")
    word = base64.b64encode(urllib.parse.unquote(login).encode()).decode()
    return urllib.parse.urlunsplit(parts._replace(netloc=host)), {"Authorization": "Basic " + word}


def get(url, method="GET"):
    url, headers = without_password(url)
    request = urllib.request.Request(url, method=method, headers={"User-Agent": "binnacle", **headers})
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as err:
        raise Failure(f"{url} answered {err.code} {err.reason}") from err
    except (urllib.error.URLError, OSError) as err:
        raise Failure(f"{url} could not be reached: {getattr(err, 'reason', err)}") from err


def number(version):
    return tuple(int(part) for part in version.split("."))


def archive(entry):
    """The tarball of a release for this machine; None when there is none."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    for file in entry.get("files", []):
        wanted = file.get("os") == "linux" and file.get("arch") == machine and file.get("kind") == "archive"
        if wanted and file.get("extension", "tar.gz") == "tar.gz" and re.fullmatch(r"[0-9a-f]{64}", file.get("sha256", "")):
            if "musl" not in file.get("triplet", ""):
                return file
    return None


def path_of(file):
    """Where the tarball is below the address of all releases, whoever serves them."""
    _, found, path = file["url"].partition("/bin/")
    if not found or ".." in path or not re.fullmatch(r"[A-Za-z0-9._/+-]+", path):
        raise Failure(f"the list of releases has a strange address: {file['url']}")
    return path


def published(base, file):
    """When the server got the tarball; None when it does not say."""
    with get(f"{base}/{path_of(file)}", "HEAD") as answer:
        at = answer.headers.get("Last-Modified")
    return email.utils.parsedate_to_datetime(at) if at else None


def choose(base, wanted):
    with get(base + "/versions.json") as answer:
        releases = json.load(answer)
    if exact := wanted.get("exact"):
        if exact not in releases:
            raise Failure(f"there is no release {exact}")
        file = archive(releases[exact])
        if file is None:
            raise Failure(f"release {exact} has no build for this machine ({platform.machine()})")
        return exact, file
    fits = []
    stable = [v for v in releases if re.fullmatch(r"\d+\.\d+\.\d+", v) and releases[v].get("stable", True)]
    for version in sorted(stable, key=number, reverse=True):
        inside = any(number(a) <= number(version) and (not b or number(version) < number(b)) for a, b in wanted["ranges"])
        if inside and (file := archive(releases[version])):
            fits.append((version, file))
    if not fits:
        newest = ", ".join(sorted(stable, key=number, reverse=True)[:5])
        raise Failure(f"no release for this machine fits {wanted['ranges']}; the newest are {newest}")
    if not wanted.get("before"):
        return fits[0]
    before = datetime.datetime.fromisoformat(wanted["before"].replace("Z", "+00:00"))
    for version, file in fits:
        at = published(base, file)
        if at is None or at < before:
            return version, file
    print("No release that fits was there when the commit was made: taking the oldest.")
    return fits[-1]


def fetch(base, release, to):
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile(suffix=".tar.gz") as packed:
        with get(f"{base}/{release['path']}") as answer:
            while block := answer.read(1 << 20):
                digest.update(block)
                packed.write(block)
        packed.flush()
        if digest.hexdigest() != release["sha256"]:
            raise Failure(f"what was downloaded for Julia {release['version']} is not what its SHA-256 says")
        to.mkdir(parents=True, exist_ok=True)
        subprocess.run(["tar", "-xzf", packed.name, "-C", to, "--strip-components=1", "--no-same-owner"], check=True)
    if not os.access(to / "bin/julia", os.X_OK):
        raise Failure(f"the download of Julia {release['version']} has no bin/julia")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--from", dest="base", required=True)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("choose")
    one.add_argument("--wanted", type=pathlib.Path, required=True)
    one.add_argument("--out", type=pathlib.Path, required=True)
    two = commands.add_parser("fetch")
    two.add_argument("--release", type=pathlib.Path, required=True)
    two.add_argument("--to", type=pathlib.Path, required=True)
    args = parser.parse_args()
    base = args.base.rstrip("/")
    try:
        if args.command == "choose":
            version, file = choose(base, json.loads(args.wanted.read_text()))
            print(f"Julia {version}")
            release = {"version": version, "path": path_of(file), "sha256": file["sha256"]}
            args.out.write_text(json.dumps(release, indent=1, sort_keys=True) + "\n")
        else:
            fetch(base, json.loads(args.release.read_text()), args.to)
    except (Failure, ValueError, KeyError, TypeError, subprocess.CalledProcessError) as err:
        print(f"julia: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
