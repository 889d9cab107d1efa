"""slixmpp for the tests: a client that is logged in, and its inbox."""
import asyncio
import functools
import logging
import ssl

import slixmpp
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

logging.getLogger("slixmpp").setLevel(logging.CRITICAL)
PLUGINS = ("xep_0030", "xep_0092", "xep_0184", "xep_0199", "xep_0202", "xep_0203")


def in_loop(function):
    """A coroutine as a test; what it leaves open is closed."""
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        async def body():
            try:
                await asyncio.wait_for(function(*args, **kwargs), 90)
            finally:
                for peer in Peer.open:
                    peer.kill()
                Peer.open.clear()
        asyncio.run(body())
    return wrapper


class LoginFailed(Exception):
    pass


class Peer(slixmpp.ClientXMPP):
    open = []

    def __init__(self, server, account, resource=None, mechanism=None, sm=False, binding=None,
                 plugins=()):
        """mechanism: only this one; without -PLUS then as a client that knows no channel binding, unless
        binding is true."""
        super().__init__("%s%s" % (account.jid, "/" + resource if resource else ""), account.password)
        self.tandem = server
        self.inbox, self.presences, self.seen = asyncio.Queue(), asyncio.Queue(), []
        self.whitespace_keepalive = False
        if mechanism:
            m = self["feature_mechanisms"]
            m.use_mech = mechanism
            if not binding and not mechanism.endswith("-PLUS"):
                m.sasl_callback = lambda need, may: dict(m._default_credentials(need, may),
                                                         channel_binding=None)
        for name in PLUGINS + tuple(plugins) + (("xep_0198",) if sm else ()):
            self.register_plugin(name)
        self["xep_0184"].auto_ack = False
        self.roster.auto_authorize = None
        self.roster.auto_subscribe = False
        self.done = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", lambda e: self.settle("in"))
        self.add_event_handler("failed_all_auth", lambda e: self.settle("authentication failed"))
        self.add_event_handler("connection_failed", lambda e: self.settle("no connection: %s" % e))
        # Who was refused several times is disconnected before slixmpp has tried everything.
        self.add_event_handler("disconnected", lambda e: self.settle("disconnected"))
        self.add_event_handler("message", self.inbox.put_nowait)
        self.add_event_handler("message_error", self.inbox.put_nowait)
        self.add_event_handler("receipt_received", self.inbox.put_nowait)
        self.register_handler(Callback("every presence", MatchXPath("{jabber:client}presence"),
                                       self.presences.put_nowait))
        Peer.open.append(self)

    def settle(self, what):
        if not self.done.done():
            self.done.set_result(what)

    async def login(self, tls="starttls", presence=True):
        context = self.get_ssl_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        direct = tls == "direct"
        self.connect(("127.0.0.1", self.tandem.tls_port if direct else self.tandem.port),
                     use_ssl=direct, force_starttls=tls == "starttls",
                     disable_starttls=tls == "plain")
        what = await asyncio.wait_for(self.done, 20)
        if what != "in":
            raise LoginFailed(what)
        if presence:
            self.send_presence()
            # Our own presence comes back when the server has us.
            await self.presence(lambda p: p["from"] == self.boundjid)
        return self

    async def message(self, want=None, timeout=20):
        """The next message that want() says yes to; others stay for later calls."""
        return await self.take(self.inbox, want, timeout)

    async def presence(self, want=None, timeout=20):
        return await self.take(self.presences, want, timeout)

    async def take(self, queue, want, timeout):
        kept, end = [], asyncio.get_running_loop().time() + timeout
        try:
            while True:
                left = end - asyncio.get_running_loop().time()
                try:
                    m = await asyncio.wait_for(queue.get(), max(left, 0.001))
                except asyncio.TimeoutError:
                    raise AssertionError("%s: not in %d s; there was: %s" % (
                        self.boundjid, timeout, [str(k) for k in kept])) from None
                if want is None or want(m):
                    return m
                kept.append(m)
        finally:
            for k in kept:
                queue.put_nowait(k)

    async def nothing(self, want=None):
        """Whatever was sent to us before this call has come; none of it satisfies want()."""
        await self["xep_0199"].send_ping(self.boundjid.bare, timeout=10)
        while not self.inbox.empty():
            m = self.inbox.get_nowait()
            assert want is not None and not want(m), str(m)

    async def errors(self, iq_future):
        """The condition of the error that an iq is answered with."""
        try:
            r = await iq_future
        except slixmpp.exceptions.IqError as e:
            return e.condition
        raise AssertionError("no error but %s" % r)

    async def logout(self):
        await self.disconnect(wait=2.0)
        self.kill()

    def kill(self):
        """The network is gone."""
        self.cancel_connection_attempt()
        if self.transport:
            self.transport.abort()


async def login(server, account, tls="starttls", presence=True, **options):
    return await Peer(server, account, **options).login(tls, presence)
