"""Compiles what a step installed, so that no session has to:
compile.py ROOT [DIRECTORY ...]

DIRECTORY is where packages are; without any, those of the Python that runs this.
The standard library counts when it is below ROOT, where ours are; the base has
compiled its own.

A .pyc is kept when it is of the unchecked-hash kind and not older than its
source. Python's own compileall would write all of them anew: it knows only
those that carry the time of their source, and a layer may change times.
"""

import concurrent.futures
import importlib.util
import os
import py_compile
import sys
import sysconfig

UNCHECKED_HASH = 1  # PEP 552: the flags in bytes 4 to 8 of a .pyc
SKIPPED = {"__pycache__", "node_modules"}
SKIPPED_STDLIB = SKIPPED | {"site-packages", "dist-packages", "test", "idlelib", "lib2to3", "turtledemo", "ensurepip"}


def fresh(source, compiled):
    try:
        if os.stat(compiled).st_mtime < os.stat(source).st_mtime:
            return False
        with open(compiled, "rb") as f:
            return int.from_bytes(f.read(8)[4:], "little") == UNCHECKED_HASH
    except OSError:
        return False


def sources(root, skipped):
    for directory, names, files in os.walk(root):
        names[:] = [n for n in names if n not in skipped]
        for name in files:
            if name.endswith(".py"):
                path = os.path.join(directory, name)
                if not fresh(path, importlib.util.cache_from_source(path)):
                    yield path


def compile_one(path):
    try:
        py_compile.compile(path, doraise=True, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    except (py_compile.PyCompileError, OSError, ValueError, RecursionError):
        pass  # templates and code for other Pythons are never imported


def main():
    todo = []
    for name in sys.argv[2:] or {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        todo.extend(sources(name, SKIPPED))
    stdlib = os.path.realpath(sysconfig.get_path("stdlib"))
    if stdlib.startswith(os.path.realpath(sys.argv[1]) + os.sep):
        todo.extend(sources(stdlib, SKIPPED_STDLIB))
    if len(todo) < 100:
        for path in todo:
            compile_one(path)
        return
    with concurrent.futures.ProcessPoolExecutor() as pool:
        for _ in pool.map(compile_one, todo, chunksize=50):
            pass


if __name__ == "__main__":
    main()
