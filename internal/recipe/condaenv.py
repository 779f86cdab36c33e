"""Makes a conda environment with rattler from the channels and specs in a JSON file.

Runs inside a build. Says what it installs; when it can't, says what the solver
said and ends with 1.
"""

import argparse
import asyncio
import json
import os
import pathlib
import sys

import rattler


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--cache", required=True)
    return parser.parse_args()


async def main():
    args = arguments()
    wanted = json.loads(pathlib.Path(args.file).read_text())
    alias = os.environ.get("CONDA_CHANNEL_ALIAS") or "https://conda.anaconda.org/"
    config = rattler.ChannelConfig(channel_alias=alias)
    channels = [rattler.Channel(name, config) for name in wanted["channels"]]
    cache = pathlib.Path(args.cache)
    client = rattler.Client.default_client()
    gateway = rattler.Gateway(cache_dir=cache / "repodata", client=client)
    specs = [rattler.MatchSpec(spec) for spec in wanted["specs"]]
    records = await rattler.solve(
        sources=channels,
        specs=specs,
        gateway=gateway,
        platforms=[rattler.Subdir.current(), "noarch"],
        virtual_packages=rattler.VirtualPackage.detect(),
    )
    for record in sorted(records, key=lambda r: r.name.normalized):
        print(f"{record.name.normalized} {record.version} {record.build}", flush=True)
    await rattler.install(
        records=records,
        target_prefix=args.prefix,
        cache_dir=cache / "pkgs",
        requested_specs=specs,
        show_progress=False,
        client=client,
    )


try:
    asyncio.run(main())
except Exception as err:  # whatever rattler says is for the author of the file
    print(f"conda: {err}", file=sys.stderr)
    sys.exit(1)
