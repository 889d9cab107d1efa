"""A whole Tandem as "make run" starts it (appliance/run.sh), in a temporary folder on free ports."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile

from servers import Process, scram, verifiers, wait_for  # noqa: F401

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BUILD") or os.path.join(TOP, "build")


def free_base(count=10):
    """A port with count - 1 free ones after it."""
    for _ in range(1000):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            base = s.getsockname()[1]
        # Below the range from which clients get their ports, so that none of them is in our way.
        base = 10000 + base % 20000
        held = []
        try:
            for port in range(base, base + count):
                s = socket.socket()
                held.append(s)
                s.bind(("0.0.0.0", port))
            return base
        except OSError:
            pass
        finally:
            for s in held:
                s.close()
    raise RuntimeError("no %d free ports in a row" % count)


class CtlError(Exception):
    def __init__(self, argv, status, out, err):
        super().__init__("tandemctl %s: status %d: %s%s" % (" ".join(argv), status, out, err))
        self.status, self.out, self.err = status, out, err


class Tandem:
    name = "Tandem"

    def __init__(self, run_dir=None, port_base=None, c2s_tls=None, environment=None, prefix=()):
        """prefix: what to run it under (prlimit --nofile=100)."""
        self.own_dir = run_dir is None
        self.dir = run_dir or tempfile.mkdtemp(prefix="tandem-")
        self.base = port_base or free_base()
        self.env = {k: v for k, v in os.environ.items()
                    if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "RUN_DIR", "PORT_BASE", "C2S_TLS")}
        self.env.update(RUN_DIR=self.dir, PORT_BASE=str(self.base), BUILD=BUILD)
        if c2s_tls:
            self.env["C2S_TLS"] = c2s_tls
        self.env.update(environment or {})
        self.process, self.prefix = None, list(prefix)
        self.settings_made = {}

    # --- life -------------------------------------------------------------------------------------

    def spawn(self):
        """Start it and do not wait."""
        log = os.path.join(self.dir, "test-run.log")
        if os.path.exists(log):
            os.remove(log)
        argv = self.prefix + ["sh", os.path.join(TOP, "appliance/run.sh")]
        self.process = Process(argv, log, self.env, cwd=TOP)

    def start(self, timeout=60):
        self.spawn()
        # The card comes when the server answers, not before.
        self.process.until(lambda: "card.json" in self.output(), "Tandem", timeout)
        if not self.ready():
            raise RuntimeError("it printed the card before it was ready")
        return self

    def ready(self):
        path = os.path.join(self.dir, "card.json")
        if not os.path.exists(path):
            return False
        self.read_card()
        return self.try_status().get("ready")

    def read_card(self):
        with open(os.path.join(self.dir, "card.json")) as f:
            self.card = json.load(f)
        self.domain, self.control = self.card["domain"], self.card["control"]
        self.port = int(self.card["c2s"].rsplit(":", 1)[1])
        self.tls_port = int(self.card["c2s_tls"].rsplit(":", 1)[1])
        self.component_port = int(self.card["component"].rsplit(":", 1)[1])

    def account(self, name):
        """{"jid", "password", "number"} of the card, by the name before the @."""
        return next(a for a in self.card["accounts"] if a["jid"].split("@")[0] == name)

    def handset(self, behaviour):
        return next(h["number"] for h in self.card["handsets"] if h["behaviour"] == behaviour)

    def pids(self):
        return [self.process.pid]

    def stop(self, sig=signal.SIGTERM, remove=True):
        if self.process:
            try:
                os.kill(self.process.pid, sig)
                self.process.proc.wait(15)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
            self.process.stop(signal.SIGKILL)
        if remove and self.own_dir:
            shutil.rmtree(self.dir, ignore_errors=True)

    def output(self):
        return self.process.output()

    # --- tandemctl --------------------------------------------------------------------------------

    def ctl(self, *argv, stdin=None, check=True, timeout=60):
        """Runs tandemctl; its output. argv may begin with "--json": then the parsed object."""
        command = [os.path.join(BUILD, "tandemctl"), "--control", self.control] + list(argv)
        p = subprocess.run(command, input=stdin, stdin=None if stdin else subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=timeout)
        if check and p.returncode:
            raise CtlError(argv, p.returncode, p.stdout, p.stderr)
        if not check:
            return p
        return json.loads(p.stdout) if "--json" in argv else p.stdout

    def status(self):
        return self.ctl("--json", "status")

    def try_status(self):
        try:
            return self.ctl("--json", "status", timeout=10)
        except (CtlError, subprocess.TimeoutExpired, ValueError):
            return {}

    def pid_of(self, name):
        return next((p["pid"] for p in self.try_status().get("processes", [])
                     if p["name"] == name), None)

    def all_pids(self):
        """tandemd, its processes and run.sh."""
        s = self.try_status()
        return [p["pid"] for p in s.get("processes", []) if p["pid"]] + [
            p for p in (s.get("pid"), self.process.pid) if p]

    def supervisor_pid(self):
        return self.status()["pid"]

    def rss(self, name):
        with open("/proc/%d/status" % self.pid_of(name)) as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) * 1024

    # --- set-up -----------------------------------------------------------------------------------

    def user_add(self, name, password, number=None):
        jid = name if "@" in name else "%s@%s" % (name, self.domain)
        argv = ["user", "add", jid, "--password-stdin"]
        self.ctl(*(argv + (["--number", number] if number else [])), stdin=password + "\n")
        return jid

    def accounts(self, users, password, numbers=0):
        """Many at once, by their verifiers; the first of them get a number each."""
        path = os.path.join(self.dir, "import.txt")
        keys = " ".join(verifiers(password))
        with open(path, "w") as f:
            for i, user in enumerate(users):
                f.write("%s@%s\t%s%s\n" % (user, self.domain, keys,
                                          "\t+1444%07d" % i if i < numbers else ""))
        self.ctl("user", "import", path, timeout=300)

    def link_add(self, name, smsc, system_id="u", password="p", **settings):
        argv = ["link", "add", name, "--host", "127.0.0.1", "--port", str(smsc.port), "--system-id",
                system_id, "--password-stdin"]
        for key, value in settings.items():
            argv += ["--" + key.replace("_", "-"), str(value)]
        self.ctl(*argv, stdin=password + "\n")

    def config_path(self):
        return os.path.join(self.dir, "tandem.conf")

    def configure(self, section, **values):
        """Set options of a section ("" for the top of the file), also for later starts, and reload."""
        self.write_config(section, **values)
        self.ctl("reload")

    def write_config(self, section, **values):
        """In tandem.conf, which run.sh writes anew at each start, and in extra.conf, whose
        settings count more."""
        self.settings_made.setdefault(section, {}).update(values)
        with open(os.path.join(self.dir, "extra.conf"), "w") as f:
            for name, made in self.settings_made.items():
                lines = "".join("%s = %s\n" % x for x in made.items())
                f.write("%s {\n%s}\n" % (name, lines) if name else lines)
        if not os.path.exists(self.config_path()):
            return
        with open(self.config_path()) as f:
            text = f.read()
        for key, value in values.items():
            text = re.sub(r"(?m)^\s*%s\s*=.*\n" % re.escape(key), "", text)
        lines = "".join("%s = %s\n" % x for x in values.items())
        if not section:
            text = lines + text
        elif re.search(r"(?m)^%s\s*\{" % re.escape(section), text):
            text = re.sub(r"(?m)^(%s\s*\{)" % re.escape(section), lambda m: m.group(1) + "\n" + lines,
                          text, count=1)
        else:
            text += "\n%s {\n%s}\n" % (section, lines)
        with open(self.config_path(), "w") as f:
            f.write(text)

    def log_text(self):
        with open(os.path.join(self.dir, "tandem.log"), errors="replace") as f:
            return f.read()
