#!/usr/bin/python3
"""Numbered rules (docs/rules/, docs/custody.md) and who cites them (TAP).

A rule id is FAMILY-n, as in CUST-3.  It is written where it begins a row of a table or a paragraph,
or where it is set in bold; it is cited in code, in a machine's rows and in tests.  A citation may
go on with numbers alone ("PDU-1, 2 and 4") or name a range ("TEXT-1 to TEXT-20").
"""
import os
import re

import csource

PAGES = ["docs/custody.md"] + csource.files("docs/rules", ends=(".md",))
SOURCES = csource.PRODUCT + ("tests",)
ENDS = (".c", ".h", ".def", ".py", ".js", ".play", ".pat", ".sh", ".conf")

# What looks like a rule id and is somebody else's name.
FOREIGN = ("XEP SHA UTF UCS BSD CVE ISO JP CESU UNICODE RFC MPEG HKSCS EC CECP ANSI AC LD IS TS "
           "LICENSE MD AES KOI IBM CP EUC GB BIG TIS MACINTOSH UAX X").split() + ["GATE"]   # test_fsm.c's toy

RULE = re.compile(r"(?<![\w.+/-])([A-Z]{2,10})-(\d+)(?!\w|\.\d)")
WRITTEN = re.compile(r"^(?:\| |- \*\*|\*\*|)([A-Z]{2,10}-\d+)(?:\*\*| \||:)|(?<=[.;] )([A-Z]{2,10}-\d+):"
                     r"|\band ([A-Z]{2,10}-\d+):")
# What follows a citation: ", 2", " and 4", " to TEXT-20", "..20".
MORE = re.compile(r"(, | and |/| to |\.\.)(?:([A-Z]{2,10})-)?(\d+)(?!\w|\.\d)")


def written():
    rules = {}
    for page in PAGES:
        for number, line in enumerate(csource.text(page).split("\n"), 1):
            for match in WRITTEN.finditer(line):
                rule = next(x for x in match.groups() if x)
                rules.setdefault(rule, []).append("%s:%d" % (page, number))
    return rules


def cited(text):
    """(rule, offset) of every citation, ranges spelt out."""
    for match in RULE.finditer(text):
        family, first = match.group(1), int(match.group(2))
        if family in FOREIGN:
            continue
        yield "%s-%d" % (family, first), match.start()
        at, last = match.end(), first
        while True:
            more = MORE.match(text, at)
            if not more or more.group(2) not in (None, family):
                break
            number = int(more.group(3))
            if more.group(1) in (" to ", ".."):
                for between in range(last + 1, number):
                    yield "%s-%d" % (family, between), match.start()
            yield "%s-%d" % (family, number), match.start()
            at, last = more.end(), number


def citations():
    found = {}
    for path in csource.files(*SOURCES, ends=ENDS):
        if path.startswith(os.path.join("tests", "lint")):
            continue
        text = csource.text(path)
        for rule, at in cited(text):
            found.setdefault(rule, "%s:%d" % (path, text.count("\n", 0, at) + 1))
    return found


def main():
    rules, where = written(), citations()
    tap = csource.Tap()
    tap.rule("a rule is written once",
             ["%s is written at %s" % (r, ", ".join(at)) for r, at in sorted(rules.items())
              if len(at) > 1])
    tap.rule("every rule that is cited is written",
             ["%s: %s is nowhere in docs/rules/ or docs/custody.md" % (at, r)
              for r, at in sorted(where.items()) if r not in rules])
    tap.rule("every rule is cited by code or a test",
             ["%s: %s is cited nowhere" % (at[0], r) for r, at in sorted(rules.items())
              if r not in where])
    tap.done()


if __name__ == "__main__":
    main()
