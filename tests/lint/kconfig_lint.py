#!/usr/bin/python3
"""The Kconfig files and the defconfigs, with kconfiglib: a warning is an error."""
import glob
import os
import re
import sys

import csource

os.environ.update(srctree=csource.TOP, KCONFIG_WARN_UNDEF="y", KCONFIG_WARN_UNDEF_ASSIGN="y")
try:
    import kconfiglib
except ImportError:
    sys.exit("kconfig_lint: python3-kconfiglib is missing: make deps")

tap = csource.Tap()
os.chdir(csource.TOP)
conf = kconfiglib.Kconfig("Kconfig", warn_to_stderr=False)
tap.rule("no warning in the Kconfig files", list(conf.warnings))


def at(node):
    return "%s:%d" % (node.filename, node.linenr)


helpless, selects = [], []
for node in conf.node_iter():
    item = node.item
    if isinstance(item, (kconfiglib.Symbol, kconfiglib.Choice)):
        if not node.help:
            helpless.append("%s: %s has no help" % (at(node), item.name or "choice"))
    if isinstance(item, kconfiglib.Symbol):
        for target, _cond, *_ in node.selects:
            if any(n.prompt for n in target.nodes):
                selects.append("%s: selects %s, which has a prompt" % (at(node), target.name))
tap.rule("every option has help", helpless)
tap.rule("select only for symbols without a prompt", selects)

known = {s.name for s in conf.unique_defined_syms}
strangers = []
paths = csource.files(ends=(".c", ".h", "Kbuild")) + csource.files("tests", ends=("Kbuild",)) + \
    ["Kbuild", "Makefile"]
for path in paths:
    lines = csource.code(path) if path.endswith((".c", ".h")) else csource.text(path).split("\n")
    for number, line in enumerate(lines, 1):
        # In C a condition (appliance/config has enumerators of that prefix), elsewhere no comment.
        if path.endswith((".c", ".h")):
            wanted = re.match(r"\s*#\s*(if|ifdef|ifndef|elif)\b", line)
        else:
            wanted = not line.lstrip().startswith("#")
        if wanted:
            for name in re.findall(r"\bCONFIG_([A-Z][A-Z0-9_]*)\b", line):
                if name not in known:
                    strangers.append("%s:%d: CONFIG_%s is in no Kconfig" % (path, number, name))
tap.rule("every CONFIG_ name exists", strangers)

defconfigs = sorted(glob.glob("appliance/configs/*_defconfig"))
tap.rule("there are defconfigs", [] if defconfigs else ["none in appliance/configs"])
for path in defconfigs:
    conf = kconfiglib.Kconfig("Kconfig", warn_to_stderr=False)
    conf.load_config(path)
    wrong = list(conf.warnings)
    wrong += ["%s: %s=%s has no effect" % (path, s.name, kconfiglib.TRI_TO_STR[s.user_value])
              for s in conf.unique_defined_syms
              if s.user_value is not None and s.user_value != s.tri_value and not s.choice]
    tap.rule(os.path.basename(path), wrong)
tap.done()
