"""The short forms of the crash and power-cut tests (crash.py; make test-crash runs the long ones)."""
import os
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))


def crash(*argv):
    p = subprocess.run(["/usr/bin/python3", os.path.join(HERE, "crash.py")] + list(argv),
                       capture_output=True, text=True, timeout=115)
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
