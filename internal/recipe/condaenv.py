"""Makes a conda environment with rattler, a conda implementation that is on PyPI.

  condaenv.py solve --file environment.json [--before DATE] --cache DIR --out FILE
  condaenv.py pin --list FILE --cache DIR --out FILE
  condaenv.py install --list FILE --prefix DIR --cache DIR
  condaenv.py scripts --prefix DIR
  condaenv.py constraints --lock server.txt --prefix DIR --all FILE --installed FILE

`solve` turns wishes into an explicit list: an address and a sha256 for each
package. `pin` adds the hashes that such a list of the author's lacks. `install`
installs exactly a list. `scripts` runs the packages' own post-link scripts.
`constraints` writes what Jupyter must respect when it joins the environment: the
versions that are there, and those of our lock for the rest. What can't be done is
said in the words of the solver, and the program ends with 1.

Lists name packages by their public address. Where the operator has a mirror, only
requests go there: neither its address nor its password gets into a list or layer.
"""

import argparse
import asyncio
import base64
import datetime
import difflib
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.parse


def arguments():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    options = {
        "solve": ["file", "cache", "out"],
        "pin": ["list", "cache", "out"],
        "install": ["list", "prefix", "cache", "needs"],
        "scripts": ["prefix"],
        "constraints": ["lock", "prefix", "all", "installed"],
    }
    for name, paths in options.items():
        command = commands.add_parser(name)
        for option in paths:
            command.add_argument("--" + option, type=pathlib.Path, required=True)
        if name == "solve":
            command.add_argument("--before", type=datetime.datetime.fromisoformat)
    return parser.parse_args()


def say(text):
    print(text, flush=True)


def public():
    """Where channels without an address are for everybody."""
    import rattler

    return rattler.Channel("any").base_url.rstrip("/").removesuffix("any")


def client():
    """Requests go to the operator's mirror, when there is one."""
    import rattler
    from rattler.networking import middleware

    layers = [middleware.RetryMiddleware(3)]
    alias = os.environ.get("CONDA_CHANNEL_ALIAS")
    if alias:
        parts = urllib.parse.urlsplit(alias.rstrip("/") + "/")
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        if parts.username:
            login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            header = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
            layers.append(middleware.AddHeadersMiddleware(lambda host, path: header if host == bare.hostname else None))
        layers.insert(0, middleware.MirrorMiddleware({public(): [bare.geturl()]}))
    return rattler.Client(layers)


def virtual_packages(wanted):
    """What packages may expect of a machine: the C library of the image, and no
    more of the processor and kernel than every machine of the kind has, so that the
    same wishes give the same packages wherever they are solved."""
    import rattler

    def generic(name, version, build):
        return rattler.GenericVirtualPackage(rattler.PackageName(name), rattler.Version(version), rattler.BuildString(build))

    detected = [p.into_generic() for p in rattler.VirtualPackage.detect()]
    out = [p for p in detected if p.name.normalized in ("__unix", "__glibc", "__cuda")]
    out.append(generic("__linux", "5.10", "0"))
    arch = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}.get(str(rattler.Subdir.current()))
    if arch:
        out.append(generic("__archspec", "1", arch))
    if wanted.get("cuda") and not any(p.name.normalized == "__cuda" for p in out):
        out.append(generic("__cuda", wanted["cuda"], "0"))
    return out


def attempts(wanted, before):
    """What to try, the best first, with a word about why it is next."""
    import rattler

    specs, preferred = wanted["specs"], wanted.get("prefer") or []
    priorities = [rattler.ChannelPriority.Disabled]
    if wanted.get("priority") != "disabled":
        priorities.insert(0, rattler.ChannelPriority.Strict)
        if len(wanted["channels"]) == 1 or wanted.get("priority") == "strict":
            priorities.pop()
    for day in [before, None] if before else [None]:
        why = "Nothing fits that was there when the commit was made: taking today's packages." if before and not day else None
        if preferred:
            yield specs + preferred, priorities[0], day, why
            why = f"It can't be solved with {', '.join(preferred)}: trying without."
        for priority in priorities:
            yield specs, priority, day, why
            why = "It can't be solved with the first channel that has a package: trying all channels."


async def solve(args):
    import rattler
    import rattler.exceptions

    wanted = json.loads(args.file.read_text())
    gateway = rattler.Gateway(cache_dir=args.cache / "repodata", client=client())
    told = records = None  # told: what was said of the author's own wishes, not of ours
    for specs, priority, day, why in attempts(wanted, args.before):
        if why:
            say(why)
        try:
            records = await rattler.solve(
                sources=[rattler.Channel(name) for name in wanted["channels"]],
                specs=[match(s) for s in specs],
                constraints=[match(s) for s in wanted.get("constraints") or []],
                gateway=gateway,
                platforms=[rattler.Subdir.current(), "noarch"],
                virtual_packages=virtual_packages(wanted),
                channel_priority=priority,
                exclude_newer=day,
                timestamp_policy="allow-missing",
            )
            break
        except rattler.exceptions.SolverError as err:
            if day is None and (told is None or specs == wanted["specs"] and priority == rattler.ChannelPriority.Strict):
                told = err
    if records is None:
        await missing(wanted, gateway, told)
        raise told
    undated = sorted(r.name.normalized for r in records if r.timestamp is None and r.indexed_timestamp is None)
    if day and undated:
        some = ", ".join(undated[:5]) + (", …" if len(undated) > 5 else "")
        say(f"The channel tells no dates of {len(undated)} packages ({some}): these are today's.")
    lines = []
    for record in ordered(records):
        say(f"{record.name.normalized} {record.version} {record.build}")
        digest = record.sha256 or record.md5
        lines.append(record.url + (f"#{digest.hex()}" if digest else ""))
    write(args.out, lines)


def ordered(records):
    """What a package needs comes before it."""
    import rattler

    places = {r.name.normalized: n for n, r in enumerate(rattler.PackageRecord.sort_topologically(records))}
    return sorted(records, key=lambda r: places[r.name.normalized])


def match(text):
    import rattler

    try:
        return rattler.MatchSpec(text)
    except Exception as err:
        raise ValueError(f"invalid match spec {text}: {err}") from err


async def missing(wanted, gateway, err):
    """What there is of a package, or like it, that can't be had as it was asked for."""
    import rattler

    found = re.search(r"No candidates were found for ([A-Za-z0-9._-]+)", str(err))
    if not found:
        return
    name = found.group(1)
    where = {"sources": [rattler.Channel(c) for c in wanted["channels"]], "platforms": [rattler.Subdir.current(), "noarch"]}
    answers = await gateway.query(specs=[rattler.MatchSpec(name)], recursive=False, **where)
    versions = sorted({r.version for answer in answers for r in answer if r.name.normalized == name})
    if versions:
        some = ", ".join(str(v) for v in versions[-6:])
        raise ValueError(f"no version of {name} fits: the channels have {some}")
    near = difflib.get_close_matches(name, [n.normalized for n in await gateway.names(**where)], n=3, cutoff=0.75)
    raise ValueError(f"there is no package {name}" + (f"; its name is like {', '.join(near)}" if near else f" in {', '.join(wanted['channels'])}"))


def write(path, lines):
    import rattler

    path.write_text("\n".join([f"# platform: {rattler.Subdir.current()}", "@EXPLICIT", *lines]) + "\n")


def entries(path):
    """The packages of an explicit list: address, hash or None."""
    for line in path.read_text().splitlines():
        if "://" in line and not line.startswith("#"):
            url, _, digest = line.strip().partition("#")
            yield url, bytes.fromhex(digest.removeprefix("sha256:").removeprefix("md5:")) or None


def record(url, digest):
    """What is to be known of a package before it is there: its file has the rest."""
    import rattler

    base, _, file = url.rpartition("/")
    channel, _, subdir = base.rpartition("/")
    name, version, build = re.sub(r"\.(conda|tar\.bz2)$", "", file).rsplit("-", 2)
    number = re.search(r"(\d+)$", build)
    hashes = {"sha256" if len(digest) == 32 else "md5": digest} if digest else {}
    package = rattler.PackageRecord(
        name=name, version=version, build=rattler.BuildString(build), build_number=int(number.group()) if number else 0, subdir=subdir, **hashes
    )
    return rattler.RepoDataRecord(package, file, url, channel + "/")


async def pin(args):
    """Looks for hashes in the index of the channel that a package is of."""
    import rattler

    gateway = rattler.Gateway(cache_dir=args.cache / "repodata", client=client())
    found = list(entries(args.list))
    wanted = [record(url, digest) for url, digest in found]
    known = {}
    for channel in sorted({r.channel for r in wanted}):
        names = sorted({r.name.normalized for r in wanted if r.channel == channel})
        answers = await gateway.query(
            sources=[rattler.Channel(channel)], platforms=[rattler.Subdir.current(), "noarch"], specs=[rattler.MatchSpec(n) for n in names], recursive=False
        )
        for answer in answers:
            for package in answer:
                known[package.url] = package
    lines, missing = [], []
    for url, digest in found:
        package = known.get(url)
        if digest is None and (package is None or package.sha256 is None):
            missing.append(url)
        elif digest and package and len(digest) == 16 and package.md5 not in (None, digest):
            raise ValueError(f"{url} is not the package that the list means: its md5 differs")
        elif package is None or package.sha256 is None or (digest and len(digest) == 32):
            lines.append(f"{url}#{digest.hex()}")
        else:
            lines.append(f"{url}#{package.sha256.hex()}")
    if missing:
        raise ValueError(f"No candidates were found for {record(missing[0], None).name.normalized}: {missing[0]} has no hash, and its channel does not list it")
    write(args.out, lines)


async def install(args):
    import rattler

    # Link scripts of packages stay off: the cache is shared, and they may be anybody's.
    await rattler.install(
        records=[record(url, digest) for url, digest in entries(args.list)],
        target_prefix=args.prefix,
        cache_dir=args.cache / "pkgs",
        execute_link_scripts=False,
        show_progress=False,
        client=client(),
    )
    depends = {}
    for path in (args.prefix / "conda-meta").glob("*.json"):
        meta = complete(path)
        depends[meta["name"]] = {need.split()[0] for need in meta.get("depends") or []}
    lines = [f"{name} {need}\n" for name in sorted(depends) for need in sorted(depends[name] & depends.keys())]
    args.needs.write_text("".join(lines))


def complete(path):
    """Adds what the package's own index says, for whoever uses conda in a session;
    where the cache was is nobody's business."""
    meta = json.loads(path.read_text())
    directory = meta.pop("extracted_package_dir", None)
    meta.pop("package_tarball_full_path", None)
    if isinstance(meta.get("link"), dict):
        meta["link"]["source"] = ""
    if directory:
        index = json.loads((pathlib.Path(directory) / "info" / "index.json").read_text())
        for key in ("depends", "constrains", "license", "noarch", "timestamp", "build_number", "arch", "platform"):
            if index.get(key) is not None:
                meta[key] = index[key]
    path.write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n")
    return meta


def scripts(args):
    """Post-link scripts, in an order in which what a package needs comes first."""
    import rattler

    for r in ordered([rattler.PrefixRecord.from_path(p) for p in (args.prefix / "conda-meta").glob("*.json")]):
        name = r.name.normalized
        script = args.prefix / "bin" / f".{name}-post-link.sh"
        if not script.is_file():
            continue
        say(f"Running the post-link script of {name}.")
        env = {
            **os.environ, "PREFIX": str(args.prefix), "ROOT_PREFIX": str(args.prefix), "CONDA_PREFIX": str(args.prefix), "PKG_NAME": name,
            "PKG_VERSION": str(r.version), "PKG_BUILDNUM": str(r.build_number), "PATH": f"{args.prefix}/bin:{os.environ.get('PATH', '')}",
        }
        done = subprocess.run(["/bin/bash", str(script)], env=env, check=False)
        messages = args.prefix / ".messages.txt"
        if messages.exists():
            say(messages.read_text(errors="replace").strip())
            messages.unlink()
        if done.returncode:
            raise RuntimeError(f"The post-link script of {name} failed with status {done.returncode}")


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(prefix):
    """Versions of the Python packages in the environment; runs nothing of it."""
    found = {}
    for info in prefix.glob("lib/python3*/site-packages/*.dist-info"):
        name, dash, version = info.name.removesuffix(".dist-info").rpartition("-")
        if dash and version[:1].isdigit():
            found[canonical(name)] = version
    return found


def constraints(args):
    have = installed(args.prefix)
    pins = [f"{name}=={version}" for name, version in sorted(have.items())]
    args.installed.write_text("\n".join(pins) + "\n")
    for line in args.lock.read_text().splitlines():
        name, equals, _ = line.partition("==")
        if equals and not line[0].isspace() and canonical(name) not in have:
            pins.append(line.rstrip("\\ "))
    args.all.write_text("\n".join(pins) + "\n")


def main():
    args = arguments()
    try:
        if args.command in ("constraints", "scripts"):
            {"constraints": constraints, "scripts": scripts}[args.command](args)
        else:
            asyncio.run({"solve": solve, "pin": pin, "install": install}[args.command](args))
    except Exception as err:  # whatever rattler says is for the author of the file
        print(f"conda: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # rattler's threads may outlive the interpreter and crash it
