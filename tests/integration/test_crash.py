"""The short forms of the crash and power-cut tests (crash.py; make test-crash runs the long ones)."""
import os
import subprocess

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))

# What they do is bounded by counts; how long that takes depends on the machine and on who else is at work there.
LIMIT_S = 600
pytestmark = pytest.mark.timeout(LIMIT_S + 30)


def crash(*argv):
    p = subprocess.run(["/usr/bin/python3", os.path.join(HERE, "crash.py")] + list(argv),
                       capture_output=True, text=True, timeout=LIMIT_S)
    print(p.stdout[-6000:], p.stderr[-2000:])
    assert p.returncode == 0
    return p.stdout


def test_kill_any_process():
    crash("--only", "crash")


def test_power_cut():
    crash("--only", "power")


def test_power_cut_is_noticed_without_fsync():
    """With synchronous=OFF messages are lost: the test must find that."""
    crash("--only", "detector")
