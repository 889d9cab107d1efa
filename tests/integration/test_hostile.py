"""Peers that mean harm, at every port: each gets its protocol's error, the server serves on, and its memory stays
bounded."""
import asyncio
import os
import random
import socket
import ssl
import struct
import time

import pytest

from servers import wait_for
from smsc import Smsc
from xmpp_peer import in_loop, login

HEADER = (b"<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
          b"xmlns:stream='http://etherx.jabber.org/streams'>")
COMPONENT = (b"<stream:stream to='x.localhost' xmlns='jabber:component:accept' "
             b"xmlns:stream='http://etherx.jabber.org/streams'>")
MIB = 1 << 20
# What the allocator and pools may have grown by after an attack, whatever its size.
ROOM = 48 * MIB


@pytest.fixture(autouse=True)
def still_serves(tandem):
    """After each of these tests: the same processes, memory bounded, and a client can log in."""
    before = {p["name"]: p["pid"] for p in tandem.status()["processes"]}
    memory = {n: tandem.rss(n) for n in ("tandem-core", "tandem-sms")}
    yield
    assert {p["name"]: p["pid"] for p in tandem.status()["processes"]} == before
    for name, rss in memory.items():
        wait_for(lambda: tandem.rss(name) < rss + ROOM, "memory of %s is bounded (%d MiB before, %d now)" % (
            name, rss / MIB, tandem.rss(name) / MIB), 20)
    with tls(tandem) as s:
        s.sendall(HEADER)
        read_until(s, b"</stream:features>")


def tcp(port):
    s = socket.create_connection(("127.0.0.1", port))
    s.settimeout(20)
    return s


def tls(tandem):
    c = ssl.create_default_context()
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    c.set_alpn_protocols(["xmpp-client"])
    return c.wrap_socket(tcp(tandem.tls_port))


def read_until(s, what):
    got = b""
    while what not in got:
        chunk = s.recv(65536)
        if not chunk:
            raise AssertionError("closed before %r: %r" % (what, got[-500:]))
        got += chunk
    return got


def read_all(s):
    got = b""
    try:
        while chunk := s.recv(65536):
            got += chunk
    except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
        pass
    return got


def push(s, data):
    try:
        s.sendall(data)
    except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
        pass


XML = {
    "doctype": (b"<!DOCTYPE x [<!ENTITY a 'b'>]><stream:stream>", b"restricted-xml"),
    "comment": (HEADER + b"<!-- hello -->", b"restricted-xml"),
    "processing-instruction": (HEADER + b"<?php echo ?>", b"restricted-xml"),
    "entity": (HEADER + b"<message>&nothing;</message>", (b"restricted-xml", b"not-well-formed")),
    "not-well-formed": (HEADER + b"<iq></message>", b"not-well-formed"),
    "bad-utf8": (HEADER + b"<iq>\xff\xfe</iq>", (b"not-well-formed", b"unsupported-encoding")),
    "utf16": ("<?xml version='1.0' encoding='UTF-16'?><stream:stream/>".encode("utf-16"),
              (b"unsupported-encoding", b"not-well-formed")),
    "wrong-namespace": (b"<stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
                        b"xmlns:stream='urn:nothing'>", b"invalid-namespace"),
    "unknown-host": (HEADER.replace(b"'localhost'", b"'elsewhere.example'"), b"host-unknown"),
    "deep": (HEADER + b"<a>" * 5000, (b"policy-violation", b"not-well-formed")),
    "attributes": (HEADER + b"<iq " + b" ".join(b"a%d='1'" % n for n in range(600)) + b"/>",
                   b"policy-violation"),
    "large-element": (HEADER + b"<iq><a>" + b"x" * 200000, b"policy-violation"),
    "large-attribute": (HEADER + b"<iq id='" + b"x" * 200000, b"policy-violation"),
    "large-name": (HEADER + b"<" + b"x" * 200000, b"policy-violation"),
    "large-header": (b"<stream:stream " + b"x" * 200000, (b"policy-violation", b"not-well-formed")),
    "early-message": (HEADER + b"<message to='alice@localhost'><body>x</body></message>", b"not-authorized"),
    "nothing-but-zeros": (b"\0" * 100, (b"not-well-formed", b"unsupported-encoding")),
    "http": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"not-well-formed"),
}


@pytest.mark.parametrize("case", sorted(XML))
def test_bad_xml_to_clients_port(tandem, case):
    data, conditions = XML[case]
    with tls(tandem) as s:
        push(s, data)
        got = read_all(s)
    conditions = conditions if isinstance(conditions, tuple) else (conditions,)
    assert any(c in got for c in conditions), got[-500:]


@pytest.mark.parametrize("case", ["doctype", "comment", "not-well-formed", "deep", "large-element",
                                  "nothing-but-zeros"])
def test_bad_xml_to_component_port(tandem, case):
    data, _ = XML[case]
    with tcp(tandem.component_port) as s:
        push(s, data.replace(HEADER, COMPONENT))
        got = read_all(s)
    assert b"<stream:error" in got, got[-500:]


@in_loop
async def test_bad_stanzas_after_login(tandem, account):
    for data, conditions in ((b"<!-- x -->", ("restricted-xml",)),
                             (b"<message><body>&x;</body></message>", ("restricted-xml", "not-well-formed")),
                             (b"<a>" * 1000, ("policy-violation", "not-well-formed")),
                             (b"<message to='%s'>" % (b"x" * 400000), ("policy-violation",)),
                             (b"<nonsense xmlns='urn:x'/>", ("unsupported-stanza-type",))):
        p = await login(tandem, account())
        gone = asyncio.get_running_loop().create_future()
        p.add_event_handler("stream_error", lambda e: gone.done() or gone.set_result(e["condition"]))
        p.send_raw(data.decode())
        assert await asyncio.wait_for(gone, 20) in conditions, data[:60]
    p = await login(tandem, account())
    for raw, condition in (("<iq type='get' id='1'/>", "bad-request"),
                           ("<iq type='nonsense' id='2'/>", "bad-request"),
                           ("<message to='a@b@c' id='3'><body>x</body></message>", "jid-malformed")):
        got = asyncio.get_running_loop().create_future()
        for event in ("iq_error", "message_error", "message", "error"):
            p.add_event_handler(event, lambda e: got.done() or got.set_result(e), disposable=True)
        from slixmpp.xmlstream.handler import Callback
        from slixmpp.xmlstream.matcher import MatchXPath
        p.register_handler(Callback("any iq", MatchXPath("{jabber:client}iq"),
                                    lambda e: got.done() or got.set_result(e), once=True))
        p.send_raw(raw)
        assert (await asyncio.wait_for(got, 20))["error"]["condition"] == condition, raw


@in_loop
async def test_forged_from(tandem, account):
    a, b = await login(tandem, account()), await login(tandem, account())
    gone = asyncio.get_running_loop().create_future()
    a.add_event_handler("stream_error", lambda e: gone.done() or gone.set_result(e["condition"]))
    a.send_raw("<message from='%s' to='%s'><body>forged</body></message>" % (
        "mallory@localhost/x", b.boundjid.full))
    assert await asyncio.wait_for(gone, 20) == "invalid-from"
    await b.nothing()


@pytest.mark.parametrize("port", ["port", "tls_port", "component_port"])
def test_random_octets(tandem, port):
    rng = random.Random(7)
    for n in range(60):
        with tcp(getattr(tandem, port)) as s:
            push(s, rng.randbytes(rng.randrange(1, 3000)))
            if n % 3 == 0:
                s.shutdown(socket.SHUT_WR)
                read_all(s)


def test_mutated_sessions(tandem):
    """A good session with octets changed, at STARTTLS and below TLS."""
    rng = random.Random(11)
    good = HEADER + b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
    auth = HEADER + b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>biwsbj1hLHI9YQ==</auth>"
    for n in range(60):
        data = bytearray(good if n % 2 else auth)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        s = tcp(tandem.port) if n % 2 else tls(tandem)
        push(s, bytes(data))
        s.settimeout(0.05)
        try:
            while s.recv(65536):
                pass
        except (TimeoutError, ssl.SSLError, OSError):
            pass
        s.close()


@pytest.mark.parametrize("case", ["=", "!!!!", "biwsbj1h" * 2000, "biws", "AAAA", "bixhPQ=="],
                         ids=range(6))
def test_bad_sasl(tandem, case):
    for mechanism in ("SCRAM-SHA-256", "PLAIN", "NONSENSE"):
        with tls(tandem) as s:
            s.sendall(HEADER)
            read_until(s, b"</stream:features>")
            push(s, ("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='%s'>%s</auth>" % (
                mechanism, case)).encode())
            s.sendall(b"</stream:stream>") if len(case) < 100 else None
            got = read_all(s)
        assert b"<failure" in got or b"<stream:error" in got or b"<challenge" in got, got[-300:]
        assert b"<success" not in got


def test_too_many_failed_logins(tandem):
    with tls(tandem) as s:
        s.sendall(HEADER)
        read_until(s, b"</stream:features>")
        for n in range(50):
            push(s, b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>")
            got = s.recv(65536)
            if not got or b"<stream:error" in got or b"</stream:stream>" in got:
                break
        assert n < 20, "no limit"


def test_starttls_injection(tandem):
    """What follows <starttls/> in the clear must not be taken for what comes inside TLS."""
    with tcp(tandem.port) as s:
        s.sendall(HEADER)
        read_until(s, b"</stream:features>")
        s.sendall(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
                  b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>")
        got = read_all(s)
        assert b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'" not in got and b"<success" not in got


def test_half_handshakes_and_slow_peers(tandem):
    """Many that begin and say nothing more hold little, and are put out in the end; others are served."""
    held = []
    for n in range(300):
        s = tcp(tandem.tls_port if n % 2 else tandem.port)
        push(s, b"\x16\x03\x01\x02\x00\x01\x00" if n % 2 else HEADER[:n % len(HEADER)])
        held.append(s)
    start = time.monotonic()
    with tls(tandem) as s:
        s.sendall(HEADER)
        read_until(s, b"</stream:features>")
    assert time.monotonic() - start < 5
    for s in held:
        s.close()


def test_unauthenticated_time(tandem):
    tandem.configure("limits", unauthenticated_seconds=5)
    try:
        with tls(tandem) as s:
            s.sendall(HEADER)
            start = time.monotonic()
            got = read_all(s)
            assert b"connection-timeout" in got or b"policy-violation" in got
            assert time.monotonic() - start < 15
    finally:
        tandem.configure("limits", unauthenticated_seconds=60)


def test_connections_per_address(tandem):
    tandem.configure("limits", connections_per_address=20)
    held = []
    try:
        refused = 0
        for n in range(60):
            s = tcp(tandem.port)
            push(s, HEADER)
            held.append(s)
        for s in held:
            s.settimeout(20)
            try:
                got = s.recv(65536)
            except ConnectionResetError:
                got = b""
            refused += not got or b"policy-violation" in got or b"resource-constraint" in got
        assert refused >= 30
    finally:
        for s in held:
            s.close()
        tandem.configure("limits", connections_per_address=100000)

    def again():
        with tls(tandem) as s:
            s.sendall(HEADER)
            return read_until(s, b"</stream:features>")
    wait_for(again, "connections are taken again")


@in_loop
async def test_who_does_not_read(tandem, account):
    """Output to one who does not read is bounded; the sender is not held up."""
    victim = await login(tandem, account())
    victim.transport.pause_reading()
    a, c = await login(tandem, account()), await login(tandem, account())
    before = tandem.rss("tandem-core")
    body = "x" * 60000
    for n in range(400):                                    # 24 MB to one who reads nothing
        a.send_message(victim.boundjid.full, body, mtype="headline")
        if n % 20 == 0:
            await a["xep_0199"].send_ping(a.boundjid.bare, timeout=30)
    a.send_message(c.boundjid.full, "you are served", mtype="chat")
    assert (await c.message())["body"] == "you are served"
    assert tandem.rss("tandem-core") < before + 24 * MIB


def test_hostile_smsc(tandem, account):
    """Garbage in the place of an SMSC's answers: the link is made anew, nothing else happens."""
    rng = random.Random(3)
    smsc = Smsc(password="p")
    try:
        tandem.link_add("hostile", smsc, prefixes="+1997", reconnect_max_seconds=1)
        smsc.wait_bound()
        pdu = struct.pack
        cases = [b"\0\0\0\0" + b"\0" * 12, b"\xff\xff\xff\xff" + b"\0" * 12, b"\0\0\0\x0f" + b"\0" * 11,
                 pdu(">IIII", 16, 5, 0, 1),                                     # deliver_sm without a body
                 pdu(">IIII", 16 + 300, 5, 0, 2) + b"\xff" * 300,               # no NUL anywhere
                 pdu(">IIII", 16, 0x80000004, 0, 77777),                        # answer to nothing
                 pdu(">IIII", 16, 0x80000004, 0x58, 0),
                 pdu(">IIII", 16, 0x12345678, 0, 3),                            # unknown command
                 pdu(">IIII", 16, 0x80000000, 3, 0),                            # generic_nack
                 pdu(">IIII", 16, 9, 0, 4),                                     # a bind from the SMSC
                 deliver(tlvs=pdu(">HH", 0x0424, 0xffff) + b"x"),               # TLV longer than the PDU
                 deliver(tlvs=b"".join(pdu(">HHB", 0x1400 + n, 1, 0) for n in range(3000))),
                 deliver(tlvs=pdu(">HH", 0x020c, 0)),                           # sar without a value
                 deliver(esm=0x40, text=b"\xff\0\x03"),                         # user data header too long
                 deliver(esm=0x40, text=b"\x05\0\x03\x01\x00\x00xx"),           # part 0 of 0
                 deliver(esm=0x40, text=b"\x05\0\x03\x01\x01\x09xx"),           # part 9 of 1
                 deliver(esm=4, text=b"id: sub: dlvrd: stat:"), deliver(esm=4, text=b"id:" + b"9" * 200)]
        for data in cases + [rng.randbytes(rng.randrange(16, 400)) for _ in range(30)]:
            wait_for(lambda: smsc.stats()["bound"], "bound again", 20)
            smsc.raw(data)
        # A half of something, then silence: the response timer or the next PDU decides.
        smsc.reset()
        smsc.wait_bound()
        assert tandem.ctl("--json", "link", "list")["links"]
    finally:
        tandem.ctl("link", "delete", "hostile", check=False)
        smsc.stop()


def deliver(esm=0, text=b"x", tlvs=b"", seq=99):
    body = (b"\0\1\0011999\0\1\0011888\0" + bytes([esm]) + b"\0\0\0\0\0\0\0\0" + bytes([len(text)]) +
            text + tlvs)
    return struct.pack(">IIII", 16 + len(body), 5, 0, seq) + body


def test_fragments_are_bounded(tandem, account):
    """First parts whose rest never comes."""
    me, smsc = account(number=True), Smsc(password="p")
    try:
        tandem.link_add("fragments", smsc, prefixes="+1996", reconnect_max_seconds=1)
        smsc.wait_bound()
        before = tandem.rss("tandem-sms")
        for n in range(4000):
            udh = bytes([6, 8, 4, n >> 8, n & 255, 255, 1])
            smsc.mo("1996%07d" % n, me.number[1:], udh + b"x" * 130, esm=0x40)
        wait_for(lambda: smsc.stats()["mo_waiting"] == 0, "all are answered", 60)
        assert tandem.rss("tandem-sms") < before + 32 * MIB  # of it 16 are the store's cache
    finally:
        tandem.ctl("link", "delete", "fragments", check=False)
        smsc.stop()


def test_descriptors_do_not_leak(tandem):
    def count():
        return len(os.listdir("/proc/%d/fd" % tandem.pid_of("tandem-core")))
    with tls(tandem) as s:
        s.sendall(HEADER)
        read_until(s, b"</stream:features>")
    before = count()
    for n in range(100):
        s = tcp(tandem.tls_port if n % 2 else tandem.component_port)
        push(s, b"x" * n)
        s.close()
    wait_for(lambda: count() <= before + 5, "descriptors are closed", 20)
