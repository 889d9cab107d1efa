"""An SMS centre that says whatever a test wants, octet by octet, and remembers what it was told.

It is not Tandem's code, and does not use the codec of smsc.c either. By default it behaves: binds are
accepted, submit_sm gets a message id, enquire_link and unbind are answered, deliver_sm_resp are noted.
What a test replaces is a rule: rules[command_id] = function(centre, conn, pdu) -> None.
"""
import itertools
import socket
import struct
import threading
import time

from servers import wait_for

NACK, SUBMIT, DELIVER, UNBIND, BIND, DATA, ENQUIRE = 0x80000000, 4, 5, 6, 9, 0x103, 0x15
RESP = 0x80000000
PAYLOAD, RECEIPTED_ID, STATE = 0x0424, 0x001e, 0x0427


def pdu(command, status=0, seq=1, body=b""):
    return struct.pack(">IIII", 16 + len(body), command, status, seq) + body


def tlv(tag, value):
    return struct.pack(">HH", tag, len(value)) + value


class Pdu:
    def __init__(self, conn, data):
        self.conn, self.time, self.body = conn, time.monotonic(), data[16:]
        self.length, self.command, self.status, self.seq = struct.unpack(">IIII", data[:16])

    def __repr__(self):
        return "%08x status=%x seq=%d %r" % (self.command, self.status, self.seq, self.body)

    @property
    def destination(self):
        """Of a submit_sm."""
        rest = self.body[self.body.index(b"\0") + 3:]           # service_type, TON, NPI
        rest = rest[rest.index(b"\0") + 3:]
        return rest[:rest.index(b"\0")].decode("ascii")

    @property
    def text(self):
        rest = self.body[self.body.index(b"\0") + 3:]
        rest = rest[rest.index(b"\0") + 3:]
        rest = rest[rest.index(b"\0") + 1:]                     # esm_class first
        rest = rest[3:]
        rest = rest[rest.index(b"\0") + 1:]
        rest = rest[rest.index(b"\0") + 1:]
        return rest[5:5 + rest[4]].decode("latin-1")


class OddSmsc:
    def __init__(self, **rules):
        """rules: bind=, submit=, enquire=, unbind=: functions as above."""
        self.rules = {BIND: rules.get("bind", accept), SUBMIT: rules.get("submit", accept_message),
                      ENQUIRE: rules.get("enquire", accept), UNBIND: rules.get("unbind", accept)}
        self.lock, self.seen, self.conns, self.closed = threading.Lock(), [], [], 0
        self.stop_reading = set()
        self.sequence, self.ids = itertools.count(1000), itertools.count(1)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.read, args=(conn,), daemon=True).start()

    def read(self, conn):
        buf = b""
        try:
            while data := conn.recv(65536):
                while conn in self.stop_reading and conn.fileno() >= 0:
                    time.sleep(0.1)
                buf += data
                while len(buf) >= 16 and len(buf) >= (n := struct.unpack(">I", buf[:4])[0]):
                    p, buf = Pdu(conn, buf[:n]), buf[n:]
                    with self.lock:
                        self.seen.append(p)
                    if p.command in self.rules:
                        self.rules[p.command](self, conn, p)
        except OSError:
            pass
        with self.lock:
            self.closed += 1
            if conn in self.conns:
                self.conns.remove(conn)
        conn.close()

    # What a test does and asks.

    def of(self, command):
        with self.lock:
            return [p for p in self.seen if p.command == command]

    def submits(self):
        return self.of(SUBMIT)

    def bound(self):
        with self.lock:
            return self.conns[-1] if self.conns else None

    def wait_bound(self, timeout=30):
        return wait_for(self.bound, "a client binds", timeout)

    def wait_submits(self, n, timeout=30):
        wait_for(lambda: len(self.submits()) >= n, "%d submit_sm" % n, timeout)
        return self.submits()

    def send(self, data):
        self.wait_bound().sendall(data)

    def answer(self, command, seq, timeout=20):
        """The status of the answer to our request, or of the generic_nack."""
        def found():
            with self.lock:
                return [p for p in self.seen if p.seq == seq and p.command in (command | RESP, NACK)]
        return wait_for(found, "an answer to %08x, sequence number %d" % (command, seq), timeout)[0].status

    def deliver(self, source, destination, text=b"x", esm=0, dcs=0, tlvs=b"", command=DELIVER, ton=1,
                send=True):
        """Returns its sequence number."""
        seq = next(self.sequence)
        ends = b"\0" + bytes([ton, 1]) + source + b"\0\1\1" + destination + b"\0" + bytes([esm])
        rest = bytes([0, dcs]) if command == DATA else b"\0\0\0\0\0\0" + bytes([dcs, 0, len(text)]) + text
        data = pdu(command, 0, seq, ends + rest + tlvs)
        if not send:
            return seq, data
        self.send(data)
        return seq

    def receipt(self, source, destination, text=b"", tlvs=b"", esm=4, send=True):
        return self.deliver(source, destination, text, esm, tlvs=tlvs, send=send)

    def stop(self):
        self.listener.close()
        with self.lock:
            conns = list(self.conns)
        for conn in conns:
            conn.close()


# Rules.

def accept(centre, conn, p):
    if p.command == BIND:
        conn.sendall(pdu(BIND | RESP, 0, p.seq, b"odd\0"))
        with centre.lock:
            centre.conns.append(conn)
        return
    conn.sendall(pdu(p.command | RESP, 0, p.seq))
    if p.command == UNBIND:
        conn.shutdown(socket.SHUT_WR)


def accept_message(centre, conn, p):
    conn.sendall(pdu(SUBMIT | RESP, 0, p.seq, b"%d\0" % next(centre.ids)))


def ignore(centre, conn, p):
    pass


def refuse(status, times=1 << 30):
    """Answer with this status, `times` times; then behave."""
    left = itertools.count(1)

    def rule(centre, conn, p):
        if next(left) <= times:
            conn.sendall(pdu(p.command | RESP, status, p.seq))
        elif p.command == SUBMIT:
            accept_message(centre, conn, p)
        else:
            accept(centre, conn, p)
    return rule


def late(seconds, rule=accept_message):
    def wait(centre, conn, p):
        def do():
            try:
                rule(centre, conn, p)
            except OSError:
                pass
        threading.Timer(seconds, do).start()
    return wait
