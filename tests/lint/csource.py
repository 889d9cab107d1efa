"""What the lint programs share: the C files of the tree, their code without comments and strings,
and TAP output.  Imported by tests/lint/*.py."""
import os
import re
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PRODUCT = ("appliance", "xmpp", "translators", "hal")


def files(*roots, ends=(".c", ".h")):
    """Paths from the top, sorted."""
    found = []
    for root in roots or PRODUCT:
        for folder, names, leaves in os.walk(os.path.join(TOP, root)):
            names[:] = [n for n in names if n not in ("node_modules", "__pycache__", "build")]
            found += [os.path.relpath(os.path.join(folder, leaf), TOP)
                      for leaf in leaves if leaf.endswith(ends)]
    return sorted(found)


def text(path):
    with open(os.path.join(TOP, path), errors="replace") as f:
        return f.read()


TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def blank(match):
    """A comment becomes spaces, a string an empty one; line ends stay."""
    token = match.group()
    if token[0] in "\"'":
        return token[0] + " " * (len(token) - 2) + token[-1]
    return re.sub(r"[^\n]", " ", token)


def code(path):
    """The lines of a file without what is in comments and strings; #include lines keep theirs."""
    whole = text(path)
    bare = TOKEN.sub(blank, whole).split("\n")
    for i, line in enumerate(whole.split("\n")):
        if re.match(r"\s*#\s*include\b", bare[i]):
            bare[i] = line
    return bare


def functions(lines):
    """(name, first line, last line) of each function, lines from 1: the braces of a function are
    alone in column 0 (kernel style), those of a table are not."""
    start = None
    for i, line in enumerate(lines):
        if line.rstrip() == "{" and start is None:
            start = i
        elif line.startswith("}") and start is not None:
            head = " ".join(lines[max(0, start - 6):start])
            names = re.findall(r"(\w+)\s*\(", head.split(";")[-1].split("}")[-1])
            yield (names[0] if names else "?"), start + 1, i + 1
            start = None


class Tap:
    """One line a rule; what broke it comes before its line."""

    def __init__(self):
        self.bad = 0

    def rule(self, name, problems):
        for problem in problems:
            print("# " + problem)
        print("%s - %s" % ("not ok" if problems else "ok", name))
        self.bad += bool(problems)

    def done(self):
        sys.exit(1 if self.bad else 0)
