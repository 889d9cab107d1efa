"""XMPP servers from Debian, started in a temporary folder on free ports: what we are compared with
("make bench"), and what our translators must also run beside (integration tests)."""
import base64
import hashlib
import hmac
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ITERATIONS = 4096
SALT = b"0123456789abcdef"


def free_ports(count):
    """Ports that nobody listens on at this moment; all different."""
    held = []
    for _ in range(count):
        s = socket.socket()
        s.bind(("127.0.0.1", 0))
        held.append(s)
    ports = [s.getsockname()[1] for s in held]
    for s in held:
        s.close()
    return ports


def wait_for(condition, what, timeout=60):
    """Poll until condition() is true and return its value; an exception in it counts as false."""
    end = time.monotonic() + timeout
    problem = None
    while True:
        try:
            value = condition()
            if value:
                return value
        except (OSError, ValueError, KeyError, AssertionError) as e:
            problem = e
        if time.monotonic() > end:
            raise TimeoutError("%s: not within %d s%s"
                               % (what, timeout, " (%s)" % problem if problem else ""))
        time.sleep(0.05)


def listens(port, host="127.0.0.1"):
    with socket.create_connection((host, port), 1):
        return True


def scram(password, name="sha1", salt=SALT, iterations=ITERATIONS):
    """(stored key, server key)"""
    salted = hashlib.pbkdf2_hmac(name, password.encode(), salt, iterations)
    client = hmac.new(salted, b"Client Key", name).digest()
    return hashlib.new(name, client).digest(), hmac.new(salted, b"Server Key", name).digest()


def verifiers(password):
    """As "tandemctl user import" takes them."""
    out = []
    for mechanism, name in (("SCRAM-SHA-512", "sha512"), ("SCRAM-SHA-256", "sha256"),
                            ("SCRAM-SHA-1", "sha1")):
        stored, server = scram(password, name)
        out.append("%s$%d:%s$%s:%s" % (mechanism, ITERATIONS, base64.b64encode(SALT).decode(),
                                       base64.b64encode(stored).decode(),
                                       base64.b64encode(server).decode()))
    return out


def certificate(folder, names=("localhost",)):
    """A self-signed certificate: (certificate file, key file)."""
    crt, key = os.path.join(folder, "test.crt"), os.path.join(folder, "test.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-keyout", key, "-out",
                    crt, "-subj", "/CN=" + names[0], "-addext",
                    "subjectAltName=" + ",".join("DNS:" + n for n in names)],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.chmod(key, 0o644)
    return crt, key


class Process:
    """A program in a session of its own, with its output in a file."""

    def __init__(self, argv, log, env=None, cwd=None, stdin=subprocess.DEVNULL, stdout=None):
        self.log = log
        with open(log, "ab") as out:
            self.proc = subprocess.Popen(argv, stdin=stdin, stdout=stdout or out, stderr=out,
                                         env=env, cwd=cwd, start_new_session=True)
        self.pid = self.proc.pid

    def running(self):
        return self.proc.poll() is None

    def output(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def until(self, condition, what, timeout=60):
        def check():
            if not self.running():
                raise RuntimeError("%s: ended with status %s\n%s" % (
                    what, self.proc.returncode, self.output()[-3000:]))
            return condition()
        return wait_for(check, what, timeout)

    def stop(self, sig=signal.SIGTERM, timeout=10):
        if self.running():
            try:
                os.killpg(self.pid, sig)
                self.proc.wait(timeout)
            except ProcessLookupError:
                pass
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.proc.wait()


class Prosody:
    name = "Prosody"

    def __init__(self, modules=(), components=(), options="", storage=""):
        """modules: beyond what a session with presence needs; components: [(domain, secret)]."""
        self.dir = tempfile.mkdtemp(prefix="prosody-")
        self.port, self.tls_port, self.component_port = free_ports(3)
        self.domain = "localhost"
        crt, key = certificate(self.dir)
        self.modules = ["roster", "saslauth", "tls", "presence", "message", "iq", "offline", "disco",
                        "ping", "c2s", "smacks"] + list(modules)
        text = ""
        for domain, secret in components:
            text += 'Component "%s"\n  component_secret = "%s"\n' % (domain, secret)
        with open(os.path.join(self.dir, "prosody.cfg.lua"), "w") as f:
            f.write("""
run_as_root = true
pidfile = "%(dir)s/prosody.pid"
data_path = "%(dir)s/data"
certificates = "%(dir)s"
network_backend = "epoll"
log = { warn = "*console" }
interfaces = { "127.0.0.1" }
c2s_ports = { %(port)d }
c2s_direct_tls_ports = { %(tls_port)d }
component_ports = { %(component)d }
s2s_ports = { }
http_ports = { }
https_ports = { }
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_hashed"
storage = "internal"
archive_expires_after = "never"
modules_enabled = { %(modules)s }
modules_disabled = { "s2s", "http" }
ssl = { key = "%(key)s", certificate = "%(crt)s" }
%(options)s
VirtualHost "localhost"
%(components)s
""" % {"dir": self.dir, "port": self.port, "tls_port": self.tls_port, "key": key, "crt": crt,
       "component": self.component_port, "components": text, "options": options,
       "modules": ", ".join('"%s"' % m for m in self.modules)})

    def settings(self):
        return ("0.12.3, epoll, internal storage and SCRAM hashes, modules: %s; no TLS asked of plain "
                "clients; no rate limits" % " ".join(self.modules))

    def accounts(self, users, password):
        """Written as mod_auth_internal_hashed keeps them; before start."""
        stored, server = scram(password)
        folder = os.path.join(self.dir, "data", "localhost", "accounts")
        os.makedirs(folder, exist_ok=True)
        for user in users:
            with open(os.path.join(folder, user + ".dat"), "w") as f:
                f.write('return {\n["iteration_count"] = %d;\n["salt"] = "%s";\n'
                        '["stored_key"] = "%s";\n["server_key"] = "%s";\n};\n'
                        % (ITERATIONS, SALT.decode(), stored.hex(), server.hex()))

    def start(self):
        self.process = Process(["prosody", "-F", "--config", os.path.join(self.dir, "prosody.cfg.lua")],
                               os.path.join(self.dir, "log"))
        self.process.until(lambda: listens(self.port), "Prosody")

    def pids(self):
        return [self.process.pid]

    def stop(self):
        self.process.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


class Ejabberd:
    name = "ejabberd"

    def __init__(self, components=()):
        """components: [(domain, secret)]."""
        self.dir = tempfile.mkdtemp(prefix="ejabberd-")
        self.port, self.tls_port, self.component_port = free_ports(3)
        self.domain = "localhost"
        crt, key = certificate(self.dir)
        pem = os.path.join(self.dir, "both.pem")
        with open(pem, "w") as out:
            for path in (key, crt):
                with open(path) as f:
                    out.write(f.read())
        self.modules = "mod_roster mod_disco mod_offline mod_ping mod_stream_mgmt mod_register".split()
        with open(os.path.join(self.dir, "ejabberd.yml"), "w") as f:
            f.write("""
hosts: [localhost]
loglevel: warning
certfiles: ["%(pem)s"]
auth_method: internal
auth_password_format: scram
registration_timeout: infinity
listen:
  - {port: %(port)d, ip: "127.0.0.1", module: ejabberd_c2s, max_stanza_size: 262144, starttls: true}
  - {port: %(tls)d, ip: "127.0.0.1", module: ejabberd_c2s, max_stanza_size: 262144, tls: true}
%(service)ss2s_access: none
modules:
  mod_roster: {}
  mod_disco: {}
  mod_offline: {}
  mod_ping: {send_pings: false}
  mod_stream_mgmt: {}
  mod_register: {ip_access: all, access: all, password_strength: 0}
""" % {"pem": pem, "port": self.port, "tls": self.tls_port, "service": self.service(components)})

    def service(self, components):
        hosts = ", ".join('"%s": {password: "%s"}' % x for x in components)
        return ('  - {port: %d, ip: "127.0.0.1", module: ejabberd_service, access: all, hosts: {%s}}\n'
                % (self.component_port, hosts) if components else "")

    def settings(self):
        return ("23.01, Mnesia, SCRAM hashes, SMP on all processors, modules: %s; no TLS asked of plain "
                "clients; no shapers" % " ".join(self.modules))

    def start(self):
        env = dict(os.environ, EJABBERD_CONFIG_PATH=os.path.join(self.dir, "ejabberd.yml"),
                   EJABBERD_LOG_PATH=os.path.join(self.dir, "ejabberd.log"),
                   ERL_LIBS="/usr/lib/x86_64-linux-gnu", HOME=self.dir, ERL_MAX_PORTS="32000",
                   ERL_CRASH_DUMP_SECONDS="0")
        self.process = Process(["erl", "-noinput", "+K", "true", "+P", "250000", "+Q", "32000",
                                "-mnesia", "dir", '"%s/spool"' % self.dir, "-s", "ejabberd"],
                               os.path.join(self.dir, "out"), env)
        self.process.until(lambda: listens(self.port), "ejabberd")

    def pids(self):
        return [self.process.pid]

    def stop(self):
        self.process.stop()
        shutil.rmtree(self.dir, ignore_errors=True)
