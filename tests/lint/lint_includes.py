#!/usr/bin/python3
"""The include graph, as tests."""
import csource
import include_graph

tap = csource.Tap()
ours, system, lost = include_graph.problems()
tap.rule("includes go downwards only", ours)
tap.rule("system headers stay in their folders", system)
tap.rule("every source file is in a known folder", lost)
tap.done()
