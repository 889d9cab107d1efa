"""A small XEP-0198 client on asyncio whose books are exact: which stanzas the server acknowledged, which it
received and when.  For the crash tests (tests/integration/crash.py).

It uses direct TLS, SCRAM, and after a lost connection either resumes or, when the server answers
<failed h='N'/>, sends again what came after the N-th stanza, as XEP-0198 section 5 says.  Nothing here is
Tandem's code.
"""
import asyncio
import base64
import hashlib
import hmac
import os
import random
import ssl
import time
import xml.etree.ElementTree as ET
from xml.sax.saxutils import quoteattr

NS = {"client": "{jabber:client}", "sm": "{urn:xmpp:sm:3}", "sasl": "{urn:ietf:params:xml:ns:xmpp-sasl}",
      "stream": "{http://etherx.jabber.org/streams}", "bind": "{urn:ietf:params:xml:ns:xmpp-bind}"}
SM = "xmlns='urn:xmpp:sm:3'"
HASHES = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}


def tls_context():
    c = ssl.create_default_context()
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    c.set_alpn_protocols(["xmpp-client"])
    return c


class StreamClosed(Exception):
    pass


class Refused(Exception):
    """The server answers, but not as it must: never to be retried."""


class Stream:
    """One XML stream: top-level elements in, text out."""

    def __init__(self, reader, writer):
        self.reader, self.writer, self.ready = reader, writer, []
        self.restart()

    def restart(self):
        self.parser, self.depth, self.root = ET.XMLPullParser(("start", "end")), 0, None

    @classmethod
    async def open(cls, host, port, tls=True, timeout=5):
        opened = asyncio.open_connection(host, port, ssl=tls_context() if tls else None,
                                         server_hostname="localhost" if tls else None)
        return cls(*await asyncio.wait_for(opened, timeout))

    def send(self, text):
        self.writer.write(text.encode())

    async def drain(self):
        await self.writer.drain()

    async def next(self, timeout=None):
        """The next element below the stream header."""
        while not self.ready:
            data = await asyncio.wait_for(self.reader.read(65536), timeout)
            if not data:
                raise StreamClosed("end of file")
            self.parser.feed(data)
            for event, e in self.parser.read_events():
                if event == "start":
                    self.depth += 1
                    self.root = self.root if self.depth > 1 else e
                else:
                    self.depth -= 1
                    if self.depth == 1:
                        self.ready.append(e)
                        self.root.remove(e)
                    elif self.depth == 0:
                        raise StreamClosed("</stream:stream>")
        e = self.ready.pop(0)
        if e.tag == NS["stream"] + "error":
            raise StreamClosed("stream error " + ", ".join(c.tag.split("}")[1] for c in e))
        return e

    async def header(self, domain):
        self.restart()
        self.send("<?xml version='1.0'?><stream:stream xmlns='jabber:client' version='1.0' "
                  "xmlns:stream='http://etherx.jabber.org/streams' to=%s>" % quoteattr(domain))
        return await self.next(5)

    async def login(self, user, password, domain):
        """Features after the login."""
        features = await self.header(domain)
        offered = [m.text for m in features.iter(NS["sasl"] + "mechanism")]
        name = next((m for m in ("SCRAM-SHA-256", "SCRAM-SHA-1") if m in offered), None)
        if name is None:
            raise Refused("no SCRAM offered: %s" % offered)
        bare = "n=%s,r=%s" % (user, base64.b64encode(os.urandom(18)).decode())
        self.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='%s'>%s</auth>"
                  % (name, base64.b64encode(("n,," + bare).encode()).decode()))
        challenge = await self.next(10)
        if challenge.tag != NS["sasl"] + "challenge":
            raise StreamClosed("login: %s" % ET.tostring(challenge))
        first = base64.b64decode(challenge.text).decode()
        parts = dict(p.split("=", 1) for p in first.split(","))
        digest = HASHES[name]
        salted = hashlib.pbkdf2_hmac(digest, password.encode(), base64.b64decode(parts["s"]),
                                     int(parts["i"]))
        key = hmac.digest(salted, b"Client Key", digest)
        final = "c=biws,r=" + parts["r"]
        text = ",".join((bare, first, final)).encode()
        signature = hmac.digest(hashlib.new(digest, key).digest(), text, digest)
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
        self.send("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>%s</response>"
                  % base64.b64encode((final + ",p=" + proof).encode()).decode())
        success = await self.next(10)
        if success.tag != NS["sasl"] + "success":
            raise StreamClosed("login: %s" % ET.tostring(success))
        verifier = base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", digest), text, digest))
        if base64.b64decode(success.text or "") != b"v=" + verifier:
            raise Refused("wrong server signature")
        return await self.header(domain)

    def close(self):
        self.writer.transport.abort()


class Received:
    """One message that came in."""

    def __init__(self, e, stream, when):
        self.sender = e.get("from", "")
        self.type = e.get("type")
        self.id = e.get("id")
        self.body = e.findtext(NS["client"] + "body")
        self.delayed = e.find("{urn:xmpp:delay}delay") is not None
        self.receipt = e.find("{urn:xmpp:receipts}received")
        error = e.find(NS["client"] + "error")
        self.condition = None if error is None else next(
            (c.tag.split("}")[1] for c in error if "xmpp-stanzas" in c.tag), "?")
        self.stream, self.when = stream, when


class SmClient:
    """A session that is meant to outlive its connections."""

    def __init__(self, host, port, user, password, domain="localhost", rng=random):
        self.host, self.port, self.user, self.password, self.domain = host, port, user, password, domain
        self.jid = "%s@%s" % (user, domain)
        self.rng = rng
        self.unacked = []           # (key, text): sent or to be sent, not acknowledged
        self.acknowledged = []      # keys, in order
        self.repeated = set()       # keys that were sent again because a resumption failed
        self.h_out = 0              # what the server has acknowledged of this session's count
        self.sent = 0               # of unacked: how many were written to the present stream
        self.h_in = 0
        self.messages_of_session = 0
        self.resume_id = None
        self.received = []          # Received
        self.stream_ends = {}       # number of a stream -> when it broke
        self.stream_number = 0
        self.events = []            # (time, text): the session's history, for a report
        self.violations = []        # what XEP-0198 or the custody rules forbid
        self.resumed = self.failed_h = self.failed_plain = 0
        self.stream = None
        self.online = asyncio.Event()
        self.wanted = True
        self.task = None

    def note(self, text):
        self.events.append((time.monotonic(), text))

    # --- sending ----------------------------------------------------------------------------------

    def send(self, key, text):
        """key: what the caller finds in acknowledged later; None for what needs no account."""
        self.unacked.append((key, text))
        self.push()

    def push(self):
        if not self.online.is_set():
            return
        try:
            while self.sent < len(self.unacked):
                self.stream.send(self.unacked[self.sent][1])
                self.sent += 1
            self.stream.send("<r %s/>" % SM)
        except (OSError, RuntimeError):
            pass                    # the reader notices

    def acknowledge(self, h):
        count = (h - self.h_out) & 0xffffffff
        if count > self.sent:
            self.violations.append("h=%d acknowledges %d stanzas, only %d were sent"
                                   % (h, count, self.sent))
            count = self.sent
        keys = [key for key, _ in self.unacked[:count] if key is not None]
        self.acknowledged += keys
        self.messages_of_session += len(keys)
        del self.unacked[:count]
        self.sent -= count
        self.h_out = h

    # --- connection -------------------------------------------------------------------------------

    async def connect(self):
        s = await Stream.open(self.host, self.port)
        self.stream = s
        await s.login(self.user, self.password, self.domain)
        if self.resume_id:
            s.send("<resume %s previd=%s h='%d'/>" % (SM, quoteattr(self.resume_id), self.h_in))
            e = await s.next(10)
            if e.tag == NS["sm"] + "resumed":
                self.resumed += 1
                self.note("resumed h=%s; acknowledged until now %d, sent after that: %d" % (
                    e.get("h"), self.h_out, self.sent))
                self.acknowledge(int(e.get("h")))
                self.sent = 0
                self.go_online()
                return
            if e.tag != NS["sm"] + "failed":
                raise Refused("answer to <resume/>: %s" % ET.tostring(e))
            self.resume_failed(e.get("h"))
        await self.bind(s)

    def resume_failed(self, h):
        self.note("failed h=%s; acknowledged until now %d, sent after that: %s" % (
            h, self.h_out, [k if k else t[:12] for k, t in self.unacked[:self.sent]]))
        if h is None:
            self.failed_plain += 1
            # It may have enabled the session and not stored it yet; but then it has promised nothing.
            if self.messages_of_session:
                self.violations.append("<failed/> without h, after it had acknowledged %d messages"
                                       % self.messages_of_session)
        else:
            self.failed_h += 1
            self.acknowledge(int(h))
        self.repeated.update(key for key, _ in self.unacked[:self.sent] if key)
        self.resume_id = None

    async def bind(self, s):
        s.send("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
        e = await s.next(10)
        if e.get("type") != "result":
            raise StreamClosed("bind: %s" % ET.tostring(e))
        s.send("<enable %s resume='true'/>" % SM)
        e = await s.next(10)
        if e.tag != NS["sm"] + "enabled":
            raise StreamClosed("enable: %s" % ET.tostring(e))
        self.messages_of_session = 0
        self.resume_id, self.h_in, self.h_out, self.sent = e.get("id"), 0, 0, 0
        self.unacked.insert(0, (None, "<presence/>"))
        self.note("bound, %s" % self.resume_id)
        self.go_online()

    def go_online(self):
        self.stream_number += 1
        self.online.set()
        self.push()

    def incoming(self, e):
        if e.tag == NS["sm"] + "r":
            self.stream.send("<a %s h='%d'/>" % (SM, self.h_in))
        elif e.tag == NS["sm"] + "a":
            self.acknowledge(int(e.get("h")))
        else:
            self.h_in = (self.h_in + 1) & 0xffffffff
            if e.tag == NS["client"] + "message":
                self.received.append(Received(e, self.stream_number, time.monotonic()))
            elif e.tag == NS["client"] + "iq" and e.get("type") in ("get", "set"):
                self.send(None, "<iq type='result' id=%s to=%s/>" % (
                    quoteattr(e.get("id", "")), quoteattr(e.get("from", self.domain))))

    async def run(self):
        while self.wanted:
            try:
                await self.connect()
                while True:
                    self.incoming(await self.stream.next())
            except Refused as e:
                self.violations.append(str(e))
            except (OSError, StreamClosed, asyncio.TimeoutError, ET.ParseError,
                    asyncio.IncompleteReadError) as e:
                self.note("lost: %s %s" % (type(e).__name__, e))
            if self.online.is_set():        # not when a later attempt fails
                self.stream_ends[self.stream_number] = time.monotonic()
            self.online.clear()
            if self.stream:
                self.stream.close()
                self.stream = None
            if self.wanted:
                await asyncio.sleep(self.rng.uniform(0.05, 0.4))

    def start(self):
        self.task = asyncio.ensure_future(self.run())

    def cut(self):
        """The network is gone: no goodbye."""
        if self.stream:
            self.stream.close()

    async def stop(self):
        self.wanted = False
        if self.online.is_set():
            self.stream.send("<a %s h='%d'/>" % (SM, self.h_in))
            self.stream.send("</stream:stream>")
            try:
                await asyncio.wait_for(self.task, 3)
            except asyncio.TimeoutError:
                pass
        self.task.cancel()
        try:
            await self.task
        except asyncio.CancelledError:
            pass
