"""The SMS centre tests/peers/smsc.c, and Kannel from Debian, as Python objects."""
import json
import os
import shutil
import subprocess
import tempfile
import threading

from servers import Process, free_ports, listens, wait_for

BUILD = os.environ.get("BUILD") or os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "build")


class Submit:
    """One line of the log."""

    def __init__(self, f):
        self.time_ns, self.conn, self.id, self.source, self.destination = (
            int(f[1]), int(f[2]), f[3], f[4], f[5])
        self.esm, self.dcs, self.registered, self.status = map(int, f[6:10])
        self.data = bytes.fromhex(f[10])

    @property
    def udh(self):
        return self.data[:self.data[0] + 1] if self.esm & 0x40 and self.data else b""

    @property
    def user_data(self):
        return self.data[len(self.udh):]

    @property
    def text(self):
        """GSM characters below are those that ASCII has too; tests of alphabets look at data."""
        return (self.user_data.decode("utf-16-be") if self.dcs & 0x0c == 8
                else self.user_data.decode("latin-1"))


class Smsc:
    def __init__(self, folder=None, port=0, **settings):
        """settings: as in smsc.c, with _ for -; also password."""
        self.dir = folder or tempfile.mkdtemp(prefix="smsc-")
        self.own_dir = folder is None
        self.log = os.path.join(self.dir, "smsc.log")
        self.settings = settings
        self.lock = threading.Lock()
        self.port = port
        self.start()

    def start(self):
        argv = [os.path.join(BUILD, "tests/peers/smsc"), "--log", self.log, "--port", str(self.port)]
        for name, value in self.settings.items():
            argv += ["--" + name.replace("_", "-"), str(value)]
        self.process = Process(argv, os.path.join(self.dir, "smsc.err"), stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
        line = self.process.proc.stdout.readline()
        if not line:
            raise RuntimeError("smsc: " + self.process.output())
        self.port = int(line)

    def command(self, text):
        with self.lock:
            p = self.process.proc
            p.stdin.write(text.encode() + b"\n")
            p.stdin.flush()
            answer = p.stdout.readline().decode().strip()
        if answer == "unknown command" or answer == "unknown setting":
            raise ValueError("%s: %s" % (text, answer))
        return answer

    def set(self, **settings):
        for name, value in settings.items():
            self.command("set %s %s" % (name.replace("_", "-"), value))

    def stats(self):
        return json.loads(self.command("stats"))

    def reset(self):
        self.command("reset")

    def mo(self, source, destination, text, dcs=0, esm=0):
        data = text if isinstance(text, bytes) else text.encode("ascii")
        self.command("mo %s %s %d %d %s" % (source, destination, dcs, esm, data.hex()))

    def raw(self, data):
        self.command("raw " + data.hex())

    def lines(self, kind):
        if not os.path.exists(self.log):
            return []
        with open(self.log) as f:
            return [x for x in (line.rstrip("\n").split("\t") for line in f if line.endswith("\n"))
                    if x[0] == kind]

    def submits(self):
        return [Submit(f) for f in self.lines("submit")]

    def mos(self, kind="mo"):
        """(source, destination, status, data) of what was answered, or of what was "sent"."""
        return [(f[3], f[4], int(f[5]), bytes.fromhex(f[6])) for f in self.lines(kind)]

    def wait_bound(self, timeout=30):
        return wait_for(lambda: self.stats()["bound"], "a client binds to the SMSC", timeout)

    def wait_submits(self, count, timeout=30):
        wait_for(lambda: len(self.submits()) >= count, "%d submits at the SMSC" % count, timeout)
        return self.submits()

    def kill(self):
        self.process.stop(9)
        for pipe in (self.process.proc.stdin, self.process.proc.stdout):
            try:
                pipe.close()
            except OSError:         # a command that it did not read
                pass

    def stop(self):
        self.kill()
        if self.own_dir:
            shutil.rmtree(self.dir, ignore_errors=True)


class Kannel:
    """bearerbox and smsbox with one SMPP link to an SMSC."""
    name = "Kannel"

    def __init__(self, smsc_port, window=100):
        self.dir = tempfile.mkdtemp(prefix="kannel-")
        admin, self.box, self.http = free_ports(3)
        self.window = window
        with open(os.path.join(self.dir, "kannel.conf"), "w") as f:
            f.write("""
group = core
admin-port = %(admin)d
admin-password = x
smsbox-port = %(box)d
admin-interface = 127.0.0.1
smsbox-interface = 127.0.0.1
log-level = 3
dlr-storage = internal

group = smsc
smsc = smpp
smsc-id = bench
host = 127.0.0.1
port = %(smsc)d
smsc-username = u
smsc-password = p
system-type = ""
transceiver-mode = true
max-pending-submits = %(window)d

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = %(http)d
sendsms-interface = 127.0.0.1
log-level = 3

group = sendsms-user
username = u
password = p
max-messages = 10
concatenation = true

group = sms-service
keyword = default
text = ""
""" % {"admin": admin, "box": self.box, "http": self.http, "smsc": smsc_port, "window": window})

    def settings(self):
        return ("1.4.5, transceiver, max-pending-submits %d, no store (nothing is kept on disk), "
                "receipts off, log level 3" % self.window)

    def start(self):
        conf = os.path.join(self.dir, "kannel.conf")
        self.bearerbox = Process(["/usr/sbin/bearerbox", "-v", "4", conf], os.path.join(self.dir, "bearerbox.log"))
        self.bearerbox.until(lambda: listens(self.box), "bearerbox")
        self.smsbox = Process(["/usr/sbin/smsbox", "-v", "4", conf], os.path.join(self.dir, "smsbox.log"))
        self.smsbox.until(lambda: listens(self.http), "smsbox")

    def pids(self):
        return [self.bearerbox.pid, self.smsbox.pid]

    def stop(self):
        self.smsbox.stop()
        self.bearerbox.stop(timeout=3)
        shutil.rmtree(self.dir, ignore_errors=True)
