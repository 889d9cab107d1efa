"""tandemctl, as scripts use it."""
import os
import re
import socket
import struct
import subprocess
import threading

import pytest

from smsc import Smsc
from servers import verifiers, wait_for
from tandem import BUILD, CtlError
from xmpp_peer import LoginFailed, in_loop, login

COMMANDS = ["status", "user add", "user delete", "user password", "user number", "user list", "user import",
            "sessions", "link list", "link add", "component list", "component add", "queue list",
            "queue show", "queue retry", "queue drop", "counters", "log-level", "trace", "reload"]


def raw(*argv, stdin=""):
    return subprocess.run([os.path.join(BUILD, "tandemctl")] + list(argv), input=stdin,
                          capture_output=True, text=True, timeout=30)


def test_help():
    p = raw("--help")
    assert p.returncode == 0
    for c in COMMANDS:
        assert c in p.stdout, c
    p = raw("link", "add", "--help")
    assert p.returncode == 0 and "--system-id" in p.stdout and "--password-stdin" in p.stdout


def test_wrong_usage_says_what_was_meant():
    for words, said in (("statsu", "did you mean status"), ("qeue list", "did you mean queue list"),
                        ("user", "tandemctl user add JID"), ("user add", "jid is missing"),
                        ("link add x --prot 1", "did you mean port"), ("link add x", "--host is missing"),
                        ("user add a@b --nunber 1", "Try: tandemctl user add --help"),
                        ("frobnicate", "unknown command frobnicate\n")):
        p = raw(*words.split())
        assert p.returncode == 2 and said in p.stderr and not p.stdout, (words, p)
    p = raw("user", "--help")
    assert p.returncode == 0 and "tandemctl user add JID" in p.stdout and not p.stderr


def test_exit_codes(tandem):
    assert raw("--control", "/nonexistent/socket", "status").returncode == 3
    assert raw("--control", tandem.control, "no", "such").returncode == 2
    assert raw("--control", tandem.control, "user", "add").returncode == 2
    assert raw("--control", tandem.control, "status", "--nonsense").returncode == 2
    p = tandem.ctl("user", "delete", "nobody-there@" + tandem.domain, check=False)
    assert p.returncode == 1 and p.stderr.strip() and not p.stdout.strip()
    p = tandem.ctl("--json", "user", "delete", "nobody-there@" + tandem.domain, check=False)
    assert p.returncode == 1 and '"notfound"' in p.stdout


def test_status(tandem):
    s = tandem.status()
    assert s["ready"] is True
    for p in s["processes"]:
        assert p["name"] and p["restarts"] >= 0 and os.path.exists("/proc/%d" % p["pid"])
    core = s["core"]
    attached = core["sessions"] - core["detached"]
    assert core["components"] >= 1 and attached <= core["connections"] - core["components"]
    text = tandem.ctl("status")
    assert "tandem-core" in text and "tandem-sms" in text


@in_loop
async def test_life_of_a_user(tandem, account):
    a = account(number=True)
    with pytest.raises(CtlError) as e:
        tandem.user_add(a.user, "again")
    assert e.value.status == 1 and "exist" in str(e.value)
    users = tandem.ctl("--json", "user", "list", "--limit", "1000")["users"]
    assert {"jid": a.jid, "numbers": [a.number]}.items() <= next(
        u for u in users if u["jid"] == a.jid).items()
    p = await login(tandem, a)
    (s,) = tandem.ctl("--json", "sessions", a.jid)["sessions"]
    assert s["jid"] == p.boundjid.full and s["available"] and s["tls"]
    tandem.ctl("user", "password", a.jid, "--password-stdin", stdin="new password\n")
    await p.wait_until("disconnected", 10)
    p.kill()
    with pytest.raises(LoginFailed):
        await login(tandem, a)
    a.password = "new password"
    q = await login(tandem, a)
    tandem.ctl("user", "delete", a.jid)
    await q.wait_until("disconnected", 10)
    with pytest.raises(LoginFailed):
        await login(tandem, a)
    assert a.jid not in [u["jid"] for u in
                         tandem.ctl("--json", "user", "list", "--limit", "1000")["users"]]


def test_number_belongs_to_one(tandem, account):
    a, b = account(number=True), account()
    p = tandem.ctl("user", "number", b.jid, a.number, check=False)
    assert p.returncode == 1 and a.jid in p.stderr
    tandem.ctl("user", "number", a.jid, "")
    tandem.ctl("user", "number", b.jid, a.number)
    p = tandem.ctl("user", "add", "x@" + tandem.domain, "--number", "12", "--password-stdin",
                   stdin="p\n", check=False)
    assert p.returncode in (1, 4) and p.stderr


@in_loop
async def test_import_verifiers(tandem, tmp_path):
    """20,000 accounts with verifiers; they can log in."""
    path = tmp_path / "users.txt"
    keys = " ".join(verifiers("imported"))
    with open(path, "w") as f:
        f.write("# JID, verifiers, number\n\n")
        for n in range(20000):
            f.write("imp%d@%s\t%s\t%s\n" % (n, tandem.domain, keys, "+1444300%04d" % n if n < 100 else ""))
    p = tandem.ctl("user", "import", str(path), check=False, timeout=110)
    assert p.returncode == 0, p.stderr[-1000:]
    assert re.search(r"20[,.]?000", p.stdout + p.stderr)
    assert p.stderr.count("20000 accounts") == 1, p.stderr     # also when it is not a terminal

    class A:
        user, password, domain, jid = "imp19999", "imported", tandem.domain, "imp19999@" + tandem.domain
    await login(tandem, A)
    # Once more: every line is refused, and nothing is harmed.
    with open(path, "w") as f:
        f.write("imp0@%s\tother\t\nnew0@%s\tsecret pass\t+14443019999\nnot a jid@@\tx\t\n" %
                (tandem.domain, tandem.domain))
    p = tandem.ctl("user", "import", str(path), check=False)
    assert p.returncode == 4 and "imp0@" in p.stdout + p.stderr

    class B:
        user, password, domain, jid = "new0", "secret pass", tandem.domain, "new0@" + tandem.domain
    await login(tandem, B)


@in_loop
async def test_import_passwords(tandem, tmp_path):
    """Each gets its own verifiers ("make bench" measures how long 20,000 take)."""
    path = tmp_path / "users.csv"
    with open(path, "w") as f:
        for n in range(1000):
            f.write("pw%d@%s,password %d\n" % (n, tandem.domain, n))
    tandem.ctl("user", "import", str(path))
    for n in (0, 499, 999):
        class C:
            user, password = "pw%d" % n, "password %d" % n
            domain, jid = tandem.domain, "pw%d@%s" % (n, tandem.domain)
        await login(tandem, C)


def test_links(tandem):
    smsc = Smsc(password="right")
    try:
        tandem.link_add("ctl-link", smsc, password="right", prefixes="+1998")
        smsc.wait_bound()

        def bound():
            (x,) = [x for x in tandem.ctl("--json", "link", "list")["links"] if x["name"] == "ctl-link"]
            return x["state"].lower() == "bound" and x
        x = wait_for(bound, "the link is bound")
        assert x["host"] == "127.0.0.1" and x["port"] == smsc.port and x["system_id"] == "u"
        assert "right" not in tandem.ctl("--json", "link", "list").__str__()
        p = tandem.ctl("link", "add", "ctl-link", "--host", "127.0.0.1", "--port", "1", "--system-id", "u",
                       "--password-stdin", stdin="p\n", check=False)
        assert p.returncode == 1
        p = tandem.ctl("link", "add", "other", "--host", "127.0.0.1", "--port", "99999", "--system-id", "u",
                       "--password-stdin", stdin="p\n", check=False)
        assert p.returncode in (1, 2)
        tandem.ctl("link", "disable", "ctl-link")
        wait_for(lambda: smsc.stats()["bound"] == 0, "unbound")
        tandem.ctl("link", "enable", "ctl-link")
        smsc.wait_bound()
        tandem.ctl("link", "delete", "ctl-link")
        wait_for(lambda: smsc.stats()["bound"] == 0, "unbound")
        assert tandem.ctl("link", "delete", "ctl-link", check=False).returncode == 1
    finally:
        smsc.stop()


@in_loop
async def test_queue(tandem, account, link):
    x = link(bound=True)
    tandem.ctl("link", "disable", x.name)
    wait_for(lambda: x.smsc.stats()["bound"] == 0, "unbound")
    me = account(number=True)
    a = await login(tandem, me)
    for n in range(3):
        a.send_message(x.jid(n), "waits %d" % n, mtype="chat")

    def mine():
        return [m for m in tandem.ctl("--json", "queue", "list", "--state", "queued")["messages"]
                if m["from"].startswith(me.jid)]
    import asyncio
    await asyncio.get_running_loop().run_in_executor(None, lambda: wait_for(
        lambda: len(mine()) == 3, "three wait"))
    first = next(m for m in mine() if m["to_number"] == x.number(0))
    shown = tandem.ctl("--json", "queue", "show", first["message"])["message"]
    assert shown["from_number"] == me.number and shown["state"] == "queued"
    assert "waits" not in str(shown)
    assert tandem.ctl("queue", "show", "999999999", check=False).returncode == 1
    tandem.ctl("queue", "drop", first["message"])
    m = await a.message(lambda m: m["type"] == "error")
    assert m["from"].bare == x.jid(0) and m["error"]["text"]
    tandem.ctl("link", "enable", x.name)
    x.smsc.wait_bound()
    for m in mine():
        tandem.ctl("queue", "retry", m["message"], check=False)
    await asyncio.get_running_loop().run_in_executor(None, x.smsc.wait_submits, 2)
    assert {s.text for s in x.smsc.submits()} == {"waits 1", "waits 2"}
    counts = tandem.ctl("--json", "queue", "list")["counts"]
    assert {"queued", "submitted", "accepted", "delivered", "failed", "expired"} <= set(counts)


def test_counters_and_log_level(tandem):
    c = tandem.ctl("--json", "counters")["counters"]
    assert c["core"] and c["sms"]
    assert all(isinstance(v, int) for group in c.values() for v in group.values())
    before = tandem.ctl("--json", "log-level")["levels"]
    assert before
    tandem.ctl("log-level", "debug")
    assert set(tandem.ctl("--json", "log-level")["levels"].values()) == {"debug"}
    assert tandem.ctl("log-level", "deafening", check=False).returncode in (1, 2)
    tandem.ctl("log-level", "info")


@in_loop
async def test_trace(tandem, account, link):
    import asyncio
    x, me = link(), account(number=True)
    a = await login(tandem, me)
    p = subprocess.Popen([os.path.join(BUILD, "tandemctl"), "--control", tandem.control, "trace", me.jid,
                          "--seconds", "30"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    threading.Thread(target=lambda: lines.extend(iter(p.stdout.readline, "")), daemon=True).start()

    async def seen():
        for n in range(200):
            a.send_message(x.jid(), "secret words %d" % n, mtype="chat")
            await asyncio.sleep(0.1)
            if lines:
                return
    await seen()
    p.terminate()
    p.wait(10)
    assert lines, "no trace line"
    assert not [x for x in lines if "secret words" in x and "debug" not in x.lower()]


def frame(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack(">I", len(data)) + data


def test_control_socket_garbage(tandem):
    """A malformed frame gets an error or the end of the connection; tandemd goes on."""
    def exchange(data):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(tandem.control)
            s.sendall(data)
            got = b""
            try:
                while chunk := s.recv(65536):
                    got += chunk
                    if got.endswith(b"}") and b'"result"' in got:
                        break
            except (ConnectionResetError, BrokenPipeError):
                pass
            return got
    for data in (struct.pack(">I", 0xffffffff) + b"x", struct.pack(">I", 0), frame("not json"), frame("[1]"),
                 frame("5"), frame('{"id":1,"id":2,"command":"status"}'), frame(b"\xff\xfe{}"),
                 frame('{"id":"x","command":"status"}'), frame('{"id":1}'), frame("[" * 100000)):
        got = exchange(data)
        assert b'"error"' in got, (data[:40], got[:200])
    assert b'"syntax"' in exchange(frame('{"id":1,"command":"status","args":{"nonsense":1}}') + frame("x"))
    assert b'"result"' in exchange(frame('{"id":1,"command":"status"}'))
    # Half a frame, and away.
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(tandem.control)
        s.sendall(struct.pack(">I", 1000) + b"{")
    # More connections than there may be: the others are refused, and it recovers.
    many = []
    for _ in range(40):
        s = socket.socket(socket.AF_UNIX)
        s.connect(tandem.control)
        many.append(s)
    for s in many:
        s.close()
    wait_for(tandem.ready, "tandemd answers")


def test_control_socket_is_private(tandem):
    assert os.stat(tandem.control).st_mode & 0o077 == 0
