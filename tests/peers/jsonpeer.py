"""A peer in another language that speaks lines of JSON over its standard input and output."""
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading

from servers import Process, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))


class JsonPeer:
    def __init__(self, *argv):
        self.dir = tempfile.mkdtemp(prefix="peer-")
        self.process = Process(list(argv), os.path.join(self.dir, "err"), stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
        self.queue, self.kept, self.history = queue.Queue(), [], []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.proc.stdout:
            e = json.loads(line)
            self.history.append(e)
            self.queue.put(e)
        self.queue.put(None)

    def tell(self, **command):
        p = self.process.proc
        p.stdin.write(json.dumps(command).encode() + b"\n")
        p.stdin.flush()

    def event(self, want=None, timeout=30):
        """The next event for which want(event) is true; others are kept for later calls."""
        found = []

        def look():
            for e in self.kept:
                if want is None or want(e):
                    self.kept.remove(e)
                    found.append(e)
                    return True
            try:
                e = self.queue.get(timeout=0.2)
            except queue.Empty:
                return False
            if e is None:
                raise RuntimeError("peer ended: " + self.process.output()[-2000:])
            self.kept.append(e)
            return False
        try:
            wait_for(look, "event of the peer", timeout)
        except TimeoutError as e:
            raise AssertionError("%s; there were: %s" % (e, self.history[-10:])) from None
        return found[0]

    def stop(self):
        self.process.stop(9)
        shutil.rmtree(self.dir, ignore_errors=True)


class NpmSmsc(JsonPeer):
    """tests/peers/smpp_server.js"""

    def __init__(self, **settings):
        super().__init__("node", os.path.join(HERE, "smpp_server.js"))
        self.port = self.event(lambda e: "port" in e)["port"]
        if settings:
            self.tell(cmd="set", **settings)

    def wait_bound(self):
        self.event(lambda e: e.get("event") == "bind")

    def submit(self, timeout=30):
        return self.event(lambda e: e.get("event") == "submit", timeout)

    def answer(self, what="mo"):
        return self.event(lambda e: e.get("event") == "resp" and e["what"] == what)["status"]


class NpmClient(JsonPeer):
    """tests/peers/xmpp_client.js"""

    def __init__(self, server, account, direct=False):
        argv = ["node", os.path.join(HERE, "xmpp_client.js"), str(server.port), server.domain,
                account.user, account.password]
        super().__init__(*(argv + ([str(server.tls_port)] if direct else [])))

    def wait_online(self):
        return self.event(lambda e: e["event"] in ("online", "error"))

    def stanza(self, contains):
        return self.event(lambda e: e["event"] == "stanza" and contains in e["xml"])["xml"]
