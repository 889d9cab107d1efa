"""SMS centres that are broken, slow, full, or hostile, against a running Tandem (tests/peers/oddsmsc.py)."""
import asyncio
import itertools
import os
import signal
import socket
import struct

import pytest

from oddsmsc import (BIND, DATA, DELIVER, ENQUIRE, NACK, PAYLOAD, RECEIPTED_ID, RESP, STATE, SUBMIT, UNBIND,
                     OddSmsc, accept, accept_message, ignore, late, pdu, refuse, tlv)
from servers import wait_for
from xmpp_peer import in_loop, login

MIB = 1 << 20


async def elsewhere(function, *args, **kwargs):
    """Run what blocks beside the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, lambda: function(*args, **kwargs))


def text_of(client, jid, body):
    m = client.make_message(jid, body, mtype="chat")
    m["request_receipt"] = True
    m.send()
    return m["id"]


def queue_of(tandem, number):
    return tandem.ctl("--json", "queue", "list", "--number", number)["messages"]


def states(tandem, number):
    return [q["state"] for q in queue_of(tandem, number)]


@pytest.fixture
def odd(link):
    """odd(bound=True, window=10, submit=rule, ...) -> Link to an OddSmsc."""
    def make(bound=True, options=None, **rules):
        return link(smsc=OddSmsc(**rules), bound=bound, **(options or {}))
    return make


# --- an orderly stop ------------------------------------------------------------------------------

def restart_sms(tandem):
    pid = tandem.pid_of("tandem-sms")
    tandem.ctl("restart", "tandem-sms")
    wait_for(lambda: tandem.pid_of("tandem-sms") not in (None, pid), "tandem-sms is started again")


@in_loop
async def test_stop_waits_for_the_answers(tandem, account, odd):
    """LINK-9: what is in flight is answered, unbind too, and nothing is sent twice."""
    x = await elsewhere(odd, submit=late(0.7))
    a = await login(tandem, account(number=True))
    for n in range(5):
        text_of(a, x.jid(n), "in flight %d" % n)
    await elsewhere(x.smsc.wait_submits, 5)
    await elsewhere(restart_sms, tandem)
    await elsewhere(wait_for, lambda: len(x.smsc.of(BIND)) >= 2, "bound again")
    assert len(x.smsc.of(UNBIND)) == 1
    await asyncio.sleep(2)                  # what was ambiguous would be sent again by now
    assert len(x.smsc.submits()) == 5
    for n in range(5):
        (q,) = queue_of(tandem, x.number(n))
        assert (q["state"], q["ambiguous"]) == ("accepted", False)


@in_loop
async def test_stop_does_not_wait_for_ever(tandem, account, odd):
    """A centre that answers neither: what was sent is sent again, and the record says so."""
    x = await elsewhere(odd, submit=ignore, unbind=ignore)
    a = await login(tandem, account(number=True))
    text_of(a, x.jid(), "riddle")
    await elsewhere(x.smsc.wait_submits, 1)
    start = asyncio.get_running_loop().time()
    await elsewhere(restart_sms, tandem)
    assert asyncio.get_running_loop().time() - start < 8
    await elsewhere(x.smsc.wait_submits, 2)
    (q,) = queue_of(tandem, x.number())
    assert (q["state"], q["ambiguous"]) == ("submitted", True)


# --- what an SMSC may do wrong --------------------------------------------------------------------

@pytest.fixture(autouse=True)
def survives(tandem, request):
    """Whatever a centre says, the processes live on, and take no more memory than they should."""
    names = ("tandem-core", "tandem-sms")
    before = {name: tandem.pid_of(name) for name in names}
    rss = tandem.rss("tandem-sms")
    yield
    if "stop" not in request.node.name:
        assert {name: tandem.pid_of(name) for name in names} == before
        assert tandem.rss("tandem-sms") < rss + 24 * MIB


def works(x, account):
    """A delivery on the connection that there is, answered."""
    seq = x.smsc.deliver(x.number()[1:].encode(), account.number[1:].encode(), b"still there")
    assert x.smsc.answer(DELIVER, seq) == 0


def test_bad_lengths(account, odd):
    """LINK-7: one generic_nack, and the link is made anew."""
    me, links = account(number=True), []
    for length in list(range(16)) + [70001, 0x7fffffff, 0x80000000, 0xffffffff]:
        x = odd()
        links.append((length, x, x.smsc.wait_bound()))
        x.smsc.send(struct.pack(">IIII", length, DELIVER, 0, 77) + b"\0" * 40)
    for length, x, conn in links:
        wait_for(lambda: x.smsc.bound() not in (None, conn), "bound again after %x" % length, 20)
        assert [(p.status, p.seq) for p in x.smsc.of(NACK)] == [(2, 0)], length
        works(x, me)


@in_loop
async def test_split_at_each_octet(tandem, account, odd):
    x, me = await elsewhere(odd), account(number=True)
    a = await login(tandem, me)
    source, destination = x.number()[1:].encode(), me.number[1:].encode()
    _, whole = x.smsc.deliver(source, destination, b"split", tlvs=tlv(0x1400, b"1"), send=False)
    for cut in range(1, len(whole)):
        text = b"split at %03d" % cut
        seq, data = x.smsc.deliver(source, destination, text, tlvs=tlv(0x1400, b"1"), send=False)
        x.smsc.send(data[:cut])
        await asyncio.sleep(0.01)
        x.smsc.send(data[cut:])
        assert await elsewhere(x.smsc.answer, DELIVER, seq) == 0
        assert (await a.message())["body"] == text.decode()
    assert len(x.smsc.of(BIND)) == 1


def test_unknown_commands(account, odd):
    """PDU-2, PDU-7: a nack with its number; the link stays."""
    x = odd()
    for seq, command in enumerate((0, 0x0a, 0x10, 0x21, 0x22, 0xff, 0x104, 0x10200, 0x7fffffff), 4711):
        x.smsc.send(pdu(command, 0, seq, b"whatever\0"))
        assert x.smsc.answer(command, seq) == 3, command
    works(x, account(number=True))
    assert len(x.smsc.of(BIND)) == 1


def test_requests_to_an_esme(account, odd):
    """PDU-8: what only a centre takes is refused, well-formed or not."""
    x = odd()
    for seq, command in enumerate((1, 2, 3, 4, 7, 8, 9), 4711):
        x.smsc.send(pdu(command, 0, seq, b"\0" * 60))
        assert x.smsc.answer(command, seq) in (2, 4), command
    works(x, account(number=True))
    assert len(x.smsc.of(BIND)) == 1


@pytest.mark.parametrize("command", [NACK, SUBMIT | RESP, 0x103 | RESP, DELIVER | RESP, ENQUIRE | RESP,
                                     UNBIND | RESP, BIND | RESP, 0x12345 | RESP])
def test_answer_to_nothing(account, odd, command):
    """FLOW-7: counted and dropped, never answered."""
    x = odd()
    for seq in (0, 1, 99999, 0xffffffff):
        for status in (0, 0x58, 0x12345678):
            for body in (b"", b"id\0", b"no end"):
                x.smsc.send(pdu(command, status, seq, body))
    works(x, account(number=True))
    assert not x.smsc.of(NACK) and len(x.smsc.of(BIND)) == 1


@in_loop
async def test_answer_without_an_id(tandem, account, odd):
    """PDU-3: status 0 is a yes, with an id or without."""
    bodies = [b"", b"\0", b"x" * 200 + b"\0", b"no end", b" \t\0", "\u00e4\u00f6".encode() + b"\xff\0"]
    left = iter(bodies)
    x = await elsewhere(odd, submit=lambda centre, conn, p: conn.sendall(
        pdu(SUBMIT | RESP, 0, p.seq, next(left, b"9\0"))))
    a = await login(tandem, account(number=True))
    for n in range(len(bodies)):
        text_of(a, x.jid(n), "id %d" % n)
    for n in range(len(bodies)):
        await elsewhere(wait_for, lambda: states(tandem, x.number(n)) == ["accepted"], "accepted", 20)
    await a.nothing()
    assert len(x.smsc.submits()) == len(bodies)


STATUSES = [1, 2, 3, 4, 5, 8, 0x0a, 0x0d, 0x0e, 0x0f, 0x14, 0x45, 0x53, 0x58, 0x64, 0xff, 0x101, 0x400, 0xdeadbeef]


def test_bind_refused(tandem, odd):
    """BIND-3, BIND-4: the reason is shown; nothing is sent; it is tried again."""
    links = [odd(bound=False, bind=refuse(status)) for status in STATUSES]
    for x, status in zip(links, STATUSES):
        wait_for(lambda: "%x" % status in x.state()["error"], "the reason", 20)
        assert x.state()["state"] in ("BACKOFF", "REFUSED", "CONNECTING", "OPEN")
        denied = status in (0x0e, 0x0f, 0x53, 0x101)
        if not denied:
            wait_for(lambda: len(x.smsc.of(BIND)) >= 2, "tried again", 20)


def odd_bind(bind):
    """The first bind goes wrong; the second does not."""
    first = [True]

    def rule(centre, conn, p):
        ok = pdu(BIND | RESP, 0, p.seq, b"odd\0")
        if bind == "twice":
            conn.sendall(ok)
            accept(centre, conn, p)
        elif first.pop() if first else False:
            conn.sendall({"silent": b"", "garbage": b"HTTP/1.1 400 Bad Request\r\n\r\n",
                          "nack": pdu(NACK, 3, p.seq), "closes": b"", "half": ok[:9]}[bind])
            if bind in ("closes", "half"):
                conn.shutdown(socket.SHUT_RDWR)
        else:
            accept(centre, conn, p)
    return rule


def test_odd_binds(account, odd):
    me = account(number=True)
    links = [odd(bound=False, bind=odd_bind(bind), options={"bind_seconds": 1})
             for bind in ("silent", "garbage", "nack", "closes", "half", "twice")]
    for x in links:
        x.smsc.wait_bound()
        works(x, me)


@pytest.mark.parametrize("status", [0x58, 0x14])
@in_loop
async def test_full_or_too_fast(tandem, account, odd, status):
    """FLOW-2, MSG-6: not now is no failure, however often."""
    x = await elsewhere(odd, submit=refuse(status, times=6), options={"throttle_seconds": 1})
    a = await login(tandem, account(number=True))
    for n in range(5):
        text_of(a, x.jid(n), "again %d" % n)
    for n in range(5):
        await elsewhere(wait_for, lambda: states(tandem, x.number(n)) == ["accepted"], "accepted", 60)
    await a.nothing()


@in_loop
async def test_each_status_reaches_the_sender(tandem, account, odd):
    """OUT-2: what the centre said, for each of its permanent errors."""
    status = []
    x = await elsewhere(odd, submit=lambda centre, conn, p: conn.sendall(
        pdu(SUBMIT | RESP, status[-1], p.seq)))
    a = await login(tandem, account(number=True))
    for n, s in enumerate((1, 2, 3, 6, 7, 0x0a, 0x0b, 0x11, 0x33, 0x43, 0x45, 0x48, 0x50, 0x61, 0x65, 0x66,
                           0xc0, 0xc4, 0xfe, 0x100, 0x103, 0x106)):
        status.append(s)
        mid = text_of(a, x.jid(n), "refused %x" % s)
        m = await a.message(lambda m: m["type"] == "error")
        assert m["id"] == mid and "0x%x" % s in m["error"]["text"] and m["error"]["condition"]
        assert states(tandem, x.number(n)) == ["failed"]


@in_loop
async def test_never_answers(tandem, account, odd):
    """FLOW-8: a submit_sm without an answer is ambiguous after a while, and sent again."""
    left = itertools.count(1)
    x = await elsewhere(odd, options={"response_seconds": 1}, submit=lambda centre, conn, p:
                        next(left) > 2 and accept_message(centre, conn, p))
    a = await login(tandem, account(number=True))
    text_of(a, x.jid(), "nobody hears me")
    await elsewhere(wait_for, lambda: states(tandem, x.number()) == ["accepted"], "accepted", 20)
    assert len(x.smsc.submits()) == 3 and queue_of(tandem, x.number())[0]["ambiguous"]
    await a.nothing()


def test_silent_links(odd):
    """LINK-3: enquire_link without an answer, and silence as such."""
    deaf = odd(enquire=ignore, options={"enquire_link_seconds": 1})
    silent = odd(options={"inactivity_seconds": 1})
    wait_for(lambda: len(silent.smsc.of(BIND)) >= 2, "bound again after silence", 20)
    wait_for(lambda: deaf.smsc.of(ENQUIRE), "enquire_link", 20)
    assert len(deaf.smsc.of(BIND)) == 1         # the answer has ten seconds


@pytest.mark.parametrize("how", ["close", "half", "reset", "unbind", "unbind and go"])
@in_loop
async def test_centre_leaves(tandem, account, odd, how):
    """In the middle of an answer, and otherwise; what had no answer is sent again."""
    def leave(centre, conn, p):
        if len(centre.submits()) > 1:
            accept_message(centre, conn, p)
        elif how == "close":
            conn.shutdown(socket.SHUT_RDWR)
        elif how == "half":
            conn.sendall(pdu(SUBMIT | RESP, 0, p.seq, b"id\0")[:11])
            conn.shutdown(socket.SHUT_RDWR)
        elif how == "reset":
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            conn.close()
        else:
            conn.sendall(pdu(UNBIND, 0, 55))
            if how == "unbind and go":
                conn.shutdown(socket.SHUT_RDWR)
    x = await elsewhere(odd, submit=leave)
    a = await login(tandem, account(number=True))
    text_of(a, x.jid(), "once or twice")
    await elsewhere(wait_for, lambda: states(tandem, x.number()) == ["accepted"], "accepted", 20)
    if how == "unbind":
        assert [p.status for p in x.smsc.of(UNBIND | RESP)] == [0]
    assert {s.text for s in x.smsc.submits()} == {"once or twice"}
    await a.nothing()


# --- messages of all kinds ------------------------------------------------------------------------

@in_loop
async def test_esm_classes(tandem, account, odd):
    """Modes, acknowledgements of telephones and reply paths are messages; receipts are not."""
    x, me = await elsewhere(odd), account(number=True)
    a = await login(tandem, me)
    for esm in (0, 1, 2, 3, 0x08, 0x10, 0x18, 0x80, 0x83):
        text = b"esm class %02x" % esm
        seq = x.smsc.deliver(x.number()[1:].encode(), me.number[1:].encode(), text, esm)
        assert await elsewhere(x.smsc.answer, DELIVER, seq) == 0
        assert (await a.message())["body"] == text.decode()
    for esm in (0x04, 0x20, 0x07, 0x84):
        seq = x.smsc.deliver(x.number()[1:].encode(), me.number[1:].encode(), b"id:nothing", esm)
        assert await elsewhere(x.smsc.answer, DELIVER, seq) == 0
    await a.nothing()


CODINGS = {0: "abc\u00e9", 1: "abc\u00e9", 3: "abc\u00e9", 8: "\u0416x", 0x18: "\u0416x", 0x11: "abc\u00e9", 0xc8: "abc\u00e9",
           0xe0: "\u0416x", 0xf0: "abc\u00e9", 0xf1: "abc\u00e9"}


@in_loop
async def test_data_codings(tandem, account, odd):
    """TEXT-25; each of the 256 is answered, and comes as text or is said to be binary."""
    x, me = await elsewhere(odd), account(number=True)
    a = await login(tandem, me)
    for first in range(0, 256, 32):
        seqs = []
        for dcs in range(first, first + 32):
            text = "\u0416x".encode("utf-16-be") if "\u0416" in CODINGS.get(dcs, "") else \
                b"abc\xe9" if dcs in (1, 3) else b"abc\x05"
            seqs.append(x.smsc.deliver(x.number()[1:].encode(), me.number[1:].encode(), text, dcs=dcs))
        for dcs, seq in zip(range(first, first + 32), seqs):
            assert await elsewhere(x.smsc.answer, DELIVER, seq) == 0
            body = (await a.message())["body"]
            if dcs in CODINGS:
                assert body == CODINGS[dcs], dcs
            if dcs in (2, 4, 5, 9, 0x0e, 0x14, 0x20, 0x28, 0xf4, 0xf5, 0x80):
                assert body == "[binary message]", dcs
    # And an answer has the empty message id that 3.4 asks for.
    assert {p.body for p in x.smsc.of(DELIVER | RESP)} == {b"\0"}


@pytest.mark.parametrize("command", [DELIVER, DATA])
@in_loop
async def test_payload(tandem, account, odd, command):
    """message_payload in place of short_message, up to what a PDU holds."""
    x, me = await elsewhere(odd), account(number=True)
    a = await login(tandem, me)
    for text in (b"p", b"payload " * 100, b"y" * 60000):
        seq = x.smsc.deliver(x.number()[1:].encode(), me.number[1:].encode(), b"",
                             tlvs=tlv(PAYLOAD, text), command=command)
        assert await elsewhere(x.smsc.answer, command, seq) == 0
        assert (await a.message())["body"] == text.decode()


@in_loop
async def test_odd_addresses(tandem, account, odd):
    """MO-2, and senders of all kinds."""
    x, me = await elsewhere(odd), account(number=True)
    a = await login(tandem, me)
    mine = me.number[1:].encode()
    for nobody in (b"", b"+", b"49990000000", b"x", b"1" * 20, b"\xff\xfe", b"+" + mine + b"1"):
        seq = x.smsc.deliver(b"15550100", nobody)
        assert await elsewhere(x.smsc.answer, DELIVER, seq) == 0x0b, nobody
    for source, ton in ((b"Bank & Co", 5), (b"", 0), (b"12345", 0), (b"4917012345678", 0), (b"@/'<>", 5), (b"\xe4\xff", 5)):
        seq = x.smsc.deliver(source, mine, b"from " + source.hex().encode(), ton=ton)
        assert await elsewhere(x.smsc.answer, DELIVER, seq) == 0
        m = await a.message()
        assert m["body"] == "from " + source.hex()
        if source.isdigit():        # TEXT-28: it can be answered
            assert m["from"].user == ("+" if len(source) > 8 else "") + source.decode()


# --- receipts -------------------------------------------------------------------------------------

def with_id(message_id):
    return lambda centre, conn, p: conn.sendall(pdu(SUBMIT | RESP, 0, p.seq, message_id + b"\0"))


def with_ids(*ids):
    left = iter(ids)
    return lambda centre, conn, p: with_id(next(left))(centre, conn, p)


IDS = [b"10 10", b"a a", b"0B b", b"17 11", b"12 18", b"00000020 20", b"0x1F 1f", b"AbC-1 abc-1",
       b"12345678901234567890 12345678901234567890"]


@in_loop
async def test_copies_of_a_receipt(tandem, account, odd):
    """DLR-7, DLR-8, DLV-3: one outcome, though it comes five times; each is answered."""
    x = await elsewhere(odd, submit=with_ids(*[ids.split()[0] for ids in IDS]))
    a = await login(tandem, account(number=True))
    for n, ids in enumerate(IDS):
        mid = text_of(a, x.jid(n), "receipt, please")
        await elsewhere(wait_for, lambda: states(tandem, x.number(n)) == ["accepted"], "accepted", 20)
        text = b"id:%s sub:001 dlvrd:001 submit date:2501010000 done date:2501010001 stat:DELIVRD err:000" \
            b" text:x" % ids.split()[1]
        seqs = [x.smsc.receipt(x.number(n)[1:].encode(), b"1", text) for _ in range(5)]
        for seq in seqs:
            assert await elsewhere(x.smsc.answer, DELIVER, seq) == 0
        assert (await a.message())["receipt"] == mid, ids
        await a.nothing()
        assert states(tandem, x.number(n)) == ["delivered"]


@in_loop
async def test_receipt_before_the_answer(tandem, account, odd):
    """DLV-2, also when the answer takes a while."""
    def early(centre, conn, p):
        centre.receipt(p.destination.encode(), b"1", tlvs=tlv(RECEIPTED_ID, b"77\0") + tlv(STATE, b"\x02"))
        late(1, with_id(b"77"))(centre, conn, p)
    x = await elsewhere(odd, submit=early)
    a = await login(tandem, account(number=True))
    mid = text_of(a, x.jid(), "fast")
    assert (await a.message())["receipt"] == mid
    assert states(tandem, x.number()) == ["delivered"]


STATS = [(b"EXPIRED", "remote-server-timeout"), (b"DELETED", "gone"), (b"UNDELIV", "recipient-unavailable"),
         (b"REJECTD", "not-allowed"), (b"UNKNOWN", "undefined-condition"), (b"NONSENSE", None),
         (b"ACCEPTD", None), (b"ENROUTE", None), (b"", None)]


@in_loop
async def test_receipt_states(tandem, account, odd):
    x = await elsewhere(odd, submit=with_ids(*[b"n%d" % n for n in range(len(STATS))]))
    a = await login(tandem, account(number=True))
    for n, (stat, condition) in enumerate(STATS):
        mid = text_of(a, x.jid(n), "state")
        await elsewhere(wait_for, lambda: states(tandem, x.number(n)) == ["accepted"], "accepted", 20)
        seq = x.smsc.receipt(x.number(n)[1:].encode(), b"1", b"id:n%d stat:%s err:001" % (n, stat))
        assert await elsewhere(x.smsc.answer, DELIVER, seq) == 0
        if condition:
            m = await a.message(lambda m: m["type"] == "error")
            assert (m["id"], m["error"]["condition"]) == (mid, condition) and m["error"]["text"]
        else:
            await a.nothing()
            assert states(tandem, x.number(n)) == ["accepted"]


# --- more than we can take ------------------------------------------------------------------------

def flood(x, make, n):
    """n deliveries as fast as the socket takes them; their answers, by status."""
    seqs, conn = [], x.smsc.wait_bound()
    for at in range(0, n, 200):
        parts = [make(i) for i in range(at, min(n, at + 200))]
        seqs += [seq for seq, _ in parts]
        conn.sendall(b"".join(data for _, data in parts))
    wait_for(lambda: len(x.smsc.of(DELIVER | RESP)) >= n, "all are answered", 60)
    answers = {p.seq: p.status for p in x.smsc.of(DELIVER | RESP)}
    return [answers[seq] for seq in seqs]


@in_loop
async def test_flood_of_messages(tandem, account, odd):
    """FLOW-6: what is not taken is refused, so that the centre keeps it; what is taken arrives, once."""
    x, me = await elsewhere(odd), account(number=True)
    a = await login(tandem, me)
    mine = me.number[1:].encode()
    answers = await elsewhere(flood, x, lambda i: x.smsc.deliver(
        b"1555%07d" % (i % 50), mine, b"flood %d" % i, send=False), 10000)
    taken = {"flood %d" % i for i, status in enumerate(answers) if status == 0}
    assert set(answers) <= {0, 0x64} and len(taken) >= 50
    seen = [(await a.message())["body"] for _ in range(len(taken))]
    assert set(seen) == taken and len(seen) == len(taken)
    await a.nothing()
    works(x, me)


def test_flood_while_the_core_stands_still(tandem, account, odd):
    """The outbox takes them, on disk; memory does not grow."""
    x, me = odd(), account(number=True)
    mine, core = me.number[1:].encode(), tandem.pid_of("tandem-core")
    os.kill(core, signal.SIGSTOP)
    try:
        answers = flood(x, lambda i: x.smsc.deliver(b"1555%07d" % i, mine, b"%0150d" % i, send=False), 10000)
    finally:
        os.kill(core, signal.SIGCONT)
    assert set(answers) <= {0, 0x64} and answers.count(0) >= 50


def test_flood_of_receipts(account, odd):
    """DLV-2, DLV-4: receipts for nothing, each answered."""
    x, me = odd(), account(number=True)
    answers = flood(x, lambda i: x.smsc.receipt(
        x.number()[1:].encode(), b"1", b"id:%d stat:DELIVRD" % i, send=False), 20000)
    assert set(answers) <= {0, 0x64}
    works(x, me)


def test_centre_that_does_not_read(account, odd):
    """Answers that nobody takes: the link is dropped, not buffered without end."""
    x = odd()
    conn = x.smsc.wait_bound()
    x.smsc.stop_reading.add(conn)
    conn.settimeout(2)
    try:
        for _ in range(200):
            conn.sendall(pdu(ENQUIRE, 0, 1) * 4096)
    except OSError:
        pass
    wait_for(lambda: x.smsc.bound() not in (None, conn), "bound again", 30)
    works(x, account(number=True))
