"""Makes a conda environment with rattler, a conda implementation that is on PyPI.

  condaenv.py install --file environment.json --prefix DIR --cache DIR
  condaenv.py constraints --lock server.txt --prefix DIR --all FILE --installed FILE

`install` solves and installs; when it can't, it says what the solver said and
ends with 1. `constraints` writes what Jupyter must respect when it joins the
environment: the versions that are there, and those of our lock for the rest.
"""

import argparse
import asyncio
import json
import os
import pathlib
import re
import sys


def arguments():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    install = commands.add_parser("install")
    install.add_argument("--file", type=pathlib.Path, required=True)
    install.add_argument("--prefix", type=pathlib.Path, required=True)
    install.add_argument("--cache", type=pathlib.Path, required=True)
    constraints = commands.add_parser("constraints")
    constraints.add_argument("--lock", type=pathlib.Path, required=True)
    constraints.add_argument("--prefix", type=pathlib.Path, required=True)
    constraints.add_argument("--all", type=pathlib.Path, required=True)
    constraints.add_argument("--installed", type=pathlib.Path, required=True)
    return parser.parse_args()


def say(text):
    print(text, flush=True)


def attempts(wanted):
    """What to try, the best first, with a word about why it is next."""
    import rattler

    strict, flexible = rattler.ChannelPriority.Strict, rattler.ChannelPriority.Disabled
    specs, preferred = wanted["specs"], wanted.get("prefer") or []
    if preferred:
        yield specs + preferred, strict, None
        yield specs, strict, f"It can't be solved with {', '.join(preferred)}: trying without."
    else:
        yield specs, strict, None
    if len(wanted["channels"]) > 1:
        yield specs, flexible, "It can't be solved with the first channel that has a package: trying all channels."


def match(spec, config):
    """A spec whose channel, if it names one, is where our configuration says."""
    import rattler

    channel, colons, rest = spec.partition("::")
    if colons and "://" not in channel:
        name, _, subdir = channel.strip().partition("/")
        base = rattler.Channel(name, config).base_url.rstrip("/")
        spec = f"{base}{'/' + subdir if subdir else ''}::{rest}"
    return rattler.MatchSpec(spec)


async def solve(wanted, gateway, config):
    import rattler
    import rattler.exceptions

    told = None  # what was said of the author's own wishes, not of ours
    for specs, priority, why in attempts(wanted):
        if why:
            say(why)
        try:
            records = await rattler.solve(
                sources=[rattler.Channel(name, config) for name in wanted["channels"]],
                specs=[match(s, config) for s in specs],
                gateway=gateway,
                platforms=[rattler.Subdir.current(), "noarch"],
                virtual_packages=rattler.VirtualPackage.detect(),
                channel_priority=priority,
            )
        except rattler.exceptions.SolverError as err:
            if priority == rattler.ChannelPriority.Strict:
                told = err
            continue
        return records
    raise told


async def install(args):
    import rattler

    wanted = json.loads(args.file.read_text())
    alias = os.environ.get("CONDA_CHANNEL_ALIAS") or "https://conda.anaconda.org/"
    config = rattler.ChannelConfig(channel_alias=alias.rstrip("/") + "/")
    client = rattler.Client.default_client()
    gateway = rattler.Gateway(cache_dir=args.cache / "repodata", client=client)
    records = await solve(wanted, gateway, config)
    for record in sorted(records, key=lambda r: r.name.normalized):
        say(f"{record.name.normalized} {record.version} {record.build}")
    # Link scripts of packages stay off: the cache is shared, and they may be anybody's.
    await rattler.install(
        records=records,
        target_prefix=args.prefix,
        cache_dir=args.cache / "pkgs",
        execute_link_scripts=False,
        show_progress=False,
        client=client,
    )


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
    if args.command == "constraints":
        constraints(args)
        return 0
    try:
        asyncio.run(install(args))
    except Exception as err:  # whatever rattler says is for the author of the file
        print(f"conda: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # rattler's threads may outlive the interpreter and crash it
