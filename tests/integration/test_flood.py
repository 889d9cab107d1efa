"""Peers that take all there is: connections, descriptors, octets, sessions. What the others have must not suffer."""
import os
import signal
import socket
import time

import pytest

from conftest import Account
from rawxmpp import Raw
from servers import wait_for
from tandem import Tandem


@pytest.fixture(scope="module")
def small():
    """One with few descriptors, of which the shell gives it fewer still."""
    t = Tandem(prefix=["prlimit", "--nofile=80:240"])
    t.start()
    t.accounts(["u%d" % n for n in range(4)], "pw")
    yield t
    t.stop()


def user(tandem, n):
    return Account("u%d" % n, "pw", tandem.domain, None)


def connections(port, n):
    held = []
    for _ in range(n):
        s = socket.create_connection(("127.0.0.1", port))
        s.settimeout(10)
        held.append(s)
    return held


def refusals(held):
    """How many of them were told that there are too many."""
    found = 0
    for s in held:
        s.settimeout(0.01)
        try:
            found += b"policy-violation" in s.recv(4096)
        except (TimeoutError, ConnectionResetError):
            pass
    return found


def close(held):
    for s in held:
        s.close()


def cpu_seconds(tandem, name):
    with open("/proc/%d/stat" % tandem.pid_of(name)) as f:
        times = f.read().rsplit(")", 1)[1].split()[11:13]
    return sum(int(x) for x in times) / os.sysconf("SC_CLK_TCK")


def translator_is_up(tandem):
    return tandem.status()["sms"]["core"] == "up"


def translator_comes_back(tandem):
    os.kill(tandem.pid_of("tandem-sms"), signal.SIGKILL)
    wait_for(lambda: translator_is_up(tandem), "the translator is back", 15)


def test_all_descriptors_taken(small):
    """Clients are told that there are too many; who is there is served, nothing spins, and the translator, killed,
    gets the descriptors that it needs."""
    with Raw(small).login(user(small, 0)) as a:
        held = connections(small.port, 320)
        try:
            wait_for(lambda: len(os.listdir("/proc/%d/fd" % small.pid_of("tandem-core"))) > 160,
                     "more than the soft limit is used")
            before = cpu_seconds(small, "tandem-core")
            refused = refusals(held)
            assert refused > 100
            os.kill(small.pid_of("tandem-sms"), signal.SIGKILL)
            held += connections(small.port, 40)
            wait_for(lambda: translator_is_up(small), "the translator is back", 15)
            a.sync()
            assert cpu_seconds(small, "tandem-core") - before < 0.5
        finally:
            close(held)
    assert "listener.resting" not in small.log_text()
    wait_for(lambda: Raw(small).login(user(small, 1)).close() or True, "clients are let in again")


def test_clients_and_components_do_not_keep_others_out(small):
    small.configure("limits", connections_per_address=20, connections=20)
    clients, components = connections(small.port, 30), connections(small.component_port, 30)
    try:
        assert refusals(clients) >= 10
        translator_comes_back(small)
        close(clients)
        Raw(small).login(user(small, 0)).close()
    finally:
        close(clients + components)
        small.configure("limits", connections_per_address=100000, connections=100000)


NONZAS = {"requests": b"<r xmlns='urn:xmpp:sm:3'/>", "acknowledgements": b"<a xmlns='urn:xmpp:sm:3' h='0'/>",
          "white space": b" " * 25, "stanzas": b"<presence to='x@localhost' type='unavailable'/>"}


@pytest.mark.parametrize("what", sorted(NONZAS))
def test_everything_counts_towards_the_rate(tandem, account, what):
    """What is no stanza costs us time, too: it comes no faster than the limits say."""
    tandem.configure("limits", stanzas_per_second=500, stanza_burst=1000, octets_per_second=200000)
    try:
        with Raw(tandem).login(account(), "x") as a:
            a.enable()
            piece, sent, end = NONZAS[what] * 1000, 0, time.monotonic() + 1
            a.s.settimeout(1)
            try:
                while time.monotonic() < end:
                    assert a.send(piece)
                    sent += len(piece)
            except TimeoutError:
                pass
            # What the system's buffers take is not yet read.
            assert sent < 12e6
    finally:
        tandem.configure("limits", stanzas_per_second=0, stanza_burst=2000, octets_per_second=0)


DENSE = "<message to='%s' type='chat' id='%d'><x xmlns='urn:x'>" + "y<a/>" * 4000 + "</x></message>"
MIB = 1 << 20


def send_dense(a, to, numbers):
    """Each takes 0.9 MB of memory; when this returns they are in custody."""
    for n in numbers:
        assert a.send(DENSE % (to, n))
    a.send("<r xmlns='urn:xmpp:sm:3'/>")
    while "h='%d'" % (max(numbers) + 1) not in a.until("<a ", "/>").decode():
        pass


def test_who_does_not_acknowledge(tandem, account):
    """What is delivered and not acknowledged is bounded by the memory that it takes, from the mailbox as from a
    sender; nothing is lost."""
    me, friend, count = account(), account(), 150
    tandem.configure("limits", offline_messages=1000)
    before = tandem.rss("tandem-core")
    with Raw(tandem).login(me) as a:
        a.enable()
        send_dense(a, friend.jid, range(count))
        with Raw(tandem).login(friend, "one") as b:
            b.enable(resume=False)
            b.send("<presence/>")
            assert "id='0'" in b.until("</message>").decode()
            time.sleep(0.3)
            assert tandem.rss("tandem-core") < before + 40 * MIB, "from the mailbox"
        with Raw(tandem).login(account(), "two") as c:      # and to one who reads
            c.enable(resume=False)
            c.send("<presence/>")
            to = c.bound
            for n in range(count):
                a.send(DENSE % (to, n))
            got = c.rest()
            assert b"policy-violation" in got[-500:], got[-500:]
            assert tandem.rss("tandem-core") < before + 80 * MIB, "from a sender"
    with Raw(tandem).login(friend, "three") as b:
        b.enable()
        assert b.mailbox(count) == list(range(count))


def test_memory_of_a_flood_is_given_back(tandem):
    """2,000 that begin a handshake and go: 46 KiB each, of which the system gets most back."""
    before, held = tandem.rss("tandem-core"), connections(tandem.tls_port, 2000)
    for s in held:
        s.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 300)
    wait_for(lambda: tandem.rss("tandem-core") > before + 60 * MIB, "they cost memory", 10)
    close(held)
    wait_for(lambda: tandem.rss("tandem-core") < before + 45 * MIB, "it is given back", 10)
