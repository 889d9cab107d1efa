#!/usr/bin/python3
"""Pages and samples that are made from tables are what the tables say (TAP).

`make docs` makes them anew.
"""
import os
import subprocess
import sys

import csource

BUILD = os.environ.get("BUILD", os.path.join(csource.TOP, "build"))

CHECKS = [
    ("docs/fsm", ["fsm-print", "--check", "docs/fsm"], None),
    ("docs/configuration.md", ["tandemctl", "config", "reference"], "docs/configuration.md"),
    ("docs/tandemctl.md", ["tandemctl", "commands"], "docs/tandemctl.md"),
    ("appliance/config/tandem.conf.sample", ["tandemctl", "config", "sample"],
     "appliance/config/tandem.conf.sample"),
]


def check(argv, path):
    argv = [os.path.join(BUILD, argv[0])] + argv[1:]
    try:
        out = subprocess.run(argv, cwd=csource.TOP, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             timeout=60, check=False)
    except OSError as e:
        return str(e)
    if out.returncode:
        return out.stderr.decode(errors="replace").strip() or "status %d" % out.returncode
    if path is None:
        return None
    try:
        with open(os.path.join(csource.TOP, path), "rb") as f:
            same = f.read() == out.stdout
    except OSError as e:
        return str(e)
    return None if same else "%s is not what the tables say: run make docs" % path


def main():
    failed = 0
    for name, argv, path in CHECKS:
        why = check(argv, path)
        if why:
            failed += 1
            print("not ok - %s\n# %s" % (name, why))
        else:
            print("ok - %s" % name)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
