"""Compiles what a step installed, so that no session has to:
compile.py ROOT [DIRECTORY ...]

DIRECTORY is where packages are; without any, those of the Python that runs this.
The standard library counts when it is below ROOT, where ours are; the base has
compiled its own.

The same sources give the same bytes, on any machine: what Python writes into a
.pyc depends on what its process compiled before, so every few files, in the order
of their names, have a process of their own. Sets are written in the order of
their hashes, so it runs with PYTHONHASHSEED=0.

A .pyc is kept when it is of the unchecked-hash kind and not older than its
source. Python's own compileall would write all of them anew: it knows only
those that carry the time of their source, and a layer may change times.
"""

import importlib.util
import os
import py_compile
import sys
import sysconfig

UNCHECKED_HASH = 1  # PEP 552: the flags in bytes 4 to 8 of a .pyc
FEW = 100
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
        names[:] = sorted(n for n in names if n not in skipped)
        for name in sorted(files):
            if name.endswith(".py"):
                path = os.path.join(directory, name)
                if not fresh(path, importlib.util.cache_from_source(path)):
                    yield path


def compile_all(paths):
    for path in paths:
        try:
            py_compile.compile(path, doraise=True, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
        except (py_compile.PyCompileError, OSError, ValueError, RecursionError):
            pass  # templates and code for other Pythons are never imported


def in_a_child(paths):
    pid = os.fork()
    if pid == 0:
        try:
            compile_all(paths)
        finally:
            os._exit(0)


def main():
    todo = []
    for name in sorted(sys.argv[2:]) or sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}):
        todo.extend(sources(name, SKIPPED))
    stdlib = os.path.realpath(sysconfig.get_path("stdlib"))
    if stdlib.startswith(os.path.realpath(sys.argv[1]) + os.sep):
        todo.extend(sources(stdlib, SKIPPED_STDLIB))
    busy, most = 0, os.cpu_count() or 1
    for i in range(0, len(todo), FEW):
        if busy == most:
            os.wait()
            busy -= 1
        in_a_child(todo[i:i + FEW])
        busy += 1
    for _ in range(busy):
        os.wait()


if __name__ == "__main__":
    main()
