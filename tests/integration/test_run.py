"""What "make run" promises (appliance/run.sh)."""
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import tempfile
import time

import pytest

from jsonpeer import NpmClient
from servers import Process, certificate, listens, wait_for
from tandem import BUILD, TOP, Tandem, free_base
from xmpp_peer import in_loop, login


@pytest.fixture(scope="module")
def own():
    """A Tandem that these tests may stop and start."""
    t = Tandem()
    t.start()
    yield t
    t.stop()


class CardAccount:
    def __init__(self, card):
        self.jid, self.password, self.number = card["jid"], card["password"], card["number"]
        self.user, self.domain = self.jid.split("@")


def test_card_file(own):
    path = os.path.join(own.dir, "card.json")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    card = own.card
    assert card["domain"] == "localhost" and card["control"].startswith("/")
    assert card["c2s"] == "127.0.0.1:%d" % own.base
    assert card["c2s_tls"].endswith(":%d" % (own.base + 1))
    assert card["component"].endswith(":%d" % (own.base + 2))
    assert {a["jid"] for a in card["accounts"]} >= {"alice@localhost", "bob@localhost"}
    assert all(len(a["password"]) >= 12 and re.fullmatch(r"\+\d{7,15}", a["number"])
               for a in card["accounts"])
    assert card["handsets"] and all(re.fullmatch(r"\+\d{7,15}", h["number"]) and h["behaviour"]
                                    for h in card["handsets"])


def test_printed_card(own):
    out = own.output()
    for a in own.card["accounts"]:
        assert a["jid"] in out and a["password"] in out
    assert "go-sendxmpp -n -j" in out and str(own.base) in out
    assert own.card["handsets"][0]["number"] in out
    assert re.search(r"log", out, re.I) and re.search(r"SMSC|link add", out)


def shown_command(own):
    """The go-sendxmpp command of the card, lines joined."""
    out = own.output().replace("\\\n", " ")
    commands = [line.strip().lstrip("$ ") for line in out.splitlines() if "go-sendxmpp -n -j" in line]
    assert commands, out
    return commands


def test_the_command_on_the_card(own):
    """Exactly what the card says: an SMS goes out, and an answer comes back to who listens."""
    commands = shown_command(own)
    alice = CardAccount(own.account("alice"))
    listener = Process(["go-sendxmpp", "-n", "-j", own.card["c2s"], "-u", alice.jid, "-p", alice.password,
                        "-l"], os.path.join(own.dir, "go-listen.log"))
    try:
        wait_for(lambda: [s for s in own.ctl("--json", "sessions")["sessions"]
                          if s["jid"].startswith(alice.jid) and s["available"]], "the listener is there")
        senders = [c for c in commands if " -l" not in c]
        assert senders, commands
        done = subprocess.run(["sh", "-c", senders[0]], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        listener.until(lambda: "sms.localhost" in listener.output(), "the handset's answer", 30)
    finally:
        listener.stop(9)


@pytest.mark.parametrize("direct", [False, True])
def test_npm_client(own, direct):
    bob = CardAccount(own.account("bob"))
    peer = NpmClient(own, bob, direct)
    try:
        e = peer.wait_online()
        assert e["event"] == "online" and e["jid"].startswith("bob@localhost/")
        to = "%s@sms.localhost" % own.handset("answer")
        peer.tell(cmd="send", to=to, body="hello from npm", id="n1")
        xml = peer.stanza("hello from npm")
        assert to in xml and "<body>" in xml
    finally:
        peer.stop()


def test_second_one_beside_the_first(own):
    second = Tandem()
    try:
        second.start()
        assert second.base != own.base and second.ready() and own.ready()
        assert second.account("alice")["password"] != own.account("alice")["password"]
    finally:
        second.stop()
    assert own.ready()


def test_port_in_use(own):
    with socket.create_server(("127.0.0.1", 0)) as s:
        base = s.getsockname()[1]
        if base > 65000:
            pytest.fail("no room above port %d" % base)
        t = Tandem(port_base=base)
        try:
            t.spawn()
            t.process.proc.wait(30)
            out = t.output()
            assert t.process.proc.returncode not in (0, None)
            assert str(base) in out and "PORT_BASE" in out
            assert len(out.splitlines()) < 40, "a clear message, not a log"
        finally:
            t.stop()


def test_same_folder_twice(own):
    """A second one in the same folder must not harm the first."""
    t = Tandem(run_dir=own.dir, port_base=free_base())
    t.spawn()
    try:
        t.process.proc.wait(30)
        assert t.process.proc.returncode not in (0, None)
    finally:
        t.stop()
    assert own.ready()


@in_loop
async def test_reload_of_the_certificate(own):
    """SIGHUP: new connections get the new certificate, old ones live on."""
    alice = CardAccount(own.account("alice"))
    p = await login(own, alice)

    def served():
        return ssl.get_server_certificate(("127.0.0.1", own.tls_port))
    before = served()
    crt, key = certificate(own.dir)
    with open(own.config_path()) as f:
        text = f.read()
    files = dict(re.findall(r'(?m)^\s*(certificate_file|key_file)\s*=\s*"([^"]+)"', text))
    for name, new in (("certificate_file", crt), ("key_file", key)):
        path = os.path.join(own.dir, files[name])
        mode = os.stat(path).st_mode
        with open(new) as src, open(path, "w") as dst:
            dst.write(src.read())
        os.chmod(path, stat.S_IMODE(mode))
    os.kill(own.supervisor_pid(), signal.SIGHUP)
    wait_for(lambda: served() != before, "the new certificate", 15)
    await p["xep_0199"].send_ping(alice.jid, timeout=10)
    q = await login(own, CardAccount(own.account("bob")))
    q.send_message(alice.jid, "still here", mtype="chat")
    await p.message(lambda m: m["body"] == "still here")


def test_processes_come_back(own):
    for name in ("tandem-core", "tandem-sms"):
        before = {p["name"]: p for p in own.status()["processes"]}
        os.kill(before[name]["pid"], signal.SIGKILL)

        def back():
            now = {p["name"]: p for p in own.try_status().get("processes", [])}
            return (now and now[name]["pid"] not in (None, 0, before[name]["pid"]) and
                    now[name]["restarts"] == before[name]["restarts"] + 1 and own.ready())
        wait_for(back, "%s is back" % name, 30)


def children_gone(pids):
    return not [p for p in pids if os.path.exists("/proc/%d" % p)]


def test_children_die_with_the_supervisor_and_data_stays(own):
    """kill -9 of tandemd; the next start has the same accounts and is quick."""
    pids = [p["pid"] for p in own.status()["processes"]]
    accounts = own.card["accounts"]
    os.kill(own.supervisor_pid(), signal.SIGKILL)
    wait_for(lambda: children_gone([p for p in pids if p != own.process.pid]), "the children end", 20)
    own.process.stop(9)
    start = time.monotonic()
    own.start()
    assert time.monotonic() - start < 15
    assert own.card["accounts"] == accounts
    # A second run refers to the card file for the passwords.
    assert "card.json" in own.output()


def test_ctrl_c_stops_everything(own):
    pids = [p["pid"] for p in own.status()["processes"]]
    os.killpg(own.process.pid, signal.SIGINT)
    own.process.proc.wait(20)
    assert own.process.proc.returncode in (0, 130, -signal.SIGINT)
    wait_for(lambda: children_gone(pids), "the children end", 5)
    with pytest.raises(OSError):
        listens(own.base)
    own.start()


def test_configuration_errors_name_file_and_line(own):
    """At start and by config check: file, line and reason."""
    path = os.path.join(own.dir, "bad.conf")
    with open(own.config_path()) as f:
        good = f.read()
    for line, reason in (("no_such_option = 5", "no_such_option"), ('workers = "many"', "workers"),
                         ("workers = 1000", "workers"), ('c2s { tls = "perhaps" }', "tls"),
                         ('c2s { listen = {"nonsense:port"} }', "listen"), ("limits {", None)):
        with open(path, "w") as f:
            f.write("# comment\n" + line + "\n" + good)
        p = own.ctl("config", "check", path, check=False)
        said = p.stdout + p.stderr
        assert p.returncode == 1, (line, said)
        assert reason is None or reason in said, (line, said)
        assert re.search(r"bad\.conf:\d+", said), (line, said)
        if reason:
            assert "bad.conf:2" in said, (line, said)
    p = own.ctl("config", "check", own.config_path(), check=False)
    assert p.returncode == 0, p.stdout + p.stderr


def cannot_serve(argv, **more):
    """What a program that cannot serve says; it must end by itself, with a status."""
    p = subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, **more)
    assert p.returncode not in (0, None), p.stderr
    return p.stdout + p.stderr


def test_errors_say_what_to_do():
    """A certificate, a state folder and a socket that are not as they should be."""
    t = Tandem()
    t.start()
    tandemd = [os.path.join(BUILD, "tandemd"), "--fail-fast", "--config"]
    other = os.path.join(t.dir, "other.conf")
    try:
        assert "tandemctl stop" in cannot_serve(tandemd + [t.config_path()])
        with open(t.config_path()) as f:
            text = f.read()
        t.stop(remove=False)
        # A key that belongs to another certificate: config check and the start name the host.
        crt, key = certificate(t.dir)
        os.chmod(key, 0o600)
        with open(other, "w") as f:
            f.write(text.replace("localhost.key", os.path.basename(key)))
        said = cannot_serve([os.path.join(BUILD, "tandemctl"), "config", "check", other])
        assert "host[localhost]" in said and os.path.basename(key) in said and "does not match" in said
        assert "host[localhost]: certificate_file, key_file: " in cannot_serve(tandemd + [other])
    finally:
        t.stop()


def test_expired_certificate_is_told():
    t = Tandem()
    crt, key, csr = (os.path.join(t.dir, x) for x in ("localhost.crt", "localhost.key", "csr"))
    for argv in (["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key],
                 ["req", "-new", "-key", key, "-subj", "/CN=localhost", "-out", csr],
                 ["x509", "-req", "-in", csr, "-signkey", key, "-days", "-1", "-out", crt]):
        subprocess.run(["openssl"] + argv, check=True, capture_output=True)
    os.chmod(key, 0o600)
    try:
        t.start()
        assert "ev=certificate.expired host=localhost days_ago=1" in t.log_text()
        p = t.ctl("config", "check", t.config_path(), check=False)
        assert p.returncode == 0 and "has expired" in p.stderr
    finally:
        t.stop()


def test_state_folder_that_is_in_use():
    """Who still has it is waited for, and the log says so."""
    t = Tandem()
    folder = os.path.join(t.dir, "state", "core")
    os.makedirs(folder, 0o755)
    try:
        with open(os.path.join(folder, "lock"), "w") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            t.spawn()
            wait_for(lambda: os.path.exists(os.path.join(t.dir, "tandem.log")) and
                     "ev=jail.lock.wait" in t.log_text(), "the word that it waits", 30)
            assert "ev=child.failed" not in t.log_text() and not t.output()
        t.process.until(t.ready, "Tandem once it is free", 30)
    finally:
        t.stop()


def test_state_of_another_user():
    """An ordinary user meets a folder that root has left."""
    if os.getuid():
        return                              # only root can leave one
    t = Tandem()
    copy = os.path.join(t.dir, "copy")
    os.makedirs(os.path.join(t.dir, "state"))
    os.mkdir(copy)
    for name in ("tandemd", "tandemctl", "tandem-core", "tandem-sms"):
        shutil.copy(os.path.join(BUILD, name), copy)
    for name in ("run.sh", "run-extra.awk"):
        shutil.copy(os.path.join(TOP, "appliance", name), copy)
    subprocess.run(["chown", "nobody", t.dir, copy], check=True)
    try:
        said = cannot_serve(as_nobody() + ["sh", os.path.join(copy, "run.sh")], cwd=t.dir,
                            env=dict(t.env, BUILD=copy))
        assert "Permission denied" in said and "chown" in said and "cannot make" in said, said
    finally:
        t.stop()


def test_bad_configuration_is_not_applied(own):
    with open(own.config_path()) as f:
        good = f.read()
    try:
        with open(own.config_path(), "w") as f:
            f.write(good + "\nno_such_option = 1\n")
        p = own.ctl("reload", check=False)
        assert p.returncode == 1 and "no_such_option" in p.stdout + p.stderr
        assert own.ready()
        os.unlink(own.config_path())
        for make, text in ((os.mkfifo, "not a plain file"), (lambda name: None, "No such file"),
                           (lambda name: os.symlink(name, name), "symbolic links")):
            make(own.config_path())
            p = own.ctl("reload", check=False, timeout=10)
            assert p.returncode == 1 and text in p.stderr, p.stderr
            assert own.ready()
            if os.path.lexists(own.config_path()):
                os.unlink(own.config_path())
    finally:
        with open(own.config_path(), "w") as f:
            f.write(good)
    own.ctl("reload")


def as_nobody():
    """What a command begins with; nothing when these tests are an ordinary user's themselves."""
    return [] if os.getuid() else ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


def test_ordinary_user_with_a_closed_home():
    """From a folder that only an ordinary user may enter: it runs and says what it could not do."""
    t = Tandem()
    copy = os.path.join(t.dir, "copy")      # our own folder may be closed to nobody
    os.mkdir(copy)
    for path in [os.path.join(TOP, "appliance", x) for x in ("run.sh", "run-extra.awk")] + \
            [os.path.join(BUILD, x) for x in ("tandemd", "tandemctl", "tandem-core", "tandem-sms")]:
        shutil.copy(path, copy)
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", "nobody", t.dir], check=True)
    os.chmod(t.dir, 0o700)
    t.env = dict(t.env, HOME=t.dir, BUILD=copy)
    try:
        t.process = Process(as_nobody() + ["sh", os.path.join(copy, "run.sh")],
                            os.path.join(t.dir, "test-run.log"), t.env, cwd=t.dir)
        t.process.until(t.ready, "Tandem as an ordinary user", 60)
        assert "ev=jail.partial" in t.log_text()
    finally:
        t.stop()


def test_root_with_a_closed_home(own):
    """Started by root below a folder that only somebody else's account may enter."""
    if os.getuid():
        return                              # the test above was that
    home = tempfile.mkdtemp(prefix="tandem-home-")
    os.chmod(home, 0o700)
    t = Tandem(run_dir=os.path.join(home, "tandem", "run"))
    os.makedirs(t.dir)
    subprocess.run(["chown", "-R", "nobody", home], check=True)
    try:
        t.start()
        assert t.account("alice")["password"]
    finally:
        t.stop()
        shutil.rmtree(home)


def test_extra_conf_counts(own):
    """What extra.conf sets is left out of what run.sh writes, and no more than that."""
    t = Tandem()
    extra = os.path.join(t.dir, "extra.conf")
    with open(extra, "w") as f:
        f.write("# limits { connections = 5 }\nlimits { stanzas_per_second = 77\n"
                "\t/* octets_per_second = 3 */ connections = 200000 }\n"
                "c2s { tls = optional listen = {\"127.0.0.1:%d\",\n \"[::1]:%d\"} }\n"
                "handset \"+15550104\" { behaviour = answer }\nhandset '+15550103'\n"
                "{ behaviour = silent\n}\n" % (t.base, t.base + 5))
    try:
        t.start()
        with open(t.config_path()) as f:
            text = f.read()
        for word in ("stanzas_per_second", "octets_per_second = 0", "tls = ", "listen = ", "+15550103",
                     "+15550104", "+15550102", "country_code", "certificate_file"):
            times = 2 if word == "listen = " else 1       # c2s and components
            assert len(re.findall(r"\b" + re.escape(word) if word[0].isalpha() else re.escape(word),
                                  text)) == times, (word, text)
        listening = [x["address"] for p in t.status()["processes"] for x in p["listen"]]
        assert "[::1]:%d" % (t.base + 5) in listening or not os.path.exists("/proc/net/if_inet6")
        t.stop(remove=False)
        with open(extra, "w") as f:
            f.write("no_such_thing = 5\n")
        t.spawn()
        t.process.proc.wait(30)
        assert t.process.proc.returncode not in (0, None) and "no_such_thing" in t.output()
    finally:
        t.stop()


def test_make_run_form(own):
    """The Makefile passes RUN_DIR, PORT_BASE and C2S_TLS on; -n shows what would run."""
    out = subprocess.run(["make", "-n", "run", "RUN_DIR=/tmp/x", "PORT_BASE=20000", "C2S_TLS=optional",
                          "O=" + BUILD], capture_output=True, text=True,
                         cwd=TOP)
    assert "run.sh" in out.stdout and "RUN_DIR='/tmp/x'" in out.stdout and "20000" in out.stdout


def test_plain_clients_only_when_asked_for():
    t = Tandem(c2s_tls="optional")
    try:
        t.start()
        assert re.search(r"WITHOUT ENCRYPTION|without TLS", t.output(), re.I)
        s = socket.create_connection(("127.0.0.1", t.port))
        s.sendall(b"<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
                  b"xmlns:stream='http://etherx.jabber.org/streams'>")
        got = b""
        while b"</stream:features>" not in got:
            got += s.recv(4096) or pytest.fail("closed: %r" % got)
        assert b"SCRAM-SHA-256" in got and b"<mechanism>PLAIN</mechanism>" not in got
        assert b"<required/>" not in got
    finally:
        t.stop()


def test_status_json(own):
    names = {p["name"] for p in json.loads(json.dumps(own.status()))["processes"]}
    assert {"tandem-core", "tandem-sms"} <= names
