#!/usr/bin/python3
"""Who may include whom (STYLE section 1): includes go downwards only.

Called by lint_includes.py; `tests/lint/include_graph.py --dot` draws the graph of folders.
"""
import os
import re
import sys

import csource

# A folder sees itself and what is below its level.  Folders of one level do not see each other,
# unless SIBLINGS says so.
LEVELS = [
    ["appliance/base"],
    ["appliance/loop", "appliance/fsm"],
    ["appliance/bus"],
    ["appliance/store", "appliance/config", "hal"],
    ["appliance/child"],
    # JIDs, XML and stanzas: the language of the component stream, on which xmpp and translators meet.
    ["xmpp/stream"],
    ["xmpp", "translators"],
    ["appliance/supervisor", "appliance/console", "appliance/ctl", "appliance/monitor"],
]
LEVEL = {unit: level for level, units in enumerate(LEVELS) for unit in units}
SIBLINGS = LEVELS[-1]

# Parts inside a unit whose order matters: the left one never sees the right ones.
INSIDE = [
    ("translators/common", ["translators/sms", "translators/voice", "translators/msn"]),
    ("xmpp/services", ["xmpp/access", "xmpp/core"]),
    ("translators/sms", ["translators/voice", "translators/msn"]),
    ("translators/voice", ["translators/sms", "translators/msn"]),
    ("translators/msn", ["translators/sms", "translators/voice"]),
]

# Headers of the system that only some folders may see.
ONLY = [
    (r"sqlite3\.h", ["appliance/store/sqlite"]),
    (r"(mysql|mariadb)(/|\.h)", ["appliance/store/mysql"]),
    (r"sys/(epoll|eventfd)\.h", ["appliance/loop"]),
    (r"openssl/(ssl|bio|tls1|x509)\w*\.h", ["appliance/loop"]),
    (r"ares\w*\.h", ["appliance/loop"]),
    (r"confuse\.h", ["appliance/config"]),
    (r"expat\w*\.h", ["xmpp/stream", "translators/common"]),
    (r"termios\.h|sys/ioctl\.h", ["hal", "appliance/loop", "appliance/console", "appliance/ctl"]),
]
THIRD_PARTY = re.compile(r"(openssl/|sasl/|uni(case|ctype|norm|str|types)\.h|idn2|ares|confuse|jansson|"
                         r"expat|sqlite3|mysql|mariadb)")


def unit_of(path):
    for unit in LEVEL:
        if path.startswith(unit + "/"):
            return unit
    return None


def inside(path, folders):
    return any(path.startswith(folder + "/") for folder in folders)


def includes(path):
    """(line number, "<" or '"', header)"""
    for number, line in enumerate(csource.code(path), 1):
        m = re.match(r'\s*#\s*include\s*([<"])([^">]+)[">]', line)
        if m:
            yield number, m.group(1), m.group(2)


def check_ours(path, header):
    """What is wrong with #include "header" in path, or None."""
    if header.startswith("generated/"):
        return None
    if not os.path.exists(os.path.join(csource.TOP, header)):
        return "no such file from the top of the tree"
    mine, theirs = unit_of(path), unit_of(header)
    if theirs is None:
        return "outside the product's folders"
    if mine != theirs:
        if LEVEL[mine] == LEVEL[theirs] and not (mine in SIBLINGS and theirs in SIBLINGS):
            return "%s and %s do not see each other" % (mine, theirs)
        if LEVEL[mine] < LEVEL[theirs]:
            return "%s is above %s" % (theirs, mine)
    for low, highs in INSIDE:
        if inside(path, [low]) and inside(header, highs):
            return "%s is above %s" % (os.path.dirname(header), low)
    # An engine is behind its interface: nobody but the folder above reaches into it.
    for engine in ("appliance/store/sqlite", "appliance/store/mysql"):
        if inside(header, [engine]) and not inside(path, ["appliance/store"]):
            return "%s is behind store.h" % engine
    return None


def check_system(path, header):
    for pattern, folders in ONLY:
        if re.fullmatch(pattern + r".*", header) and not inside(path, folders):
            return "only for " + ", ".join(folders)
    if inside(path, ["appliance/base"]) and THIRD_PARTY.match(header):
        return "base stands on libc alone"
    return None


def problems():
    ours, system, lost = [], [], []
    for path in csource.files():
        if unit_of(path) is None:
            lost.append("%s: in no folder that STYLE section 1 names" % path)
            continue
        for number, kind, header in includes(path):
            wrong = check_ours(path, header) if kind == '"' else check_system(path, header)
            if wrong:
                (ours if kind == '"' else system).append(
                    "%s:%d: %s: %s" % (path, number, header, wrong))
    return ours, system, lost


def dot():
    edges = set()
    for path in csource.files():
        for _number, kind, header in includes(path):
            source, target = os.path.dirname(path), os.path.dirname(header)
            if kind == '"' and source != target and unit_of(header):
                edges.add((source, target))
    print("digraph includes {\n\trankdir=BT;")
    for source, target in sorted(edges):
        print('\t"%s" -> "%s";' % (source, target))
    print("}")


if __name__ == "__main__" and "--dot" in sys.argv:
    dot()
