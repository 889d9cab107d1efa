#!/usr/bin/python3
"""docs/log-events.md is what the sources log."""
import difflib

import csource
import log_events

want, strange = log_events.page()
try:
    have = csource.text(log_events.PAGE)
except FileNotFoundError:
    have = ""
changes = [line for line in difflib.unified_diff(have.split("\n"), want.split("\n"), lineterm="", n=0)
           if line[:1] in "+-" and line[:3] not in ("+++", "---")]
if changes:
    changes.append("make docs brings the page up to date")

tap = csource.Tap()
tap.rule("events have literal names", strange)
tap.rule("%s is up to date" % log_events.PAGE, changes)
tap.done()
