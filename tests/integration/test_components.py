"""External components (XEP-0114) with slixmpp, and our translator as a component of Prosody."""
import asyncio
import os
import signal
import socket

import pytest
import slixmpp

from servers import Ejabberd, Prosody, wait_for
from smsc import Smsc
from tandem import Tandem
from xmpp_peer import in_loop, login


class Component(slixmpp.ComponentXMPP):
    def __init__(self, tandem, domain, secret):
        super().__init__(domain, secret, "127.0.0.1", tandem.component_port)
        self.register_plugin("xep_0030")
        self.register_plugin("xep_0199")
        self.inbox = asyncio.Queue()
        self.add_event_handler("message", self.inbox.put_nowait)
        loop = asyncio.get_running_loop()
        self.started, self.ended = loop.create_future(), loop.create_future()
        self.add_event_handler("session_start", lambda e: self.started.set_result(True))
        self.add_event_handler("disconnected", lambda e: self.ended.done() or self.ended.set_result(True))


@in_loop
async def test_component_messages(tandem, account):
    tandem.ctl("component", "add", "echo.localhost", "--secret-stdin", stdin="echo secret\n")
    c = Component(tandem, "echo.localhost", "echo secret")
    c.connect()
    await asyncio.wait_for(c.started, 15)
    a = await login(tandem, account())
    a.send_message("anybody@echo.localhost", "hello component", mtype="chat")
    m = await asyncio.wait_for(c.inbox.get(), 15)
    assert m["body"] == "hello component" and m["from"] == a.boundjid
    c.send_message(a.boundjid.bare, "hello user", mfrom="anybody@echo.localhost", mtype="chat")
    assert (await a.message())["from"] == "anybody@echo.localhost"
    await a["xep_0199"].send_ping("echo.localhost", timeout=10)
    (x,) = [x for x in tandem.ctl("--json", "component", "list")["components"]
            if x["domain"] == "echo.localhost"]
    assert x["streams"] == 1 and not x["ours"]
    # It may not speak for others.
    c.send_message(a.boundjid.bare, "forged", mfrom="mallory@localhost", mtype="chat")
    await asyncio.wait_for(c.ended, 15)
    await a.nothing()
    c.cancel_connection_attempt()
    a.send_message("anybody@echo.localhost", "anyone?", mtype="chat")
    m = await a.message(lambda m: m["type"] == "error")
    assert m["error"]["condition"] in ("remote-server-timeout", "service-unavailable",
                                       "remote-server-not-found", "recipient-unavailable")
    tandem.ctl("component", "delete", "echo.localhost")


def handshake(tandem, domain, digest):
    s = socket.create_connection(("127.0.0.1", tandem.component_port))
    s.settimeout(15)
    s.sendall(("<stream:stream xmlns='jabber:component:accept' to='%s' "
               "xmlns:stream='http://etherx.jabber.org/streams'>" % domain).encode())
    got = b""
    while b">" not in got.split(b"<stream:stream", 1)[-1]:
        got += s.recv(4096) or pytest.fail("closed")
    s.sendall(b"<handshake>%s</handshake>" % digest)
    try:
        while chunk := s.recv(4096):
            got += chunk
    except ConnectionResetError:
        pass
    s.close()
    return got


def test_component_refusals(tandem):
    tandem.ctl("component", "add", "lock.localhost", "--secret-stdin", stdin="right\n")
    assert b"not-authorized" in handshake(tandem, "lock.localhost", b"0" * 40)
    got = handshake(tandem, "nobody.localhost", b"0" * 40)
    assert b"host-unknown" in got or b"not-authorized" in got
    # A foreigner does not become our own translator.
    got = handshake(tandem, "sms.localhost", b"0" * 40)
    assert b"not-authorized" in got or b"host-unknown" in got or b"conflict" in got
    p = tandem.ctl("component", "add", "lock.localhost", "--secret-stdin", stdin="x\n", check=False)
    assert p.returncode == 1
    tandem.ctl("component", "delete", "lock.localhost")


def secret_file(tandem, name, secret):
    path = os.path.join(tandem.dir, name)
    with open(path, "w") as f:
        f.write(secret + "\n")
    os.chmod(path, 0o600)
    return '"%s"' % path


class Pat:
    user, password, domain, jid = "pat", "pw", "localhost", "pat@localhost"


async def eventually(check, what):
    await asyncio.get_running_loop().run_in_executor(None, wait_for, check, what)


@pytest.fixture
def two_boxes():
    """Our translator as a component of our core on another box: (core's, translator's, smsc)."""
    core, far, smsc = Tandem(), Tandem(), Smsc(password="p", dlr=1)
    core.write_config('component "far.localhost"', custody="true",
                      secret_file=secret_file(core, "far.secret", "over the wire"))
    try:
        core.start()
        core.user_add("pat", "pw", None)
        far.start()
        far.user_add("pat", "pw", "+14445550001")
        far.link_add("smsc", smsc, prefixes="+1999")
        far.write_config("sms", domain='"far.localhost"',
                         server='"127.0.0.1:%d"' % core.component_port, server_tls='"required"',
                         server_secret_file=secret_file(far, "server.secret", "over the wire"))
        far.ctl("reload")
        os.kill(far.pid_of("tandem-sms"), signal.SIGKILL)
        smsc.wait_bound()
        yield core, far, smsc
    finally:
        far.stop()
        core.stop()
        smsc.stop()


@in_loop
async def test_translator_on_another_box(two_boxes):
    """STARTTLS, SCRAM with channel binding, and custody over TCP (COMP-13, COMP-15)."""
    core, far, smsc = two_boxes
    await eventually(lambda: far.status()["sms"]["core"] == "up", "connected to the other core")
    (x,) = [x for x in core.ctl("--json", "component", "list")["components"]
            if x["domain"] == "far.localhost"]
    assert x["streams"] == 1 and "mechanism=SCRAM-SHA-512-PLUS" in core.log_text()
    p = await login(core, Pat)
    p.send_message("+19990001@far.localhost", "over the wire", mtype="chat")
    await eventually(lambda: len(smsc.submits()) == 1, "an SMS")
    assert smsc.submits()[0].text == "over the wire"
    smsc.mo("19990001", "14445550001", "an answer")
    assert (await p.message(lambda m: m["body"]))["body"] == "an answer"
    # The other box dies: what is sent meanwhile waits in the core, and comes in order.
    os.kill(far.pid_of("tandem-sms"), signal.SIGKILL)
    for i in range(20):
        p.send_message("+19990001@far.localhost", "while away %d" % i, mtype="chat")
    await eventually(lambda: len(smsc.submits()) == 21, "the SMS that waited")
    assert [s.text for s in smsc.submits()[1:]] == ["while away %d" % i for i in range(20)]


@in_loop
async def test_translator_beside_ejabberd():
    """XEP-0114 though our header says version='1.0' (COMP-17)."""
    ejabberd = Ejabberd(components=[("sms.localhost", "ejabberd secret")])
    t, smsc = Tandem(), Smsc(password="p", dlr=1)
    t.write_config("sms", server='"127.0.0.1:%d"' % ejabberd.component_port,
                   server_secret_file=secret_file(t, "ejabberd.secret", "ejabberd secret"))
    try:
        ejabberd.start()
        t.start()
        t.user_add("pat", "pw", "+14445550001")
        await eventually(lambda: t.status()["sms"]["core"] == "up", "connected to ejabberd")
    finally:
        t.stop()
        smsc.stop()
        ejabberd.stop()


@pytest.fixture
def beside_prosody():
    """Our translator as a plain XEP-0114 component of Prosody: (tandem, prosody, smsc)."""
    prosody = Prosody(components=[("sms.localhost", "prosody secret")])
    prosody.accounts(["pat"], "pw")
    prosody.start()
    t, smsc = Tandem(), Smsc(password="p", dlr=1)
    t.write_config("sms", server='"127.0.0.1:%d"' % prosody.component_port,
                   server_secret_file=secret_file(t, "prosody.secret", "prosody secret"))
    try:
        t.start()
        # Custody is the translator's alone there, and so are the numbers.
        t.user_add("pat", "pw", "+14445550001")
        t.link_add("smsc", smsc, prefixes="+1999")
        smsc.wait_bound()
        yield t, prosody, smsc
    finally:
        t.stop()
        smsc.stop()
        prosody.stop()


@in_loop
async def test_translator_beside_prosody(beside_prosody):
    t, prosody, smsc = beside_prosody
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, wait_for, lambda: t.status()["sms"]["core"] == "up",
                               "connected to Prosody")
    p = await login(prosody, Pat)
    m = p.make_message("+19990001@sms.localhost", "through prosody", mtype="chat")
    m["request_receipt"] = True
    m.send()
    r = await p.message(lambda m: m["receipt"])
    assert r["receipt"] == m["id"] and smsc.submits()[0].text == "through prosody"
    smsc.mo("19990001", "14445550001", "an answer")
    assert (await p.message(lambda m: m["body"]))["body"] == "an answer"
    # Prosody is away: what the SMSC delivered meanwhile waits with us.
    p.kill()
    await loop.run_in_executor(None, prosody.process.stop)
    smsc.mo("19990001", "14445550001", "while prosody was away")
    await loop.run_in_executor(None, wait_for, lambda: smsc.stats()["mo_ok"] == 2, "MO answered")
    await loop.run_in_executor(None, prosody.start)
    p = await login(prosody, Pat)
    assert (await p.message(lambda m: m["body"]))["body"] == "while prosody was away"
