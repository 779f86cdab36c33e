"""Works out exact versions of R packages and fetches them, as files only: nothing
of a package is run. Writes a repository like CRAN's, with just these packages,
from which R installs them without a network.

Usage: cran.py WANTED.json OUT CACHE
"""

import concurrent.futures
import gzip
import hashlib
import io
import json
import os
import platform
import re
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request

PUBLIC = "https://packagemanager.posit.co/cran/__linux__/{codename}/{date}"
BIOCONDUCTOR = "https://bioconductor.org/packages"
# What comes with R; the second group comes with R as everybody installs it.
BASE = set("R base compiler datasets graphics grDevices grid methods parallel splines stats stats4 tcltk tools utils".split())
RECOMMENDED = set("KernSmooth MASS Matrix boot class cluster codetools foreign lattice mgcv nlme nnet rpart spatial survival".split())
DEPENDENCIES = ("Depends", "Imports", "LinkingTo")
FIELDS = ("Package", "Version") + DEPENDENCIES + ("NeedsCompilation",)
LARGEST = 1 << 30  # of a package, in bytes


class Failure(Exception):
    """What the author is told."""


class Missing(Exception):
    """The address has no such file."""


def version(text):
    return tuple(int(n) for n in re.findall(r"\d+", text))


def satisfies(have, op, want):
    a, b = version(have), version(want)
    size = max(len(a), len(b))
    a, b = a + (0,) * (size - len(a)), b + (0,) * (size - len(b))
    return {">=": a >= b, ">": a > b, "==": a == b, "<=": a <= b, "<": a < b, "!=": a != b}[op]


def records(text):
    """Yields the records of a file in Debian's control format."""
    record, name = {}, None
    for line in text.splitlines():
        if not line.strip():
            if record:
                yield record
            record, name = {}, None
        elif line[0] in " \t":
            if name:
                record[name] += " " + line.strip()
        else:
            name, _, value = line.partition(":")
            record[name] = value.strip()
    if record:
        yield record


def dependencies(record, fields=DEPENDENCIES):
    for field in fields:
        for part in record.get(field, "").split(","):
            m = re.match(r"\s*([A-Za-z][A-Za-z0-9.]*)\s*(?:\(\s*(>=|>|==|<=|<|!=)\s*([0-9.-]+)\s*\))?", part)
            if m:
                yield m.groups()


class Source:
    """Fetches, with a cache that all repositories share: what is at an address of
    a package's version stays."""

    def __init__(self, wanted, cache):
        release = {}
        with open("/etc/os-release") as f:
            for line in f:
                key, _, value = line.strip().partition("=")
                release[key] = value.strip('"')
        self.codename = release.get("VERSION_CODENAME", "")
        self.cache = cache
        r, machine = wanted["r"], platform.machine()
        r = r if r.count(".") == 2 else r + ".0"
        # By this the package manager knows which binaries fit.
        self.agent = "R/%s R (%s %s-pc-linux-gnu %s linux-gnu)" % (r, r, machine, machine)

    def address(self, template, date):
        return template.replace("{codename}", self.codename).replace("{date}", date or "latest").rstrip("/")

    def open(self, url):
        request = urllib.request.Request(url, headers={"User-Agent": self.agent})
        for attempt in range(3):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    body = answer.read(LARGEST + 1)
                if len(body) > LARGEST:
                    raise Failure("%s is larger than 1 GiB" % url)
                return body
            except urllib.error.HTTPError as e:
                if e.code in (403, 404, 410):
                    raise Missing(url)
                if e.code < 500 or attempt == 2:
                    raise Failure("%s answered %d %s" % (public(url), e.code, e.reason))
            except (urllib.error.URLError, OSError) as e:
                if attempt == 2:
                    raise Failure("%s could not be reached: Network is unreachable (%s)" % (public(url), getattr(e, "reason", e)))
            time.sleep(1 + attempt)

    def package(self, url):
        name = hashlib.sha256((self.agent + self.codename + url).encode()).hexdigest()
        at = os.path.join(self.cache, name)
        if os.path.exists(at):
            with open(at, "rb") as f:
                return f.read()
        body = self.open(url)
        with open(at + "." + str(os.getpid()), "wb") as f:
            f.write(body)
        os.replace(f.name, at)
        return body


def public(url):
    """The address without a password."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def days(date):
    """The day and the six before it: not every day has a snapshot."""
    if not date:
        return ["latest"]
    at = time.mktime(time.strptime(date, "%Y-%m-%d")) + 12 * 3600
    return [time.strftime("%Y-%m-%d", time.localtime(at - 24 * 3600 * n)) for n in range(7)]


def index(source, template, date):
    """The packages of a repository by name, and its address."""
    for day in days(date) if "{date}" in template else [""]:
        at = source.address(template, day)
        for name, unpack in (("PACKAGES.gz", gzip.decompress), ("PACKAGES", bytes)):
            try:
                text = unpack(source.open(at + "/src/contrib/" + name)).decode("utf-8", "replace")
            except Missing:
                continue
            found = {}
            for record in records(text):
                if "Package" in record and "Version" in record:
                    have = found.get(record["Package"])
                    if have is None or version(have["Version"]) < version(record["Version"]):
                        found[record["Package"]] = dict(record, at=at)
            if day and date and day != date:
                print("There is no snapshot of %s: taking the one of %s." % (date, day))
            return found
    raise Failure("%s has no packages of R%s" % (public(source.address(template, date)), " as of " + date if date else ""))


def near(name, names):
    same = [n for n in names if n.lower() == name.lower()]
    if same:
        return same[:1]
    import difflib

    return difflib.get_close_matches(name, names, 3, 0.75)


def resolve(wanted, source, fetched):
    """The wanted packages and all they need, as the index has them."""
    found = {}
    templates = [os.environ.get("BINNACLE_CRAN", PUBLIC)] + wanted.get("extra", [])
    for template in templates:
        for name, record in index(source, template, wanted.get("date", "")).items():
            found.setdefault(name, record)
    queue = [(p["name"], p.get("op"), p.get("version"), None) for p in wanted.get("packages", [])]
    for record in fetched:
        queue += [(name, op, want, record["Package"]) for name, op, want in dependencies(record)]
    done, here = {}, {record["Package"] for record in fetched}
    for name, op, want, by in queue:  # it grows
        if name in BASE or name in here or (name in RECOMMENDED and not op):
            continue
        who = "%s needs %s" % (by, name) if by else name
        record = found.get(name)
        if record is None:
            if name in RECOMMENDED:
                continue
            hint = near(name, found)
            raise Failure("package %s is not available: %s, and CRAN%s has no such package%s" % (
                name, who + " is wanted" if not by else who, " of " + wanted["date"] if wanted.get("date") else "",
                "; did you mean %s?" % " or ".join(hint) if hint else ""))
        if op and not satisfies(record["Version"], op, want):
            raise Failure("package %s is not available in the version wanted: %s (%s %s), and CRAN%s has %s" % (
                name, who, op, want, " of " + wanted["date"] if wanted.get("date") else "", record["Version"]))
        if name not in done:
            done[name] = record
            queue += [(n, o, v, name) for n, o, v in dependencies(record)]
    return list(done.values())


def description(body):
    """The record of a package's archive, and the directory it is in."""
    try:
        with tarfile.open(fileobj=io.BytesIO(body)) as t:
            for member in t:
                parts = member.name.lstrip("./").split("/")
                if len(parts) == 2 and parts[1] == "DESCRIPTION" and member.isfile():
                    return next(records(t.extractfile(member).read().decode("utf-8", "replace")), {})
    except (tarfile.TarError, EOFError, OSError) as e:
        raise Failure("what was fetched is no package: %s" % e)
    raise Failure("what was fetched is no package of R: it has no DESCRIPTION")


def repack(body, subdir, extra):
    """The archive of a forge as one of CRAN: in a directory of the package's
    name, with what renv wants to know of where it came from."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(body)) as t:
        members = []
        for member in t.getmembers():
            parts = member.name.lstrip("./").split("/")[1:]
            if subdir:
                inner = subdir.strip("/").split("/")
                if parts[: len(inner)] != inner:
                    continue
                parts = parts[len(inner):]
            if parts and ".." not in parts:
                members.append(("/".join(parts), member))
        top = {name: member for name, member in members}
        if "DESCRIPTION" not in top:
            raise Failure("the repository has no package of R%s" % (" in " + subdir if subdir else ""))
        text = t.extractfile(top["DESCRIPTION"]).read().decode("utf-8", "replace").rstrip("\n") + "\n"
        text += "".join("%s: %s\n" % pair for pair in sorted(extra.items()))
        record = next(records(text), {})
        with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as z, tarfile.open(fileobj=z, mode="w") as into:
            for name, member in sorted(members, key=lambda m: m[0]):
                data = text.encode() if name == "DESCRIPTION" else t.extractfile(member).read() if member.isfile() else None
                member.name, member.mtime, member.uid, member.gid, member.uname, member.gname = record.get("Package", "x") + "/" + name, 0, 0, 0, "", ""
                member.pax_headers = {}
                if data is not None:
                    member.size = len(data)
                if member.isfile() or member.isdir() or member.issym():
                    into.addfile(member, io.BytesIO(data) if data is not None else None)
    return out.getvalue()


def candidates(package, wanted, source):
    """Where a version that a lock names may be, in order."""
    name, number = package["name"], package["version"]
    file = "%s_%s.tar.gz" % (name, number)
    contrib = ["/src/contrib/" + file, "/src/contrib/Archive/%s/%s" % (name, file)]
    if package["source"] == "bioconductor":
        at = os.environ.get("BINNACLE_BIOCONDUCTOR", BIOCONDUCTOR).rstrip("/") + "/" + wanted.get("bioconductor", "release")
        return [at + "/" + part + path for part in ("bioc", "data/annotation", "data/experiment", "workflows") for path in contrib]
    templates = [package["url"]] if package.get("url") else []
    ours = os.environ.get("BINNACLE_CRAN", PUBLIC)
    out = [at.rstrip("/") + path for at in templates for path in contrib]
    for date in [wanted["date"], ""] if wanted.get("date") and "{date}" in ours else [""]:
        out += [source.address(ours, date) + path for path in contrib]
    return out


def fetch_locked(package, wanted, source):
    if package["source"] == "archive":
        try:
            body = source.package(package["url"])
        except Missing:
            raise Failure("package %s is not available: there is nothing at %s" % (package["name"], public(package["url"])))
        return repack(body, package.get("subdir", ""), package.get("remote", {}))
    for url in candidates(package, wanted, source):
        try:
            return source.package(url)
        except Missing:
            continue
    raise Failure("package %s is not available: no repository has its version %s" % (package["name"], package["version"]))


def main(wanted_file, out, cache):
    with open(wanted_file) as f:
        wanted = json.load(f)
    os.makedirs(cache, exist_ok=True)
    source = Source(wanted, cache)
    bodies = []
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        bodies += pool.map(lambda p: fetch_locked(p, wanted, source), wanted.get("locked", []))
        fetched = [description(b) for b in bodies]
        for package, record in zip(wanted.get("locked", []), fetched):
            if package.get("version") and version(record.get("Version", "")) != version(package["version"]):
                raise Failure("package %s is not available in the version wanted: %s is locked, and %s was found" % (
                    package["name"], package["version"], record.get("Version")))
        if wanted.get("resolve"):
            loose = resolve(wanted, source, fetched)
            def get(record):
                path = record.get("Path", "")
                file = "%s_%s.tar.gz" % (record["Package"], record["Version"])
                try:
                    return source.package("%s/src/contrib/%s%s" % (record["at"], path + "/" if path else "", file))
                except Missing:
                    raise Failure("package %s is not available: the index has it, and its file is not there" % record["Package"])
            bodies += pool.map(get, loose)
    contrib = os.path.join(out, "src", "contrib")
    os.makedirs(contrib, exist_ok=True)
    packages = [(description(body), body) for body in bodies]
    names = {record.get("Package") for record, _ in packages}
    lines = []
    for record, body in sorted(packages, key=lambda p: p[0].get("Package", "").encode()):
        name, number = record.get("Package", ""), record.get("Version", "")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9.]*", name) or not re.fullmatch(r"[0-9]+([.-][0-9]+)*", number):
            raise Failure("what was fetched is no package of R: it is called %r %r" % (name, number))
        with open(os.path.join(contrib, "%s_%s.tar.gz" % (name, number)), "wb") as f:
            f.write(body)
        for field in FIELDS:
            value = record.get(field)
            if field in DEPENDENCIES:  # only what decides the order
                value = ", ".join(sorted({n for n, _, _ in dependencies(record, (field,)) if n in names and n != name}))
            if value:
                lines.append("%s: %s" % (field, value))
        lines += ["SHA256: " + hashlib.sha256(body).hexdigest(), ""]
        print("%s %s" % (name, number))
    with open(os.path.join(contrib, "PACKAGES"), "w") as f:
        f.write("\n".join(lines))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Failure as e:
        sys.exit("cran: %s." % e)
