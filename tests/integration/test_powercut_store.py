"""The power-cut test of the store: a program stores mail and says what was answered; it is killed at random, all
that it wrote and did not sync is discarded (tests/peers/powercut_preload.c), and what was answered must be there.

POWERCUT_ROUNDS: kills per test (default 6). SEED: when they come."""
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

PEERS = os.path.join(os.environ.get("BUILD", "build"), "tests", "peers")
ROUNDS = int(os.environ.get("POWERCUT_ROUNDS") or 6)
SEED = int(os.environ.get("SEED") or time.time_ns() % 1000000)


def peer(name):
    path = os.path.abspath(os.path.join(PEERS, name))
    assert os.path.exists(path), path + " was not built"
    return path


class Disk:
    """A folder whose unsynced writes are lost when power() is cut."""

    def __init__(self, path, entries="strict"):
        self.dir, self.log = str(path / "disk"), str(path / "log")
        os.mkdir(self.dir)
        os.mkdir(self.log)
        self.env = {**os.environ, "TANDEM_POWERCUT_DIR": self.dir, "TANDEM_POWERCUT_LOG": self.log,
                    "TANDEM_POWERCUT_ENTRIES": entries, "LD_PRELOAD": peer("powercut_preload.so")}

    def path(self, name):
        return os.path.join(self.dir, name)

    def cut(self, torn=None):
        argv = [peer("powercut_restore"), self.dir, self.log]
        if torn is not None:
            argv += ["--torn", str(torn)]
        return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def write_and_kill(disk, seconds, *options):
    """Ids that were answered before the kill."""
    proc = subprocess.Popen([peer("powercut_writer"), "put", disk.path("s.db"), *options],
                            stdout=subprocess.PIPE, env=disk.env)
    assert proc.stdout.readline() == b"0\n", "the writer did not start"
    killer = threading.Timer(seconds, lambda: os.kill(proc.pid, signal.SIGKILL))
    killer.start()
    out = proc.stdout.read()
    assert proc.wait() == -signal.SIGKILL
    killer.join()
    return {int(line) for line in out.split(b"\n")[:-1]}    # the last line may be cut


def stored(disk):
    """{id: (first, n)} of the rows, and the number of duplicate marks."""
    out = subprocess.run([peer("powercut_writer"), "list", disk.path("s.db")], check=True,
                         stdout=subprocess.PIPE, text=True).stdout.splitlines()
    rows = {}
    for line in out[:-1]:
        number, first, n = map(int, line.split())
        rows[number] = first, n
    return rows, int(out[-1].split()[1])


def check(rows, marks):
    for number, (first, n) in rows.items():
        assert all(k in rows for k in range(first, first + n)), \
            "of the group of %d only a part is there" % number
    assert marks == len(rows), "every row has its duplicate mark, and there is no mark without row"


@pytest.mark.parametrize("torn", [False, True])
def test_nothing_answered_is_lost(tmp_path, torn):
    rnd = random.Random(SEED)
    print("SEED=%d" % SEED)
    disk, answered = Disk(tmp_path), set()
    for number in range(ROUNDS):
        answered |= write_and_kill(disk, rnd.uniform(0.0, 0.8))
        print(disk.cut(torn=SEED + number if torn else None))
        rows, marks = stored(disk)
        check(rows, marks)
        lost = answered - set(rows)
        assert not lost, "%d of %d answered messages lost" % (len(lost), len(answered))
    assert len(answered) > 100


def test_without_sync_it_is_lost(tmp_path):
    """The test can see a loss: the same with synchronous=OFF."""
    disk = Disk(tmp_path)
    answered = write_and_kill(disk, 0.5, "--sync-off")
    disk.cut()
    rows, _ = stored(disk)
    assert answered - set(rows), "nothing lost without fsync: the power-cut test proves nothing"


# --- the shim itself ------------------------------------------------------------------------------

FILES = """
import os, sys
def put(name, text, flags=os.O_WRONLY | os.O_CREAT, at=0, sync=False):
    fd = os.open(name, flags, 0o600)
    os.pwrite(fd, text, at)
    if sync:
        os.fsync(fd)
    os.close(fd)
def sync_dir():
    fd = os.open(".", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
os.chdir(sys.argv[1])
"""


def run(disk, code):
    subprocess.run([sys.executable, "-c", FILES + code, disk.dir], check=True, env=disk.env)


def contents(disk):
    found = {}
    for name in os.listdir(disk.dir):
        with open(disk.path(name), "rb") as f:
            found[name] = f.read()
    return found


def test_shim_writes(tmp_path):
    disk = Disk(tmp_path)
    with open(disk.path("old"), "wb") as f:
        f.write(b"0123456789" * 20000)
    run(disk, "put('old', b'abc', at=5, sync=True)\n"
              "put('old', b'x' * 150000, at=100)\n"
              "put('old', b'end', at=400000)\n"
              "os.truncate(os.open('old', os.O_RDWR), 50)\n"
              "put('old', b'z', flags=os.O_WRONLY | os.O_TRUNC)\n"
              "os.write(os.open('old', os.O_WRONLY | os.O_APPEND), b'tail')\n")
    assert contents(disk)["old"] == b"ztail"
    disk.cut()
    want = bytearray(b"0123456789" * 20000)
    want[5:8] = b"abc"
    assert contents(disk)["old"] == bytes(want)


@pytest.mark.parametrize("entries, there", [("strict", False), ("file", True)])
def test_shim_new_file(tmp_path, entries, there):
    disk = Disk(tmp_path, entries)
    run(disk, "put('durable', b'a', sync=True)\nsync_dir()\nput('file', b'b', sync=True)\nput('none', b'c')\n")
    disk.cut()
    assert contents(disk) == {"durable": b"a", **({"file": b"b"} if there else {})}


def test_shim_rename_and_unlink(tmp_path):
    disk = Disk(tmp_path)
    run(disk, "for n in 'abcd': put(n, n.encode(), sync=True)\n"
              "sync_dir()\n"
              "os.rename('a', 'b')\n"
              "os.unlink('c')\n"
              "put('c', b'new', sync=True)\n"
              "os.rename('d', 'e')\n")
    assert contents(disk) == {"b": b"a", "c": b"new", "e": b"d"}
    disk.cut()
    assert contents(disk) == {n: n.encode() for n in "abcd"}
    run(disk, "os.rename('a', 'b')\nos.unlink('c')\nsync_dir()\nos.unlink('d')\n")
    disk.cut()
    assert contents(disk) == {"b": b"a", "d": b"d"}


def test_shim_in_children(tmp_path):
    """Followed through fork and exec, also by an inherited descriptor."""
    disk = Disk(tmp_path)
    run(disk, "put('f', b'one', sync=True)\nsync_dir()\n"
              "fd = os.open('f', os.O_WRONLY)\nos.set_inheritable(fd, True)\n"
              "import subprocess\n"
              "subprocess.run([sys.executable, '-c', 'import os; os.pwrite(%d, b\"two\", 0)' % fd],\n"
              "               close_fds=False, check=True)\n")
    assert contents(disk)["f"] == b"two"
    disk.cut()
    assert contents(disk)["f"] == b"one"
