"""Write the build context that repo2docker would give to its engine.

Usage: repo2docker.py REPOSITORY DIRECTORY
"""

import os
import sys
import tarfile

from repo2docker.app import Repo2Docker


class Engine:
    """Takes the place of Docker: keeps what it is told to build."""

    def __init__(self, into):
        self.into = into

    def build(self, fileobj=None, **_):
        with tarfile.open(fileobj=fileobj) as context:
            context.extractall(self.into)
        return []


def main(repository, into):
    app = Repo2Docker()
    os.chdir(repository)
    found = [pack for pack in (kind(app.base_image) for kind in app.buildpacks) if pack.detect()]
    pack = found[0] if found else app.default_buildpack(app.base_image)
    pack.platform = app.platform
    args = {"NB_USER": "jovyan", "NB_UID": "1000"}
    for line in pack.build(Engine(into), "bench", 0, args, [], {}):
        print(line)


main(sys.argv[1], os.path.abspath(sys.argv[2]))
