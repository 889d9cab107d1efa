"""Short messages out and back, with SMS centres that we did not write (npm smpp, Kannel's drive_smpp) and one that
misbehaves as told (tests/peers/smsc.c)."""
import asyncio
import os
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from jsonpeer import NpmSmsc
from servers import Process, wait_for
from xmpp_peer import in_loop, login

EURO_TEXT = "\u20ac{}[]~|\\^ and \u00e4\u00f6\u00fc\u00df\u00e9\u00f1"


async def elsewhere(function, *args, **kwargs):
    """Run what blocks beside the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, lambda: function(*args, **kwargs))


def text_of(client, jid, body, receipt=True):
    m = client.make_message(jid, body, mtype="chat")
    if receipt:
        m["request_receipt"] = True
    m.send()
    return m["id"]


# --- the simulated handsets: what "make run" shows ------------------------------------------------

@in_loop
async def test_handset_reports_and_answers(tandem, account):
    a = await login(tandem, account(number=True))
    to = "%s@sms.%s" % (tandem.handset("answer"), tandem.domain)
    mid = text_of(a, to, "hello handset")
    r = await a.message(lambda m: m["receipt"])
    assert r["receipt"] == mid and r["from"].bare == to
    m = await a.message(lambda m: m["body"])
    assert m["from"].bare == to and "hello handset" in m["body"] and m["type"] == "chat"


@in_loop
async def test_handset_refuses(tandem, account):
    a = await login(tandem, account(number=True))
    to = "%s@sms.%s" % (tandem.handset("refuse"), tandem.domain)
    mid = text_of(a, to, "hello")
    m = await a.message(lambda m: m["type"] == "error")
    assert m["id"] == mid and m["error"]["condition"] and m["error"]["text"]


@in_loop
async def test_custody_ids_cannot_be_made_up(tandem, account):
    """CUST-8: a client's own custody id would make the next message with it a copy."""
    a = await login(tandem, account(number=True))
    to = "%s@sms.%s" % (tandem.handset("report"), tandem.domain)
    for mid in ("f1", "f2"):
        a.send_raw("<message to='%s' type='chat' id='%s'><custody xmlns='urn:tandem:custody:0' id='7'/>"
                   "<body>%s</body><request xmlns='urn:xmpp:receipts'/></message>" % (to, mid, mid))
        r = await a.message(lambda m: m["receipt"])
        assert r["receipt"] == mid


# --- defined answers ------------------------------------------------------------------------------

@in_loop
async def test_answers_to_what_cannot_be_sent(tandem, account, link):
    x = await elsewhere(link)
    without = await login(tandem, account())
    mid = text_of(without, x.jid(), "hello")
    m = await without.message(lambda m: m["type"] == "error")
    assert (m["id"], m["error"]["condition"]) == (mid, "not-allowed") and m["error"]["text"]

    a = await login(tandem, account(number=True))
    for to, body, condition in (("no-number@sms." + tandem.domain, "hello", "item-not-found"),
                                (x.jid(), "x" * 5000, "not-acceptable")):
        mid = text_of(a, to, body)
        m = await a.message(lambda m: m["type"] == "error")
        assert (m["id"], m["error"]["condition"]) == (mid, condition) and m["error"]["text"]
    a.send_raw("<message to='%s' type='chat' id='empty'><body></body></message>" % x.jid())
    m = await a.message(lambda m: m["type"] == "error")
    assert (m["id"], m["error"]["condition"]) == ("empty", "bad-request")
    a.send_raw("<message to='%s' type='groupchat' id='gc'><body>x</body></message>" % x.jid())
    m = await a.message(lambda m: m["type"] == "error")
    assert (m["id"], m["error"]["condition"]) == ("gc", "feature-not-implemented")
    assert not x.smsc.submits()


@pytest.mark.parametrize("status", [0x0a, 0x0b, 0x66])
@in_loop
async def test_network_refuses(tandem, account, link, status):
    x = await elsewhere(link, smsc={"fail_status": status})
    a = await login(tandem, account(number=True))
    mid = text_of(a, x.jid(), "hello")
    m = await a.message(lambda m: m["type"] == "error")
    assert m["id"] == mid and m["error"]["condition"] and m["error"]["text"]


@in_loop
async def test_receipt_says_undelivered(tandem, account, link):
    x = await elsewhere(link, smsc={"dlr": 2, "dlr_fail": 1})
    a = await login(tandem, account(number=True))
    mid = text_of(a, x.jid(), "hello")
    m = await a.message(lambda m: m["type"] == "error")
    assert m["id"] == mid and m["error"]["text"]


# --- npm smpp -------------------------------------------------------------------------------------

@pytest.fixture
def npm(link):
    def make(**settings):
        peer = NpmSmsc(**settings)
        return link(smsc=peer, bound=True)
    return make


@pytest.mark.parametrize("receipt", ["text", "tlv"])
@pytest.mark.parametrize("ids", ["dec dec", "hex hex", "hex dec", "dec hex"])
@in_loop
async def test_npm_submit_and_receipt(tandem, account, npm, receipt, ids):
    """Ids in answers and receipts are decimal or hexadecimal, zero-padded or not."""
    x = await elsewhere(npm, receipt=receipt, id=ids.split()[0], receipt_id=ids.split()[1])
    sender = account(number=True)
    a = await login(tandem, sender)
    mid = text_of(a, x.jid(), "hello npm")
    s = await elsewhere(x.smsc.submit)
    assert s["text"] == "hello npm" and s["destination"] == x.number()[1:]
    assert s["source"] == sender.number[1:] and s["registered_delivery"] & 1
    assert (s["source_ton"], s["source_npi"], s["dest_ton"], s["dest_npi"]) == (1, 1, 1, 1)
    assert await elsewhere(x.smsc.answer, "receipt") == 0
    r = await a.message(lambda m: m["receipt"])
    assert r["receipt"] == mid and r["from"].bare == x.jid()


@in_loop
async def test_npm_alphabets_and_parts(tandem, account, npm):
    x = await elsewhere(npm)
    a = await login(tandem, account(number=True))

    async def sent(text, parts):
        text_of(a, x.jid(), text)
        return [await elsewhere(x.smsc.submit) for _ in range(parts)]
    (s,) = await sent(EURO_TEXT, 1)
    assert s["text"] == EURO_TEXT and s["data_coding"] == 0
    (s,) = await sent("\u043f\u0440\u0438\u0432\u0435\u0442 \U0001f600", 1)
    assert s["text"] == "\u043f\u0440\u0438\u0432\u0435\u0442 \U0001f600" and s["data_coding"] == 8
    (s,) = await sent("x" * 160, 1)
    assert s["text"] == "x" * 160 and s["udh"] is None
    whole = "".join("%04d " % n for n in range(80))
    parts = await sent(whole, 3)
    assert "".join(p["text"] for p in parts) == whole.strip() or \
        "".join(p["text"] for p in parts) == whole
    assert all(p["esm_class"] & 0x40 and p["udh"] for p in parts)
    emoji = "\U0001f600" * 50
    parts = await sent(emoji, 2)
    # No surrogate pair is cut: each part is text by itself.
    assert "".join(p["text"] for p in parts) == emoji
    assert all(len(p["text"].encode("utf-16-le")) <= 134 for p in parts)


@in_loop
async def test_npm_throttles(tandem, account, npm):
    x = await elsewhere(npm, throttle=2)
    a = await login(tandem, account(number=True))
    for n in range(3):
        text_of(a, x.jid(n), "message %d" % n)
    seen = []
    while len([s for s in seen if not s["status"]]) < 3:
        seen.append(await elsewhere(x.smsc.submit, 60))
    assert {s["text"] for s in seen if not s["status"]} == {"message %d" % n for n in range(3)}
    assert len(seen) <= 3 + 3
    await a.nothing()                           # throttling is no failure


@in_loop
async def test_npm_slow_answers_use_the_window(tandem, account, npm):
    x = await elsewhere(npm, delay_ms=300)
    a = await login(tandem, account(number=True))
    start = asyncio.get_running_loop().time()
    for n in range(20):
        text_of(a, x.jid(n), "slow %d" % n)
    for _ in range(20):
        await elsewhere(x.smsc.submit)
    # One by one this takes 6 s; with a window of 10 it takes 0.6.
    assert asyncio.get_running_loop().time() - start < 3.5


@in_loop
async def test_npm_mobile_originated(tandem, account, npm):
    x = await elsewhere(npm)
    me = account(number=True)
    a = await login(tandem, me)

    async def deliver(**fields):
        x.smsc.tell(cmd="deliver", source_addr=x.number()[1:], destination_addr=me.number[1:],
                    source_addr_ton=1, source_addr_npi=1, dest_addr_ton=1, dest_addr_npi=1, **fields)
        assert await elsewhere(x.smsc.answer) == 0
    await deliver(short_message="hello from a telephone")
    m = await a.message()
    assert m["body"] == "hello from a telephone" and m["from"].bare == x.jid() and m["type"] == "chat"
    await deliver(short_message=EURO_TEXT, data_coding=0)
    assert (await a.message())["body"] == EURO_TEXT
    await deliver(data_coding=8, hex="\u043f\u0440\u0438\u0432\u0435\u0442 \U0001f600".encode("utf-16-be").hex())
    assert (await a.message())["body"] == "\u043f\u0440\u0438\u0432\u0435\u0442 \U0001f600"
    # A surrogate pair cut in two, as others do it; the parts come in the wrong order.
    units = "emoji: \U0001f600!".encode("utf-16-be")
    await deliver(data_coding=8, esm_class=0x40, udh="0500032a0202", hex=units[16:].hex())
    await a.nothing()
    await deliver(data_coding=8, esm_class=0x40, udh="0500032a0201", hex=units[:16].hex())
    assert (await a.message())["body"] == "emoji: \U0001f600!"
    # Characters that XML does not have are taken out, not passed on.
    await deliver(data_coding=8, hex="00610001000b0062d800")
    assert (await a.message())["body"].startswith("a")
    x.smsc.tell(cmd="deliver", source_addr=x.number()[1:], destination_addr="4990000000", short_message="x")
    assert await elsewhere(x.smsc.answer) == 0x0b           # nobody's number (MO-2)


@in_loop
async def test_npm_breaks_the_connection(tandem, account, npm):
    x = await elsewhere(npm)
    a = await login(tandem, account(number=True))
    x.smsc.tell(cmd="close")
    text_of(a, x.jid(), "after the break")
    assert (await elsewhere(x.smsc.submit))["text"] == "after the break"


# --- Kannel's drive_smpp --------------------------------------------------------------------------

class Receiver(threading.Thread):
    """drive_smpp knows bind_receiver, and we bind as a transceiver: the command id is changed on the way. It also
    wants to meet a bearerbox on port 13001; we are one that says nothing."""

    def __init__(self, target):
        super().__init__(daemon=True)
        self.target, self.listener = target, socket.create_server(("127.0.0.1", 0))
        self.port, self.answers = self.listener.getsockname()[1], []
        self.box = socket.create_server(("127.0.0.1", 13001))
        self.start()

    def run(self):
        while True:
            try:
                ours, _ = self.listener.accept()
            except OSError:
                return
            theirs = wait_for(lambda: socket.create_connection(("127.0.0.1", self.target)), "drive_smpp")
            threading.Thread(target=self.pump, args=(ours, theirs, {9: 1}), daemon=True).start()
            threading.Thread(target=self.pump, args=(theirs, ours, {0x80000001: 0x80000009}),
                             daemon=True).start()

    def pump(self, src, dst, change):
        buf = b""
        try:
            while data := src.recv(65536):
                buf += data
                while len(buf) >= 16 and len(buf) >= (n := struct.unpack(">I", buf[:4])[0]):
                    command, status = struct.unpack(">II", buf[4:12])
                    if command & 0x80000000:
                        self.answers.append((command & 0x7fffffff, status))
                    command = change.get(command, command)
                    dst.sendall(buf[:4] + struct.pack(">I", command) + buf[8:n])
                    buf = buf[n:]
        except OSError:
            pass
        dst.close()

    def stop(self):
        self.listener.close()
        self.box.close()


@in_loop
async def test_kannel_drive_smpp(tandem, account, link, tmp_path):
    """It sends deliver_sm (the first with sequence number 0) and enquire_link, and takes submit_sm."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    proxy = Receiver(port)
    drive = Process(["/usr/lib/kannel/test/drive_smpp", "-v", "0", "-p", str(port), "-m", "20"],
                    str(tmp_path / "drive.log"))
    try:
        class Peer:
            port = proxy.port

            def wait_bound(self):
                wait_for(lambda: (1, 0) in proxy.answers, "bound to drive_smpp")

            def stop(self):
                pass
        x = await elsewhere(link, smsc=Peer())
        await elsewhere(wait_for, lambda: len([a for a in proxy.answers if a[0] == 5]) >= 20,
                        "20 deliver_sm answered")
        assert (0x15, 0) in proxy.answers
        a = await login(tandem, account(number=True))
        text_of(a, x.jid(), "hello kannel")
        await elsewhere(wait_for, lambda: (4, 0) in proxy.answers, "drive_smpp took a submit_sm")
        assert x.state()["state"].lower() == "bound"
        assert "ERROR: SMPP" not in drive.output()
    finally:
        drive.stop(9)
        proxy.stop()


# --- tshark ---------------------------------------------------------------------------------------

@in_loop
async def test_wireshark_reads_what_we_send(tandem, account, link, tmp_path):
    x = await elsewhere(link, smsc={"dlr": 1, "dlr_tlv": 2})
    capture = str(tmp_path / "smpp.pcap")
    shark = Process(["tshark", "-i", "lo", "-f", "tcp port %d" % x.smsc.port, "-w", capture, "-q"],
                    str(tmp_path / "tshark.log"))
    await elsewhere(shark.until, lambda: "Capturing" in shark.output() and os.path.exists(capture),
                    "tshark captures", 20)
    def seen():
        """It says that it captures a moment before it does: bind again until it has seen that."""
        x.smsc.reset()
        x.smsc.wait_bound()
        time.sleep(0.3)
        return os.path.getsize(capture) > 700
    await elsewhere(wait_for, seen, "tshark sees a bind", 20)
    me = account(number=True)
    a = await login(tandem, me)
    for body in ("plain", EURO_TEXT, "\u043f\u0440\u0438\u0432\u0435\u0442", "long " * 60):
        mid = text_of(a, x.jid(), body)
        await a.message(lambda m: m["receipt"] == mid)
    x.smsc.mo(x.number()[1:], me.number[1:], "back")
    await a.message(lambda m: m["body"] == "back")
    # dumpcap hands over what it has in portions: this last one has come when all others have.
    x.smsc.mo(x.number()[1:], me.number[1:], "end of the capture")

    def written():
        with open(capture, "rb") as f:
            return b"end of the capture" in f.read()
    await elsewhere(wait_for, written, "the capture is complete", 20)
    # Only tshark: it stops dumpcap, which then writes what it has.
    os.kill(shark.pid, signal.SIGINT)
    await elsewhere(shark.proc.wait, 20)
    out = await elsewhere(subprocess.run, [
        "tshark", "-r", capture, "-d", "tcp.port==%d,smpp" % x.smsc.port, "-Y", "smpp", "-T", "fields",
        "-e", "smpp.command_id", "-e", "_ws.malformed", "-e", "_ws.expert.message"],
        capture_output=True, text=True)
    lines = out.stdout.splitlines()
    commands = {c for line in lines for c in line.split("\t")[0].split(",")}
    assert {"0x00000009", "0x00000004", "0x80000005"} <= commands
    assert not [line for line in lines if "alformed" in line], out.stdout[-2000:]


# --- an SMSC that misbehaves ----------------------------------------------------------------------

@in_loop
async def test_order_within_a_conversation(tandem, account, link):
    """Whatever the window, one conversation keeps its order (MSG-5), also over broken connections."""
    x = await elsewhere(link, smsc={"delay_ms": 2, "reset_every": 13}, window=20)
    a = await login(tandem, account(number=True))
    for n in range(25):
        for to in range(3):
            text_of(a, x.jid(to), "%d" % n, receipt=False)
    await elsewhere(wait_for, lambda: len({(s.destination, s.text) for s in x.smsc.submits()}) == 75,
                    "all messages at the SMSC", 60)
    for to in range(3):
        seen = []
        for s in x.smsc.submits():
            if s.destination == x.number(to)[1:] and s.text not in seen:
                seen.append(s.text)
        assert seen == ["%d" % n for n in range(25)]
    await a.nothing()


@in_loop
async def test_duplicates_only_when_the_outcome_is_unknown_and_flagged(tandem, account, link):
    x = await elsewhere(link, smsc={"reset_every": 10}, window=5)
    me = account(number=True)
    a = await login(tandem, me)
    for n in range(60):
        text_of(a, x.jid(n), "m%d" % n, receipt=False)
    await elsewhere(wait_for, lambda: len({s.text for s in x.smsc.submits()}) == 60, "all at the SMSC", 60)
    x.smsc.set(reset_every=0)
    entries = []

    def settled():
        entries[:] = [m for m in tandem.ctl("--json", "queue", "list", "--limit", "1000")["messages"]
                      if m["from"].startswith(me.jid)]
        return all(m["state"] not in ("queued", "submitted") for m in entries) and len(entries) == 60
    await elsewhere(wait_for, settled, "queue settled", 60)
    count = {}
    for s in x.smsc.submits():
        count[s.destination] = count.get(s.destination, 0) + 1
    twice = {d for d, n in count.items() if n > 1}
    flagged = {m["to_number"].lstrip("+") for m in entries if m["ambiguous"]}
    assert twice and twice <= flagged
    # Of those sent and unanswered only: at most a window each time.
    assert len(flagged) <= 5 * x.smsc.stats()["resets"] + 5


@in_loop
async def test_throttled_at_a_rate(tandem, account, link):
    """ESME_RTHROTTLED from a token bucket: everything arrives, nothing is reported as failed."""
    x = await elsewhere(link, smsc={"limit": 100, "burst": 10}, window=10, throttle_seconds=1)
    a = await login(tandem, account(number=True))
    for n in range(60):
        text_of(a, x.jid(n), "t%d" % n, receipt=False)
    await elsewhere(wait_for, lambda: x.smsc.stats()["accepted"] >= 60, "all accepted", 60)
    assert len({s.text for s in x.smsc.submits() if not s.status}) == 60
    await a.nothing()


@in_loop
async def test_receipt_overtakes_the_answer(tandem, account, link):
    x = await elsewhere(link, smsc={"dlr": 1, "dlr_first": 1})
    a = await login(tandem, account(number=True))
    mid = text_of(a, x.jid(), "fast network")
    assert (await a.message(lambda m: m["receipt"]))["receipt"] == mid
    wait_for(lambda: x.smsc.stats()["receipts_ok"] == 1, "receipt answered")


@in_loop
async def test_unreachable_smsc_then_there(tandem, account, link):
    """Messages wait while the link is down; the port opens later."""
    x = await elsewhere(link)
    a = await login(tandem, account(number=True))
    await elsewhere(x.smsc.kill)
    for n in range(10):
        text_of(a, x.jid(n), "wait %d" % n)
    await a.nothing()
    await elsewhere(x.smsc.start)
    await elsewhere(x.smsc.wait_submits, 10, 40)
    assert {s.text for s in x.smsc.submits()} == {"wait %d" % n for n in range(10)}


@in_loop
async def test_wrong_password_at_the_smsc(tandem, account, link):
    x = await elsewhere(link, smsc={"bind_status": 0x0e}, bound=False)
    await elsewhere(wait_for, lambda: x.smsc.stats()["bad_binds"] >= 1, "a bind is refused")
    state = await elsewhere(x.state)
    assert state["state"].lower() != "bound"
    await elsewhere(wait_for, lambda: x.state()["error"], "the reason is shown")
    assert "password" in (await elsewhere(x.state))["error"]
    # Somebody has to change something (BIND-4); here the operator, who then tries again.
    x.smsc.set(bind_status=0)
    tandem.ctl("link", "disable", x.name)
    tandem.ctl("link", "enable", x.name)
    await elsewhere(x.smsc.wait_bound)


@in_loop
async def test_smsc_that_cannot_bind_yet(tandem, account, link):
    """ESME_RBINDFAIL: tried again with back-off."""
    x = await elsewhere(link, smsc={"bind_status": 0x0d}, bound=False)
    await elsewhere(wait_for, lambda: x.smsc.stats()["bad_binds"] >= 2, "two binds are refused")
    x.smsc.set(bind_status=0)
    await elsewhere(x.smsc.wait_bound)


@in_loop
async def test_answer_for_an_offline_user(tandem, account, link):
    x, me = await elsewhere(link), account(number=True)
    x.smsc.mo(x.number()[1:], me.number[1:], "you were away")
    await elsewhere(wait_for, lambda: x.smsc.stats()["mo_ok"] == 1, "MO answered")
    a = await login(tandem, me)
    m = await a.message()
    assert m["body"] == "you were away" and m["delay"]["stamp"] is not None
