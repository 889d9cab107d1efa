"""Attacks on logins, sessions and processes while they serve: who made-up users are, whose session is resumed, what
several connections do to one account, and processes that are killed in the middle of it."""
import base64
import os
import random
import signal
import socket
import threading
import time

import pytest

from conftest import Account
from rawxmpp import BIND, GONE, Raw
from servers import wait_for
from tandem import Tandem

AUTH = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>%s</auth>"
LOST = GONE + (AssertionError, ConnectionError, TimeoutError, OSError)


@pytest.fixture(scope="module")
def own():
    t = Tandem()
    t.start()
    t.accounts(["u%d" % n for n in range(8)], "pw")
    yield t
    t.stop()


def user(tandem, n):
    return Account("u%d" % n, "pw", tandem.domain, None)


def kill(tandem, name):
    """Once it is there; it comes back (child.md)."""
    pid = wait_for(lambda: tandem.pid_of(name), name)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: tandem.pid_of(name) not in (None, pid) and tandem.try_status().get("ready"),
             "%s is back" % name, 20)


def salt_of(tandem, name):
    with Raw(tandem) as a:
        a.header()
        a.send(AUTH % base64.b64encode(b"n,,n=%s,r=nonce" % name.encode()).decode())
        challenge = base64.b64decode(a.until("</challenge>").split(b"'>")[1].split(b"<")[0]).decode()
    return challenge.split(",s=")[1]


def test_who_does_not_exist_has_a_salt_of_his_own(tandem, own):
    """It hangs on a secret that the store keeps: the same for ever here, another one elsewhere. Else whoever has the
    program could tell made-up users from real ones."""
    salt = salt_of(own, "nobody")
    assert salt_of(own, "nobody") == salt
    assert salt_of(own, "nobody2").split(",")[0] != salt.split(",")[0]
    assert salt_of(tandem, "nobody").split(",")[0] != salt.split(",")[0]
    kill(own, "tandem-core")
    assert salt_of(own, "nobody") == salt


def test_attempts_that_are_given_up_count(tandem):
    """Each has made us look a user up."""
    with Raw(tandem) as a:
        a.header()
        for n in range(5):
            a.send(AUTH % "biwsbj1hLHI9YQ==")
            a.until("</challenge>")
            a.send("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
            a.until("<aborted/></failure>")
        assert b"<policy-violation" in a.rest()


def test_only_ones_own_session_can_be_resumed(tandem, account):
    victim, thief = account(), account()
    with Raw(tandem).login(victim, presence=True) as a, Raw(tandem).authenticate(thief) as b:
        previd = a.enable()
        for wrong in (previd, previd[:-1], previd + "x", "", "x" * 5000):
            b.send("<resume xmlns='urn:xmpp:sm:3' previd='%s' h='0'/>" % wrong)
            got = b.until("</failed>").decode()
            assert "item-not-found" in got and " h=" not in got, got
        b.bind()
        a.sync()
        b.close()
        with Raw(tandem).authenticate(victim) as c:         # its owner may, while it is connected
            c.send("<resume xmlns='urn:xmpp:sm:3' previd='%s' h='0'/>" % previd)
            c.until("<resumed")
        assert b"<conflict" in a.rest()


def bind_and_break(tandem, me, ids, rng):
    """One turn of somebody who logs in where others do, resumes what they have left, and breaks off anywhere."""
    with Raw(tandem).authenticate(me) as a:
        try:
            if ids and rng.random() < 0.5:
                a.send("<resume xmlns='urn:xmpp:sm:3' previd='%s' h='0'/>" % rng.choice(ids[-4:]))
                if rng.random() < 0.8 and b"<resumed" in a.until("<resumed", "</failed>", "</stream:error>"):
                    a.sync()
                return
            a.send(BIND % b"same" + b"<enable xmlns='urn:xmpp:sm:3' resume='true'/><presence/>")
            if rng.random() < 0.8:
                a.until("<enabled")
                ids.append(a.until("/>").decode().split("id='")[1].split("'")[0])
                a.send("<message to='%s' type='chat' id='m'><body>x</body></message>" % me.jid)
        except LOST:
            pass                                            # another one has replaced it


def test_many_connections_race_for_one_resource(tandem, account):
    me, ids, problems = account(), [], []
    pids = [p["pid"] for p in tandem.status()["processes"]]

    def racer(seed):
        rng = random.Random(seed)
        try:
            for _ in range(25):
                bind_and_break(tandem, me, ids, rng)
        except Exception as e:
            problems.append(e)
    threads = [threading.Thread(target=racer, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not problems, problems
    assert [p["pid"] for p in tandem.status()["processes"]] == pids
    with Raw(tandem).login(me, "same", presence=True) as a:
        a.sync()
        mine = [s for s in tandem.ctl("--json", "sessions")["sessions"] if s["jid"].startswith(me.jid)]
        assert len(mine) == 1, mine
    assert "session.refused" not in tandem.log_text() and "user.refused" not in tandem.log_text()


class Sender:
    """Numbered messages, as fast as they are acknowledged, through whatever happens to the connection. done: how
    many the server has acknowledged."""

    def __init__(self, tandem, me, to):
        self.tandem, self.me, self.to = tandem, me, to
        self.done, self.sent, self.previd, self.stop, self.problem = 0, 0, None, False, None

    def connect(self):
        a = Raw(self.tandem, timeout=5).authenticate(self.me)
        if self.previd:
            a.send("<resume xmlns='urn:xmpp:sm:3' previd='%s' h='0'/>" % self.previd)
            got = a.until("<resumed", "<failed") + a.until(">")
            assert b" h='" in got, "no count: %r" % got
            # What it has counted is done; the rest is sent again.
            self.done = self.sent = self.base + int(got.split(b" h='")[1].split(b"'")[0])
            if b"<resumed" in got:
                return a
        a.bind("sender")
        self.base, self.sent = self.done, self.done
        self.previd = a.enable()
        return a

    def work(self, a):
        while not self.stop:
            for _ in range(20):
                a.send("<message to='%s' type='chat' id='%d'><body>x</body></message>" % (self.to, self.sent))
                self.sent += 1
            a.send("<r xmlns='urn:xmpp:sm:3'/>")
            while self.done < self.sent:
                a.until("<a ")
                self.done = self.base + int(a.until("/>").split(b"h='")[1].split(b"'")[0])
            time.sleep(0.02)

    def run(self):
        while not self.stop:
            try:
                with self.connect() as a:
                    self.work(a)
            except LOST as e:
                if "no count" in str(e):
                    self.problem = e
                time.sleep(0.1)


def vandal(tandem, stop, seed):
    """Floods of connections, octets and half-finished things at every port."""
    rng = random.Random(seed)
    while not stop:
        try:
            with socket.create_connection(("127.0.0.1", rng.choice((tandem.port, tandem.tls_port,
                                                                    tandem.component_port))), 1) as s:
                s.sendall(rng.choice((b"<a>" * 2000, b" " * 100000, rng.randbytes(2000), b"\x16\x03\x01\x02")))
        except OSError:
            time.sleep(0.05)


def test_killed_under_attack(own):
    """Both come back, the attack goes on, and nothing acknowledged is lost or comes twice."""
    sender = Sender(own, user(own, 0), user(own, 1).jid)
    stop = []
    own.configure("limits", offline_messages=100000)
    threads = [threading.Thread(target=vandal, args=(own, stop, n)) for n in range(3)]
    threads.append(threading.Thread(target=sender.run))
    for t in threads:
        t.start()
    try:
        for name in ("tandem-core", "tandem-sms", "tandem-core"):
            count = sender.done
            wait_for(lambda: sender.done > count + 40, "messages are taken", 20)
            kill(own, name)
        count = sender.done
        wait_for(lambda: sender.done > count + 40, "messages are taken", 20)
    finally:
        sender.stop = True
        stop.append(True)
        for t in threads:
            t.join()
    assert not sender.problem, sender.problem
    with Raw(own).login(user(own, 1)) as b:
        b.enable()
        ids = b.mailbox(sender.done)
    assert ids == list(range(len(ids)))
