#!/usr/bin/python3
"""Shape of the sources (STYLE sections 1, 6, 9 and 11), one rule a test."""
import os
import re

import csource

MAX_LINES = 80
BANNED = ("strcpy strcat strncat sprintf vsprintf strtok atoi atol atof system popen gets alloca "
          "mktemp tmpnam rand srand").split()
CALL = re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(BANNED))

long_ones, banned, conditional, mains, wide = [], [], [], [], []

for path in csource.files():
    lines = csource.code(path)
    for name, first, last in csource.functions(lines):
        if last - first + 1 > MAX_LINES:
            long_ones.append("%s:%d: %s has %d lines" % (path, first, name, last - first + 1))
        for number in range(first, last):
            if re.match(r"\s*#\s*(if|elif).*\bCONFIG_", lines[number - 1]):
                conditional.append("%s:%d: in %s" % (path, number, name))
        if name == "main" and os.path.basename(path) != "main.c":
            mains.append("%s:%d: main() outside a main.c" % (path, first))
    for number, line in enumerate(lines, 1):
        if re.match(r"\s*#\s*pragma\s+GCC\s+poison", line):
            continue
        for word in CALL.findall(line):
            banned.append("%s:%d: %s" % (path, number, word))
    for number, line in enumerate(csource.text(path).split("\n"), 1):
        if len(line.expandtabs(8)) > 100:
            wide.append("%s:%d: %d columns" % (path, number, len(line.expandtabs(8))))

tap = csource.Tap()
tap.rule("no function over %d lines" % MAX_LINES, long_ones)
tap.rule("no banned function", banned)
tap.rule("no #if CONFIG_ inside a function", conditional)
tap.rule("main() is in main.c", mains)
tap.rule("no line over 100 columns", wide)
tap.done()
