"""The whole product under AddressSanitizer, from its start to an orderly stop: no report, no leak. BUILD is the
sanitized build.

It runs as an ordinary user, because the leak checker needs /proc, which a chroot has not; and with the right to
trace, because our processes refuse to be looked at otherwise (PR_SET_DUMPABLE)."""
import os
import shutil
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "peers"))

from rawxmpp import Raw                                     # noqa: E402
from servers import Process                                 # noqa: E402
from smsc import Smsc                                       # noqa: E402
from tandem import BUILD, TOP, Tandem, wait_for             # noqa: E402

PROGRAMS = ("tandemd", "tandemctl", "tandem-core", "tandem-sms")
TRACER = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--inh-caps=+sys_ptrace",
          "--ambient-caps=+sys_ptrace"]
MESSAGE = "<message to='%s' type='chat' id='%s'><body>hello</body><request xmlns='urn:xmpp:receipts'/></message>"


class User:
    def __init__(self, user):
        self.user, self.password = user, "pw"


def start():
    t = Tandem()
    copy = os.path.join(t.dir, "copy")                      # our own folder may be closed to nobody
    os.mkdir(copy)
    for name in ("run.sh", "run-extra.awk"):
        shutil.copy(os.path.join(TOP, "appliance", name), copy)
    for name in PROGRAMS:
        shutil.copy(os.path.join(BUILD, name), copy)
    t.env = dict(t.env, HOME=t.dir, BUILD=copy,
                 ASAN_OPTIONS="detect_leaks=1:log_path=%s/report-asan" % t.dir,
                 UBSAN_OPTIONS="print_stacktrace=1:log_path=%s/report-ubsan" % t.dir)
    tracer = []
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", "nobody", t.dir], check=True)
        os.chmod(t.dir, 0o700)
        tracer = TRACER
    t.process = Process(tracer + ["sh", os.path.join(copy, "run.sh")], os.path.join(t.dir, "test-run.log"),
                        t.env, cwd=t.dir)
    t.process.until(t.ready, "Tandem under AddressSanitizer", 60)
    return t


def session(t, n, phone):
    """A login, a message to another account, one to a telephone; every other time the connection is cut, and
    resumed."""
    me, other = User("u%d" % (n % 10)), "u%d@%s" % ((n + 3) % 10, t.domain)
    with Raw(t).login(me, "r%d" % (n % 3), presence=True) as a:
        previd = a.enable()
        a.send(MESSAGE % (other, "m%d" % n) + MESSAGE % (phone, "s%d" % n))
        a.send("<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='%s'/></query></iq>" % other)
        a.send("<presence to='%s' type='subscribe'/><presence to='%s'/>" % (other, other))
        a.sync()
        if n % 2 == 0:
            a.send("</stream:stream>")
            a.rest()
            return
    with Raw(t).authenticate(me) as a:
        a.send("<resume xmlns='urn:xmpp:sm:3' previd='%s' h='0'/>" % previd)
        a.until("<resumed")
        a.sync()


def strangers(t, n):
    """Who does not get in, and who breaks off."""
    with Raw(t) as a:
        a.header()
        a.auth("nobody%d" % n, "x")
        a.send("<!-- ")
    with Raw(t, tls=False) as a:
        a.header()
        a.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>" if n % 2 else "<message>")
    with Raw(t) as a:
        a.authenticate(User("u0")).send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")


def load(t):
    smsc = Smsc(password="p")
    try:
        t.link_add("leaks", smsc, prefixes="+1998", reconnect_max_seconds=1)
        smsc.wait_bound()
        for n in range(60):
            session(t, n, "%s@sms.%s" % ("+1998000%d" % n if n % 3 else t.handset("answer"), t.domain))
            if n % 6 == 0:
                strangers(t, n)
            if n % 20 == 0:
                for command in (["reload"], ["sessions"], ["queue", "list"], ["counters"], ["link", "list"]):
                    t.ctl(*command)
            if n == 30:
                smsc.reset()
        wait_for(lambda: t.status()["sms"]["queue"]["queued"] == 0, "all short messages are out", 20)
        t.ctl("link", "delete", "leaks")
    finally:
        smsc.stop()


def reports(t):
    found = ""
    for name in sorted(os.listdir(t.dir)):
        if name.startswith("report-"):
            with open(os.path.join(t.dir, name), errors="replace") as f:
                found += "%s\n%s" % (name, f.read())
    return found


def test_no_leak_from_start_to_stop():
    t = start()
    try:
        t.accounts(["u%d" % n for n in range(10)], "pw", 10)
        load(t)
        restarts = [p["restarts"] for p in t.status()["processes"]]
        os.kill(t.process.pid, signal.SIGTERM)
        assert t.process.proc.wait(30) == 0, reports(t)[:20000] or t.output()
        assert not reports(t), reports(t)[:20000]
        assert restarts == [0, 0]
    finally:
        t.stop()
