#!/usr/bin/python3
"""Do our objects use only what glibc 2.3.4 (RHEL AS 4) had?  as4_symbols.py OBJECT...

This machine's C library still exports every old version of a symbol, so a name "existed then" when
it has any version up to GLIBC_2.3.4.  What the C library does not have must come from one of the
libraries that we link, or from the compiler's own.
"""
import glob
import os
import re
import subprocess
import sys

import csource

LIMIT = (2, 3, 4)
GLIBC = ["libc.so.6", "libpthread.so.0", "libm.so.6", "libdl.so.2", "librt.so.1",
         "ld-linux-x86-64.so.2"]
PACKAGES = ["openssl", "expat", "libsasl2", "libidn2", "libcares", "libconfuse", "jansson",
            "sqlite3"]

# Names that today's headers make of older ones.
ALIAS = {
    "stat": "__xstat", "fstat": "__fxstat", "lstat": "__lxstat", "mknod": "__xmknod",
    "fcntl64": "fcntl",
    "__isoc99_scanf": "scanf", "__isoc99_sscanf": "sscanf", "__isoc99_fscanf": "fscanf",
    "__isoc99_vsscanf": "vsscanf",
}
# Ours by the linker or the compiler.
LINKER = re.compile(r"_GLOBAL_OFFSET_TABLE_|__dso_handle|_DYNAMIC|__(start|stop)_\w+|_?end|_?edata|"
                    r"__(udiv|umod|div|mod|mul|popcount|clz|ctz|bswap)\w*[sdt]i\w*")


def nm(*argv):
    out = subprocess.run(("nm",) + argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         check=True, text=True).stdout
    return out.splitlines()


def library(name):
    for folder in ("/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib"):
        if os.path.exists(os.path.join(folder, name)):
            return os.path.join(folder, name)
    sys.exit("as4_symbols: no " + name)


def version(text):
    return tuple(int(x) for x in re.findall(r"\d+", text))


def glibc_names():
    """name -> its oldest version"""
    oldest = {}
    for name in GLIBC:
        for line in nm("-D", "--defined-only", "--with-symbol-versions", library(name)):
            m = re.search(r" (\w+)@@?(GLIBC_[\d.]+)$", line)
            if m:
                old = version(m.group(2))
                oldest[m.group(1)] = min(old, oldest.get(m.group(1), old))
    return oldest


def library_names():
    """What the libraries that we link define."""
    flags = subprocess.run(["pkg-config", "--libs"] + PACKAGES, stdout=subprocess.PIPE, check=True,
                           text=True).stdout.split() + ["-lunistring"]
    names = set()
    for flag in flags:
        if flag.startswith("-l"):
            for path in glob.glob("/usr/lib/x86_64-linux-gnu/lib%s.so" % flag[2:]) + \
                    glob.glob("/usr/lib64/lib%s.so" % flag[2:]):
                names.update(line.split()[-1].split("@")[0]
                             for line in nm("-D", "--defined-only", path))
    return names


def check(objects):
    defined, used = set(), {}
    for path in objects:
        defined.update(line.split()[-1] for line in nm("--defined-only", "-g", path)
                       if len(line.split()) >= 3)
        for line in nm("-u", path):
            used.setdefault(line.split()[-1], []).append(path)
    glibc, linked = glibc_names(), library_names()
    newer, unknown = [], []
    for name, paths in sorted(used.items()):
        if name in defined or LINKER.fullmatch(name):
            continue
        old = glibc.get(ALIAS.get(name, name))
        if old is None and name not in linked:
            unknown.append("%s in %s: in no library that we know" % (name, paths[0]))
        elif old is not None and old > LIMIT:
            newer.append("%s in %s: since glibc %s" % (name, ", ".join(paths),
                                                       ".".join(map(str, old))))
    print("# %d names used, %d objects" % (len(used), len(objects)))
    return newer, unknown


if __name__ == "__main__":
    tap = csource.Tap()
    too_new, lost = check(sys.argv[1:])
    tap.rule("no symbol newer than GLIBC_2.3.4", too_new)
    tap.rule("every symbol has a known origin", lost)
    tap.done()
