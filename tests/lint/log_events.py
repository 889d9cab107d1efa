#!/usr/bin/python3
"""docs/log-events.md: every event that the programs log, with its level and fields (STYLE section 7).

`tests/lint/log_events.py --write` makes the page; lint_log_events.py compares it, so that a new or renamed
event is seen in a change. Event names are what operators' filters hang on: keep them stable.
"""
import os
import re
import sys

import csource

PAGE = "docs/log-events.md"
# log_ev itself, and functions that are given an event's name as their second argument.
CALL = re.compile(r"\b(log_ev|trace_pdu)\s*\(")
FIELD = re.compile(r'\bK([SCIU])\(\s*"([^"]+)"|\b(KE)\(')
LEVELS = ["error", "warn", "notice", "info", "debug"]
HEAD = """# Log events

Made by `make docs` from the sources; do not edit. A line is

    2026-11-24T22:48:19.123Z warn tandem-sms ev=EVENT FIELD=VALUE ... [err="REASON" rule=RULE]

A value with other than plain characters is quoted; what comes from a peer is escaped.

| event | level | fields | source |
|---|---|---|---|
"""


def call_text(text, start):
    """From the opening parenthesis to its match."""
    depth, i, quoted = 0, start, False
    while i < len(text):
        c = text[i]
        if quoted:
            if c == "\\":
                i += 1
            elif c == '"':
                quoted = False
        elif c == '"':
            quoted = True
        elif c == "(":
            depth += 1
        elif c == ")":
            depth -= 1
            if depth == 0:
                return text[start + 1:i]
        i += 1
    return ""


def arguments(call):
    """Level and event parts: up to the first two commas outside parentheses."""
    parts, depth, last = [], 0, 0
    for i, c in enumerate(call):
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0 and len(parts) < 2:
            parts.append(call[last:i])
            last = i + 1
    parts.append(call[last:])
    return (parts + ["", ""])[:3]


def events():
    """{name: (levels, fields in order, sources)} and the calls whose name is no literal."""
    found, strange = {}, []
    for path in csource.files(ends=(".c",)):
        text = re.sub(r"/\*.*?\*/", "", csource.text(path), flags=re.S)
        for m in CALL.finditer(text):
            level, name, fields = arguments(call_text(text, m.end() - 1))
            names = re.findall(r'"([a-z0-9_.-]+)"', name)
            if not names and name.strip() == "event":
                continue  # inside one of those functions
            if m.group(1) == "trace_pdu" and not names:
                continue  # its definition
            if not names:
                strange.append("%s: log_ev(%s" % (path, " ".join((level + "," + name).split())))
                continue
            for n in names:
                levels, keys, sources = found.setdefault(n, (set(), [], set()))
                levels.update(x.lower() for x in re.findall(r"LOG_L_(\w+)", level))
                for f in FIELD.finditer(fields):
                    key = f.group(2) or "err"
                    if key not in keys:
                        keys.append(key)
                sources.add(os.path.dirname(path))
    return found, strange


def page():
    found, strange = events()
    lines = []
    for name in sorted(found):
        levels, keys, sources = found[name]
        lines.append("| %s | %s | %s | %s |\n" % (
            name, ", ".join(sorted(levels, key=LEVELS.index)) or "varies", " ".join(keys),
            ", ".join(sorted(sources))))
    return HEAD + "".join(lines), strange


if __name__ == "__main__" and "--write" in sys.argv:
    with open(os.path.join(csource.TOP, PAGE), "w") as out:
        out.write(page()[0])
