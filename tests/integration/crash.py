#!/usr/bin/python3
"""The crash test and the power-cut test: nothing that was acknowledged may be lost.

	crash.py			the short form: kills, power cuts, and the proof that the test notices
				what it looks for
	crash.py --long [--minutes N]	again and again, with other choices
	crash.py --only crash		one part: crash, power, detector
	crash.py --seed N		the same choices again
	crash.py --server prosody	the same accounting for Prosody's XEP-0198 (it loses messages)

Several XEP-0198 clients send numbered messages to users who are there, to users who are not, and to
telephone numbers; the SMSC sends some of its own. Meanwhile tandem-core, tandem-sms, tandemd, all of them
and the SMSC are killed with -9, and connections cut, at random. In the end every message that was acknowledged
must have arrived, be in a queue, or have come back as an error; messages of one conversation in their order;
twice only what the far side left open.

After a power cut (tests/peers/powercut_preload.c) every write that no fsync followed is gone, too.
"""
import argparse
import asyncio
import collections
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "peers"))
from servers import Prosody, wait_for                                           # noqa: E402
from smclient import SmClient                                                   # noqa: E402
from smsc import BUILD, Smsc                                                    # noqa: E402
from tandem import Tandem                                             # noqa: E402

PASSWORD = "crash-test"
SENDERS = ["s%d" % i for i in range(4)]
OFFLINE = ["away0", "away1"]
NUMBERS = ["+1555010%04d" % i for i in range(6)]
MESSAGES_A_KILL = 80        # of one sender: a slow machine has as much to account for as a fast one
BREAK_WINDOW_S = 15.0       # received so shortly before its stream broke: the server may not know it


def number_of(user):
    return "+1444%07d" % (SENDERS + OFFLINE).index(user)


class World:
    """The server under test and what is around it."""

    def __init__(self, rng, work):
        self.rng, self.work, self.kills = rng, work, collections.Counter()
        self.smsc = None
        self.lock = asyncio.Lock()

    def say(self, text):
        print("  %6.1f s  %s" % (time.monotonic() - self.began, text), flush=True)


class TandemWorld(World):
    def __init__(self, rng, work, environment=None):
        super().__init__(rng, work)
        self.began = time.monotonic()
        self.tandem = Tandem(run_dir=os.path.join(work, "run"), environment=environment)
        os.makedirs(self.tandem.dir, exist_ok=True)
        self.sms = True

    def start(self):
        # tandem-sms has as many streams to the core as that has workers.
        workers = self.rng.choice((1, 2, 4))
        self.say("%d workers" % workers)
        self.tandem.write_config("", workers=workers)
        self.tandem.start()
        for user in SENDERS + OFFLINE:
            self.tandem.user_add(user, PASSWORD, number_of(user))
        self.tandem.configure("limits", offline_messages=100000)
        self.smsc = Smsc(folder=self.work, password="p")
        self.tandem.link_add("crash", self.smsc, window=20, reconnect_max_seconds=2)
        self.tandem.configure("sms", retry_min_seconds=1, retry_max_seconds=2)
        self.smsc.wait_bound()
        self.host, self.port, self.domain = "127.0.0.1", self.tandem.tls_port, self.tandem.domain

    def stop(self):
        self.tandem.stop(remove=False)
        if self.smsc:
            self.smsc.stop()

    def targets(self):
        return {"tandem-core": 4, "tandem-sms": 4, "tandemd": 3, "everything": 2, "smsc": 2,
                "smsc-reset": 2, "client": 2, "restart": 2}

    def kill(self, what):
        """Kill it and see to it that it comes back."""
        if what == "smsc":
            self.smsc.kill()
            time.sleep(self.rng.uniform(0, 0.4))
            self.smsc.start()
        elif what == "smsc-reset":
            self.smsc.reset()
        elif what == "restart":     # an orderly end has its own ways to lose count
            name = self.rng.choice(("tandem-core", "tandem-sms"))
            return self.tandem.ctl("restart", name, check=False).returncode == 0
        elif what in ("tandem-core", "tandem-sms"):
            pid = self.tandem.pid_of(what)
            if not pid:
                return False
            os.kill(pid, signal.SIGKILL)
        elif what == "tandemd":
            os.kill(self.tandem.supervisor_pid(), signal.SIGKILL)
            self.restart()
        else:
            self.kill_everything()
            self.restart()
        return True

    def kill_everything(self):
        for pid in self.tandem.all_pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.tandem.process.proc.wait()

    def restart(self):
        """After the supervisor has died. Its children must end by themselves."""
        self.tandem.process.proc.wait()
        for _ in range(3):
            try:
                self.tandem.start(30)
                return
            except (RuntimeError, TimeoutError) as e:
                problem = e
                time.sleep(0.5)
        raise problem

    def settle(self):
        self.smsc.set(reset_every=0)
        wait_for(lambda: self.tandem.try_status().get("ready"), "Tandem is ready", 30)
        self.smsc.wait_bound()

    def queue(self):
        """All entries of the SMS queue's record."""
        entries, after = [], None
        while True:
            argv = ["--json", "queue", "list", "--limit", "1000"]
            page = self.tandem.ctl(*(argv + (["--after", after] if after else [])))
            entries += page["messages"]
            after = page.get("next")
            if not after:
                return entries

    def sms_idle(self):
        return all(m["state"] not in ("queued", "submitted") for m in self.queue())


class PowerCutWorld(TandemWorld):
    """Everything dies at once, and with it every write that was not synced."""

    def __init__(self, rng, work):
        self.log = os.path.join(work, "powercut")
        self.state = os.path.join(work, "run", "state")
        os.makedirs(self.log)
        os.chmod(self.log, 0o777)       # the shim writes after the process has given up root
        os.makedirs(self.state)
        self.shim = os.path.join(BUILD, "tests/peers/powercut_preload.so")
        super().__init__(rng, work, {"LD_PRELOAD": self.shim, "TANDEM_POWERCUT_DIR": self.state,
                                     "TANDEM_POWERCUT_LOG": self.log})

    def targets(self):
        return {"power": 5, "smsc": 1, "smsc-reset": 1, "client": 1}

    def kill(self, what):
        if what != "power":
            return super().kill(what)
        self.cut()
        self.restart()
        return True

    def cut(self):
        """All processes at one moment; then the disk as it would be."""
        pids = self.tandem.all_pids()
        for sig in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                try:
                    os.kill(pid, sig)
                except ProcessLookupError:
                    pass
        self.tandem.process.proc.wait()
        argv = [os.path.join(BUILD, "tests/peers/powercut_restore"), self.state, self.log]
        # A disk may also have written some sectors of what was not synced.
        argv += self.rng.choice(([], ["--torn", str(self.rng.randrange(1 << 30))]))
        wait_for(lambda: not [p for p in pids if os.path.exists("/proc/%d" % p)], "all are dead", 10)
        out = subprocess.run(argv, capture_output=True, text=True)
        if out.returncode:
            raise RuntimeError("powercut_restore: " + out.stderr)
        self.say("power cut: " + out.stdout.strip())


class LyingDiskWorld(PowerCutWorld):
    """As with synchronous=OFF: once the accounts are there, nothing is synced any more. What is lost then must be
    found, or the power-cut test is worth nothing."""

    def start(self):
        super().start()
        self.tandem.stop(remove=False)
        self.tandem.env["LD_PRELOAD"] = "%s:%s" % (
            os.path.join(BUILD, "tests/peers/nosync_preload.so"), self.shim)
        self.tandem.start()
        self.smsc.wait_bound()

    def targets(self):
        return {"power": 1}


class ProsodyWorld(World):
    """For comparison, and to try the clients: no SMS, no journal."""

    def __init__(self, rng, work):
        super().__init__(rng, work)
        self.began = time.monotonic()
        self.sms = False
        self.prosody = Prosody(modules=["smacks"], options="smacks_hibernation_time = 300")
        self.prosody.accounts(SENDERS + OFFLINE, PASSWORD)

    def start(self):
        self.prosody.start()
        self.host, self.port, self.domain = "127.0.0.1", self.prosody.tls_port, "localhost"

    def stop(self):
        self.prosody.stop()

    def targets(self):
        return {"prosody": 1, "client": 3}

    def kill(self, what):
        self.prosody.process.stop(signal.SIGKILL)
        self.prosody.start()
        return True

    def settle(self):
        pass


# --- the run --------------------------------------------------------------------------------------

class Run:
    def __init__(self, world, kills, rng, pause=(0.3, 1.5)):
        self.world, self.kills, self.rng, self.pause = world, kills, rng, pause
        self.killed = 0
        self.counters = collections.Counter()
        self.clients, self.offline = {}, {}
        self.sent = {}              # key -> True when it carries an origin-id
        self.over = False

    def client(self, user):
        return SmClient(self.world.host, self.world.port, user, PASSWORD, self.world.domain, self.rng)

    def send_one(self, client):
        kind = self.rng.random()
        if kind < 0.4:
            name = self.rng.choice([s for s in SENDERS if s != client.user])
        elif kind < 0.6 or not self.world.sms:
            name = self.rng.choice(OFFLINE)
        else:
            name = self.rng.choice(NUMBERS)
        to = "%s@%s%s" % (name, "sms." if name[0] == "+" else "", self.world.domain)
        conversation = (client.user, name)
        n = self.counters[conversation]
        self.counters[conversation] += 1
        key = conversation + (n,)
        with_origin = self.rng.random() < 0.5
        self.sent[key] = with_origin
        body = "%s>%s#%d" % key
        origin = "<origin-id xmlns='urn:xmpp:sid:0' id='%s'/>" % body.replace(">", ":")
        client.send(key, "<message to='%s' type='chat' id='%s'><body>%s</body>%s</message>" % (
            to, body.replace(">", ":"), body.replace(">", "&gt;"), origin if with_origin else ""))

    async def send_all(self, client):
        n = 0
        while not self.over:
            if len(client.unacked) < 60 and n < MESSAGES_A_KILL * (self.killed + 1):
                for _ in range(self.rng.randint(1, 4)):
                    self.send_one(client)
                    n += 1
            await asyncio.sleep(self.rng.uniform(0.01, 0.05))

    async def network_sends(self):
        """Numbered short messages from telephones to our users."""
        loop, n = asyncio.get_running_loop(), collections.Counter()
        while not self.over and self.world.sms:
            source, user = self.rng.choice(NUMBERS), self.rng.choice(SENDERS + OFFLINE)
            text = "%s>%s#%d" % (source, user, n[source, user])
            try:
                await loop.run_in_executor(None, self.world.smsc.mo, source[1:], number_of(user)[1:], text)
                n[source, user] += 1
            except (OSError, ValueError):
                pass                # the SMSC is being killed
            await asyncio.sleep(self.rng.uniform(0.02, 0.1))

    async def kill_all(self):
        loop = asyncio.get_running_loop()
        targets = self.world.targets()
        while self.killed < self.kills:
            await asyncio.sleep(self.rng.uniform(*self.pause))
            what = self.rng.choices(list(targets), list(targets.values()))[0]
            if what == "client":
                self.rng.choice(list(self.clients.values())).cut()
            elif not await loop.run_in_executor(None, self.world.kill, what):
                continue
            self.world.kills[what] += 1
            self.killed += 1

    async def until(self, condition, what, timeout):
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                return "%s: not within %d s" % (what, timeout)
            await asyncio.sleep(0.1)
        return None

    async def quiet(self, clients):
        """Nothing has come for a second."""
        count, since = -1, time.monotonic()
        while time.monotonic() - since < 1.0:
            now = sum(len(c.received) for c in clients)
            if now != count:
                count, since = now, time.monotonic()
            await asyncio.sleep(0.05)

    async def go(self):
        loop = asyncio.get_running_loop()
        for user in SENDERS:
            self.clients[user] = self.client(user)
            self.clients[user].start()
        tasks = [asyncio.ensure_future(self.send_all(c)) for c in self.clients.values()]
        tasks.append(asyncio.ensure_future(self.network_sends()))
        problems = []
        try:
            await self.kill_all()
        finally:
            self.over = True
        await asyncio.gather(*tasks)
        self.world.say("no more kills; it comes to rest")
        await loop.run_in_executor(None, self.world.settle)
        problems.append(await self.until(
            lambda: not [k for c in self.clients.values() for k, _ in c.unacked if k],
            "everything is acknowledged", 120))
        self.world.say("everything is acknowledged" if not problems[-1] else problems[-1])
        if self.world.sms:
            try:
                await loop.run_in_executor(None, wait_for, self.world.sms_idle, "the SMS queue runs dry", 40)
            except TimeoutError as e:
                self.world.say("note: %s" % e)      # still queued is not lost
        for user in OFFLINE:
            self.offline[user] = self.client(user)
            self.offline[user].start()
        everybody = list(self.clients.values()) + list(self.offline.values())
        for c in everybody:
            problems.append(await self.until(c.online.is_set, "%s is online" % c.user, 60))
        await self.quiet(everybody)
        for c in everybody:
            await c.stop()
        return [p for p in problems if p]


# --- the account ----------------------------------------------------------------------------------

def parse(body):
    """The key that a body carries, or None."""
    try:
        sender, rest = body.split(">")
        name, n = rest.split("#")
        return sender, name, int(n)
    except (ValueError, AttributeError):
        return None


class Account:
    def __init__(self, run):
        self.run, self.world = run, run.world
        self.problems, self.notes = [], collections.Counter()

    def fault(self, kind, text):
        self.problems.append((kind, text))

    def check(self):
        clients = {**self.run.clients, **self.run.offline}
        for c in clients.values():
            for v in c.violations:
                self.fault("protocol", "%s: %s" % (c.user, v))
            self.notes["resumed"] += c.resumed
            self.notes["failed with h"] += c.failed_h
        acked = {k for c in clients.values() for k in c.acknowledged}
        self.notes["acknowledged"] = len(acked)
        arrived = {}
        if self.world.sms:
            self.mo_sent = collections.Counter(
                parse(data.decode()) for _, _, _, data in self.world.smsc.mos("sent"))
        for c in clients.values():
            self.check_received(c, arrived)
        refused = {}
        for c in clients.values():
            for m in c.received:
                if m.type == "error" and m.id:
                    refused[parse(m.id.replace(":", ">"))] = m.condition
        self.notes["refused to the sender"] = len(refused)
        waiting = self.check_sms(acked, arrived, refused) if self.world.sms else []
        self.check_lost(acked, arrived, refused, waiting)
        if self.world.sms:
            self.check_mo(clients)
        return self.problems

    def check_received(self, c, arrived):
        """Duplicates and order at one XMPP user."""
        last, first = collections.defaultdict(lambda: -1), {}
        for m in c.received:
            key = parse(m.body)
            if m.type == "error" or key is None:
                continue
            arrived.setdefault(key, []).append(m)
            if key in first:
                self.duplicate(c, key, first[key], m)
                continue
            first[key] = m
            if key[2] < last[key[:2]]:
                self.fault("order", "%s: %s after number %d%s" % (
                    c.user, m.body, last[key[:2]], " (delayed)" if m.delayed else ""))
            last[key[:2]] = max(last[key[:2]], key[2])
        self.notes["delivered to users"] += len(first)

    def duplicate(self, c, key, one, two):
        broke = c.stream_ends.get(one.stream, float("inf"))
        sender = self.run.clients.get(key[0])
        if sender and key in getattr(sender, "repeated", ()):
            self.notes["duplicates: not acknowledged, so sent again by the sender"] += 1
            if self.run.sent.get(key) and one.stream == two.stream:
                self.fault("duplicate", "%s twice on one stream, with an origin-id" % two.body)
        elif one.stream != two.stream and broke - one.when < BREAK_WINDOW_S and two.delayed:
            self.notes["duplicates: connection broke before the recipient's acknowledgement"] += 1
        elif key[0].startswith("+") and self.mo_sent[key] > 1:
            self.mo_sent[key] -= 1
            self.notes["duplicates: sent twice by the SMSC, whose connection broke"] += 1
        else:
            self.fault("duplicate", "%s got %s twice: %.3f s apart, streams %d and %d, delayed: %s" % (
                c.user, two.body, two.when - one.when, one.stream, two.stream, two.delayed))

    def check_sms(self, acked, arrived, refused):
        """What the SMSC took against what was acknowledged; conversations that still have entries."""
        entries = self.world.queue()
        open_states = collections.Counter(m["state"] for m in entries)
        self.notes["SMS queue"] = dict(open_states)
        ambiguous = collections.Counter(
            (m["from"].split("@")[0], m["to_number"]) for m in entries if m["ambiguous"])
        waiting = collections.Counter((m["from"].split("@")[0], m["to_number"]) for m in entries
                                      if m["state"] in ("queued", "submitted"))
        last, twice = collections.defaultdict(lambda: -1), collections.Counter()
        count, again = 0, collections.defaultdict(list)
        for s in self.world.smsc.submits():
            key = parse(s.text)
            if key is None:
                self.fault("alien", "the SMSC got %r" % s.text)
                continue
            if key in arrived:
                twice[key[:2]] += 1
                again[key[:2]].append("#%d%s%s" % (
                    key[2], " (origin-id)" if self.run.sent.get(key) else "",
                    " sent again by its sender" if key in self.run.clients[key[0]].repeated else ""))
                continue
            count += 1
            arrived[key] = [s]
            if key[2] < last[key[:2]]:
                self.fault("order", "SMSC: %s after number %d" % (s.text, last[key[:2]]))
            last[key[:2]] = max(last[key[:2]], key[2])
        self.notes["submitted to the SMSC"] = count
        self.notes["flagged ambiguous"] = sum(ambiguous.values())
        for conversation, n in twice.items():
            self.notes["SMS duplicates"] += n
            if n > ambiguous[conversation]:
                self.fault("duplicate", "%s>%s: %d submitted twice, %d flagged as ambiguous: %s" % (
                    conversation + (n, ambiguous[conversation], ", ".join(again[conversation]))))
        return waiting

    def check_lost(self, acked, arrived, refused, waiting):
        waiting = collections.Counter(waiting)
        for key in sorted(acked):
            if key in arrived or key in refused:
                continue
            if waiting[key[:2]] > 0:
                waiting[key[:2]] -= 1
                self.notes["still queued"] += 1
            else:
                self.fault("lost", "%s>%s#%d was acknowledged and is nowhere" % key)

    def check_mo(self, clients):
        got = {parse(m.body) for c in clients.values() for m in c.received}
        for source, _, status, data in self.world.smsc.mos():
            key = parse(data.decode())
            self.notes["MO answered"] += 1
            if status:
                self.notes["MO refused"] += 1
            elif key not in got:
                self.fault("lost", "%s was answered to the SMSC and is nowhere" % data.decode())


def report(world, account, problems):
    world.say("kills: " + ", ".join("%s %d" % x for x in sorted(world.kills.items())))
    for name, value in account.notes.items():
        world.say("%s: %s" % (name, value))
    kinds = collections.Counter(k for k, _ in problems)
    for kind, n in kinds.items():
        for _, text in [p for p in problems if p[0] == kind][:8]:
            world.say("%s: %s" % (kind.upper(), text))
        if n > 8:
            world.say("%s: and %d more" % (kind.upper(), n - 8))
    return kinds


def play(cls, kills, seed, pause=(0.3, 1.5)):
    """One world, one run: Counter of the kinds of problems. The world's folder is kept if there are any."""
    rng = random.Random(seed)
    work = tempfile.mkdtemp(prefix="crash-")
    os.chmod(work, 0o711)           # the processes give up root and still reach their folders
    world = cls(rng, work)
    problems = [("start", "?")]
    try:
        world.start()
        run = Run(world, kills, rng, pause)
        late = asyncio.run(run.go())
        account = Account(run)
        problems = account.check() + [("stuck", x) for x in late]
        if not account.notes["acknowledged"]:
            problems.append(("stuck", "nothing was acknowledged at all"))
        if problems:
            with open(os.path.join(work, "clients.log"), "w") as f:
                for c in list(run.clients.values()) + list(run.offline.values()):
                    for when, text in c.events:
                        f.write("%8.3f %s %s\n" % (when - world.began, c.user, text))
        return report(world, account, problems)
    finally:
        world.stop()
        if problems and cls is not LyingDiskWorld:
            print("  kept: %s (seed %d)" % (work, seed))
        else:
            shutil.rmtree(work, ignore_errors=True)


def crash(a):
    """Kill anything, again and again."""
    return not play(TandemWorld, a.kills, a.seed)


def power(a):
    return not play(PowerCutWorld, a.kills, a.seed)


def detector(a):
    """It must fail, and for that reason."""
    kinds = play(LyingDiskWorld, 2, a.seed, (2.5, 3))
    if not kinds["lost"]:
        print("  the test did not notice that nothing was synced: %s" % dict(kinds))
    return bool(kinds["lost"])


PARTS = {"crash": crash, "power": power, "detector": detector}


def main():
    p = argparse.ArgumentParser(description="see the top of this file")
    p.add_argument("--long", action="store_true")
    p.add_argument("--minutes", type=float, default=10, help="of --long, shared by all parts")
    p.add_argument("--kills", type=int, default=10, help="in each part of the short form")
    p.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    p.add_argument("--server", choices=("tandem", "prosody"), default="tandem")
    p.add_argument("--only", choices=sorted(PARTS))
    a = p.parse_args()
    print("seed %d" % a.seed, flush=True)
    if a.server == "prosody":
        return 1 if play(ProsodyWorld, a.kills, a.seed) else 0
    names = [a.only] if a.only else list(PARTS)
    end, failed, passed = time.monotonic() + a.minutes * 60, 0, 0
    if a.long:
        a.kills = 60
    while True:
        for name in names:
            print("%s, seed %d:" % (name, a.seed), flush=True)
            good = PARTS[name](a)
            print("%s - %s" % ("ok" if good else "not ok", name), flush=True)
            failed, passed = failed + (not good), passed + good
        if not a.long or failed or time.monotonic() > end:
            break
        a.seed += 1
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
