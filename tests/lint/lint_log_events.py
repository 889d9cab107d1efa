#!/usr/bin/python3
"""docs/log-events.md lists every event that is logged, at the level at which it is (TAP).

A row of the page is | `name` | program | level | meaning | what to do |.  In code an event is a
string in the second argument of log_ev(); where that is a variable, the strings that the same file
passes are found by the note  log event: "name", "name"  beside it.
"""
import re

import csource

PAGE = "docs/log-events.md"
ROW = re.compile(r"^\| `([a-z0-9_.]+)` \| ([^|]*) \| ([a-z, ]+) \|")
NAME = re.compile(r'"([a-z0-9_]+(?:\.[a-z0-9_]+)+)"')
LEVEL = re.compile(r"\bLOG_L_([A-Z]+)\b")
COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|/\*.*?\*/|//[^\n]*', re.S)
NOTE = re.compile(r"log event:((?:\s*\*?\s*\"[a-z0-9_.]+\",?)+)")


def arguments(text, at):
    """The arguments of a call whose parenthesis opened before at."""
    found, depth, start, quoted = [], 0, at, False
    while at < len(text):
        c = text[at]
        if quoted:
            at += c == "\\"
            quoted = c != '"'
        elif c == '"':
            quoted = True
        elif c in "([{":
            depth += 1
        elif c in ")]}" and depth:
            depth -= 1
        elif c == ")" or (c == "," and not depth):
            found.append(text[start:at].strip())
            start = at + 1
            if c == ")":
                return found
        at += 1
    return found


def logged():
    """({event: levels}, calls without a name)"""
    events, nameless = {}, []
    for path in csource.files():
        if path.startswith("appliance/base/log."):
            continue
        whole = csource.text(path)
        notes = re.findall(NAME, " ".join(NOTE.findall(whole)))
        text = COMMENT.sub(lambda m: m.group() if m.group()[0] == '"' else
                           re.sub(r"[^\n]", " ", m.group()), whole)
        for call in re.finditer(r"\blog_ev_?\(", text):
            args = arguments(text, call.end())
            names = NAME.findall(args[1]) or notes
            if not names:
                nameless.append("%s:%d: no event name" % (path, text.count("\n", 0, call.start()) + 1))
            for name in names:
                events.setdefault(name, set()).update(x.lower() for x in LEVEL.findall(args[0]))
    return events, nameless


def listed():
    rows, twice = {}, []
    for number, line in enumerate(csource.text(PAGE).split("\n"), 1):
        match = ROW.match(line)
        if match:
            if match.group(1) in rows:
                twice.append("%s:%d: %s again" % (PAGE, number, match.group(1)))
            rows[match.group(1)] = {x.strip() for x in match.group(3).split(",")}
    return rows, twice


def main():
    (events, nameless), (rows, twice) = logged(), listed()
    tap = csource.Tap()
    tap.rule("every log_ev has a name", nameless)
    tap.rule("every event that is logged is listed",
             ["%s is not in %s" % (e, PAGE) for e in sorted(events) if e not in rows])
    tap.rule("every event that is listed is logged, once in the list",
             twice + ["%s: %s is logged nowhere" % (PAGE, e) for e in sorted(rows)
                      if e not in events])
    tap.rule("levels are those of the code",
             ["%s: %s is logged at %s, the page says %s"
              % (PAGE, e, ", ".join(sorted(events[e])), ", ".join(sorted(rows[e])))
              for e in sorted(rows) if e in events and events[e] != rows[e]])
    tap.done()


if __name__ == "__main__":
    main()
