"""tandem-core alone, at its end of the socketpair: every command of docs/control-protocol.md that it answers."""
import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile

import pytest

BUILD = os.environ.get("BUILD", "build")
NS = "xmlns='urn:ietf:params:xml:ns:xmpp-"
OPEN = ("<stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
        "xmlns:stream='http://etherx.jabber.org/streams'>")
# RFC 7677: user, pencil
PENCIL = ("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
          "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Core:
    """The parent's end."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="tandem-core-")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self.dir + "/k.pem",
                        "-out", self.dir + "/c.pem", "-days", "30", "-subj", "/CN=localhost"],
                       check=True, stderr=subprocess.DEVNULL)
        self.port, self.component = free_port(), free_port()
        self.config = {
            "state_dir": self.dir, "workers": 2, "log_level": "info",
            "host": [{"name": "localhost", "certificate": open(self.dir + "/c.pem").read(),
                      "key": open(self.dir + "/k.pem").read()}],
            "c2s": {"listen": ["127.0.0.1:%d" % self.port], "listen_tls": [], "tls": "optional"},
            "components": {"listen": ["127.0.0.1:%d" % self.component]},
            "sms": {"domain": "sms.localhost"}}
        self.n = 0

    def start(self):
        ours, theirs = socket.socketpair()
        self.log = open(self.dir + "/log", "ab")
        self.process = subprocess.Popen(
            [os.path.join(BUILD, "tandem-core")], stderr=self.log, close_fds=False,
            preexec_fn=lambda: (os.dup2(theirs.fileno(), 3), os.set_inheritable(3, True)))
        theirs.close()
        ours.settimeout(30)
        self.socket = ours
        return self.ask("config", **self.config)

    def send(self, message):
        data = json.dumps(message).encode()
        self.socket.sendall(struct.pack(">I", len(data)) + data)

    def exactly(self, n):
        data = b""
        while len(data) < n:
            piece = self.socket.recv(n - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def receive(self):
        return json.loads(self.exactly(struct.unpack(">I", self.exactly(4))[0]))

    def request(self, command, **args):
        self.n += 1
        self.send({"id": self.n, "command": command, "args": args})
        return self.n

    def ask(self, command, **args):
        n = self.request(command, **args)
        answer = self.receive()
        assert answer["id"] == n
        return answer.get("result", answer.get("error"))

    def stop(self):
        assert self.ask("stop") == {}
        assert self.process.wait(15) == 0
        self.socket.close()


@pytest.fixture(scope="module")
def core():
    c = Core()
    c.start()
    yield c
    c.stop()
    shutil.rmtree(c.dir)


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(10)
        self.data = ""

    def send(self, text):
        self.socket.sendall(text.encode())

    def until(self, text):
        while text not in self.data:
            piece = self.socket.recv(65536)
            assert piece, "closed after " + self.data
            self.data += piece.decode()
        before, self.data = self.data.split(text, 1)
        return before + text

    def login(self, user, password):
        def b64(s):
            return base64.b64encode(s if isinstance(s, bytes) else s.encode()).decode()
        self.send(OPEN)
        self.until("</stream:features>")
        first = "n=%s,r=abcdefgh" % user
        self.send("<auth %ssasl' mechanism='SCRAM-SHA-256'>%s</auth>" % (NS, b64("n,," + first)))
        server = base64.b64decode(re.search(">([^<]+)</challenge>",
                                            self.until("</challenge>")).group(1)).decode()
        nonce, salt, count = (x[2:] for x in server.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(count))
        key = hmac.new(salted, b"Client Key", "sha256").digest()
        last = "c=biws,r=" + nonce
        sig = hmac.new(hashlib.sha256(key).digest(), ",".join((first, server, last)).encode(),
                       "sha256").digest()
        proof = b64(bytes(x ^ y for x, y in zip(key, sig)))
        self.send("<response %ssasl'>%s</response>" % (NS, b64(last + ",p=" + proof)))
        while "</success>" not in self.data and "</failure>" not in self.data:
            self.data += self.socket.recv(65536).decode()
        if "</failure>" in self.data:
            return False
        self.data = ""
        self.send(OPEN + "<iq type='set' id='b'><bind %sbind'><resource>desk</resource></bind></iq>" % NS)
        self.until("</iq>")
        return True


def test_account(core):
    assert core.ask("user.add", jid="Alice@LocalHost", password="wonder") == {"jid": "alice@localhost"}
    assert core.ask("user.add", jid="alice@localhost", password="x")["code"] == "exists"
    assert core.ask("user.get", jid="ALICE@localhost")["online"] == 0
    a = Client(core.port)
    assert not Client(core.port).login("alice", "wrong")
    assert a.login("alice", "wonder")
    assert core.ask("user.get", jid="alice@localhost")["online"] == 1
    # a new password ends the sessions, and takes the place of the old one
    assert core.ask("user.password", jid="alice@localhost", password="land") == {"jid": "alice@localhost"}
    assert "<not-authorized" in a.until("</stream:stream>")
    assert not Client(core.port).login("alice", "wonder")
    b = Client(core.port)
    assert b.login("alice", "land")
    assert core.ask("user.delete", jid="alice@localhost") == {"jid": "alice@localhost"}
    assert "<stream:error>" in b.until("</stream:stream>")
    assert core.ask("user.get", jid="alice@localhost")["code"] == "notfound"
    assert core.ask("user.delete", jid="alice@localhost")["code"] == "notfound"
    assert core.ask("user.password", jid="alice@localhost", password="x")["code"] == "notfound"


@pytest.mark.parametrize("args,code", [
    ({"jid": "alice", "password": "x"}, "syntax"),
    ({"jid": "alice@localhost/desk", "password": "x"}, "syntax"),
    ({"jid": "a b@localhost", "password": "x"}, "syntax"),
    ({"jid": "alice@elsewhere.test", "password": "x"}, "notfound"),
    ({"jid": "alice@sms.localhost", "password": "x"}, "notfound"),
    ({"jid": "alice@localhost"}, "syntax"),
    ({"jid": "alice@localhost", "password": ""}, "syntax"),
    ({"jid": "alice@localhost", "password": "a\u0007b"}, "syntax"),
    ({"jid": "alice@localhost", "password": "x", "verifiers": [PENCIL]}, "syntax"),
    ({"jid": "alice@localhost", "verifiers": []}, "syntax"),
    ({"jid": "alice@localhost", "verifiers": ["nonsense"]}, "syntax"),
    ({"jid": "alice@localhost", "verifiers": [PENCIL.replace("4096", "1")]}, "range"),
    ({"jid": "alice@localhost", "verifiers": [7]}, "syntax"),
    ({"jid": "alice@localhost", "pasword": "x"}, "syntax"),
    ({"password": "x"}, "syntax"),
])
def test_refused(core, args, code):
    assert core.ask("user.add", **args)["code"] == code


def test_import(core):
    users = [{"jid": "v%d@localhost" % i, "verifiers": [PENCIL]} for i in range(300)]
    users += [{"jid": "p%d@localhost" % i, "password": "pw%d" % i} for i in range(20)]
    users += [{"jid": "bad@", "password": "x"}, {"jid": "x@localhost"}, 5, {}]
    r = core.ask("user.import", users=users)
    assert (r["added"], r["updated"], len(r["refused"])) == (320, 0, 4)
    assert {x["code"] for x in r["refused"]} == {"syntax"}
    r = core.ask("user.import", users=users[:2])
    assert (r["added"], [x["code"] for x in r["refused"]]) == (0, ["exists", "exists"])
    r = core.ask("user.import", users=[{"jid": "v0@localhost", "password": "new"}], replace=True)
    assert (r["added"], r["updated"], r["refused"]) == (0, 1, [])
    assert Client(core.port).login("v0", "new")
    assert Client(core.port).login("v1", "pencil")
    assert Client(core.port).login("p7", "pw7")
    assert core.ask("user.import", users=[{}] * 1001)["code"] in ("toobig", "range", "limit")


def test_list(core):
    core.ask("user.import", users=[{"jid": "l%d@localhost" % i, "verifiers": [PENCIL]} for i in range(9)],
             replace=True)
    seen, after = [], None
    for _ in range(1000):
        r = core.ask("user.list", limit=4, **({"after": after} if after else {}))
        seen += [u["jid"] for u in r["users"]]
        after = r.get("next")
        if not after:
            break
    assert seen == sorted(set(seen), key=lambda j: j.split("@")) and {"l%d@localhost" % i for i in range(9)} <= set(seen)
    assert core.ask("user.list", host="elsewhere.test")["users"] == []
    assert core.ask("user.list", limit=1001)["code"] in ("range", "toobig")


def test_sessions_status_trace(core):
    core.ask("user.add", jid="sue@localhost", verifiers=[PENCIL])
    n = core.request("trace", jid="sue@localhost", seconds=2)
    c = Client(core.port)
    assert c.login("sue", "pencil")
    c.send("<enable xmlns='urn:xmpp:sm:3'/><presence><priority>3</priority></presence>"
           "<message to='nobody@localhost' id='secretid'><body>secret text</body></message>")
    c.until("<presence")
    lines = []
    while True:
        m = core.receive()
        if m.get("event"):
            lines.append(m["event"]["line"])
        else:
            assert m["id"] == n
            break
    assert any("kind=message" in x and "secretid" in x for x in lines)
    assert not any("secret text" in x for x in lines)
    s = core.ask("sessions", jid="sue@localhost")
    assert s["total"] == 1
    one = s["sessions"][0]
    assert one["jid"] == "sue@localhost/desk" and one["mechanism"] == "SCRAM-SHA-256"
    assert one["sm"] is True and one["available"] is True and one["priority"] == 3
    assert one["attached"] is True and one["peer"].startswith("127.0.0.1:") and one["tls"] == ""
    st = core.ask("status")
    assert st["workers"] == 2 and st["sessions"] >= 1 and st["accounts_online"] >= 1
    assert core.ask("counters")["core.auth.ok"] >= 1
    assert core.ask("sessions", jid="not a jid@@")["code"] == "syntax"
    assert core.ask("trace")["code"] == "syntax"
    assert core.ask("status", extra=1)["code"] == "syntax"
    assert core.ask("no.such")["code"] in ("notfound", "unsupported", "syntax")


def handshake(core, domain, secret):
    c = Client(core.component)
    c.send("<stream:stream to='%s' xmlns='jabber:component:accept' "
           "xmlns:stream='http://etherx.jabber.org/streams'>" % domain)
    head = c.until(">") + c.until(">")
    sid = re.search("id='([^']+)'", head)
    if not sid or "host-unknown" in head + c.data:
        return c, False
    c.send("<handshake>%s</handshake>" % hashlib.sha1((sid.group(1) + secret).encode()).hexdigest())
    while "<handshake/>" not in c.data and "<stream:error>" not in c.data:
        piece = c.socket.recv(65536).decode()
        if not piece:
            break
        c.data += piece
    return c, "<handshake/>" in c.data


def test_components(core):
    names = {x["domain"]: x for x in core.ask("component.list")["components"]}
    assert names["sms.localhost"]["ours"] and names["sms.localhost"]["source"] == "config"
    assert not handshake(core, "irc.localhost", "s3cret")[1]
    assert core.ask("component.add", domain="IRC.localhost", secret="s3cret") == {"domain": "irc.localhost"}
    assert core.ask("component.add", domain="irc.localhost", secret="x")["code"] == "exists"
    assert core.ask("component.add", domain="localhost", secret="x")["code"] == "exists"
    assert core.ask("component.add", domain="a b", secret="x")["code"] == "syntax"
    assert core.ask("component.add", domain="x.localhost", secret="")["code"] == "syntax"
    assert not handshake(core, "irc.localhost", "wrong")[1]
    c, ok = handshake(core, "irc.localhost", "s3cret")
    assert ok
    names = {x["domain"]: x for x in core.ask("component.list")["components"]}
    assert names["irc.localhost"]["source"] == "command" and names["irc.localhost"]["streams"] == 1
    assert core.ask("component.delete", domain="irc.localhost") == {"domain": "irc.localhost"}
    assert "<host-gone" in c.until("</stream:stream>")
    assert core.ask("component.delete", domain="irc.localhost")["code"] == "notfound"
    assert core.ask("component.delete", domain="sms.localhost")["code"] == "denied"
    assert not handshake(core, "irc.localhost", "s3cret")[1]


def test_reload(core):
    core.config["limits"] = {"connections_per_address": 3}
    assert core.ask("config", **core.config)["applied"] == ["limits.connections_per_address"]
    clients = [Client(core.port) for _ in range(5)]
    refused = 0
    for c in clients:
        c.send(OPEN)
        try:
            while "</stream:features>" not in c.data and "</stream:error>" not in c.data:
                piece = c.socket.recv(65536)
                if not piece:
                    break
                c.data += piece.decode()
        except ConnectionError:
            pass
        refused += "</stream:features>" not in c.data
    assert refused >= 2
    core.config["limits"] = {"connections_per_address": 200}
    core.ask("config", **core.config)
    bad = dict(core.config, host=[{"name": "localhost", "certificate": "x", "key": "y"}])
    assert "code" in core.ask("config", **bad)
    for c in clients:
        c.socket.close()
    assert core.ask("status")["workers"] == 2


def test_restart_keeps_all():
    c = Core()
    c.start()
    c.ask("user.add", jid="zoe@localhost", verifiers=[PENCIL])
    c.ask("component.add", domain="irc.localhost", secret="s")
    c.stop()
    c.start()
    assert Client(c.port).login("zoe", "pencil")
    assert handshake(c, "irc.localhost", "s")[1]
    # the end of the parent is the end of the child, with everything committed
    c.socket.close()
    assert c.process.wait(15) == 0
    shutil.rmtree(c.dir)


def test_cannot_serve():
    c = Core()
    with socket.socket() as s:
        s.bind(("127.0.0.1", c.port))
        s.listen()
        r = c.start()
    assert str(c.port) in r["text"]
    assert c.process.wait(15) != 0
    shutil.rmtree(c.dir)
