"""A client in plain octets, for tests that say what no library would say; it blocks, and keeps nothing."""
import base64
import socket
import ssl

HEADER = (b"<?xml version='1.0'?><stream:stream to='%s' version='1.0' xmlns='jabber:client' "
          b"xmlns:stream='http://etherx.jabber.org/streams'>")
PLAIN = b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>"
BIND = (b"<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
        b"<resource>%s</resource></bind></iq>")
GONE = (ConnectionResetError, BrokenPipeError, ssl.SSLError)


class Raw:
    def __init__(self, tandem, port=None, tls=True, source="127.0.0.1", timeout=20, receive=None):
        """receive: the octets that the system keeps for us while we do not read."""
        self.domain, self.pending = tandem.domain.encode(), b""
        self.s = socket.socket()
        if receive:
            self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.s.settimeout(timeout)
        self.s.bind((source, 0))
        self.s.connect(("127.0.0.1", port or (tandem.tls_port if tls else tandem.port)))
        if tls:
            c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
            c.set_alpn_protocols(["xmpp-client"])
            self.s = c.wrap_socket(self.s)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.s.close()

    def close(self):
        self.s.close()

    def send(self, data):
        """What the other side takes: it may hang up meanwhile."""
        try:
            self.s.sendall(data.encode() if isinstance(data, str) else data)
            return True
        except GONE:
            return False

    def until(self, *ends):
        """All that comes, up to the first of these; what follows is kept for the next call."""
        ends = [e.encode() if isinstance(e, str) else e for e in ends]
        while True:
            found = [(self.pending.index(e) + len(e)) for e in ends if e in self.pending]
            if found:
                got, self.pending = self.pending[:min(found)], self.pending[min(found):]
                return got
            chunk = self.s.recv(65536)
            if not chunk:
                raise AssertionError("closed before %r: %r" % (ends, self.pending[-500:]))
            self.pending += chunk

    def rest(self):
        """All that comes until the end of the connection."""
        got, self.pending = self.pending, b""
        try:
            while chunk := self.s.recv(65536):
                got += chunk
        except GONE:
            pass
        return got

    def header(self):
        self.send(HEADER % self.domain)
        return self.until(b"</stream:features>")

    def auth(self, user, password):
        text = base64.b64encode(("\0%s\0%s" % (user, password)).encode())
        self.send(PLAIN % text)
        return self.until(b"</failure>", b"/>")

    def authenticate(self, account):
        self.header()
        got = self.auth(account.user, account.password)
        assert b"<success" in got, got
        self.header()
        return self

    def bind(self, resource="r"):
        self.send(BIND % resource.encode())
        got = self.until(b"</iq>")
        assert b"type='result'" in got, got
        self.bound = got.split(b"<jid>")[1].split(b"</jid>")[0].decode()
        return self

    def login(self, account, resource="r", presence=False):
        self.authenticate(account).bind(resource)
        if presence:
            self.send(b"<presence/>")
            self.sync()
        return self

    def enable(self, resume=True):
        """XEP-0198; the id of the session."""
        self.send(b"<enable xmlns='urn:xmpp:sm:3'%s/>" % (b" resume='true'" if resume else b""))
        self.until(b"<enabled", b"<failed")
        got = self.until(b"/>")
        return got.split(b"id='")[1].split(b"'")[0].decode() if b"id='" in got else None

    def sync(self):
        """Everything sent so far was handled; what came meanwhile."""
        self.send(b"<iq type='get' id='sync'><ping xmlns='urn:xmpp:ping'/></iq>")
        return self.until(b"id='sync'", b"id=\"sync\"") + self.until(b">")

    def mailbox(self, count):
        """Becomes available (with XEP-0198 enabled and nothing received before); the ids of the first messages,
        each acknowledged."""
        ids = []
        self.send("<presence/>")
        while len(ids) < count:
            got = self.until("</message>").decode()
            ids.append(int(got.rsplit("<message", 1)[1].split(" id='")[1].split("'")[0]))
            # Our own presence has come before: it counts as well.
            self.send("<a xmlns='urn:xmpp:sm:3' h='%d'/>" % (len(ids) + 1))
        return ids
