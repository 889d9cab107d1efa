"""Fixtures: a whole Tandem, an SMS centre, and what the tests share.  "make test" calls pytest with BUILD set.

One Tandem serves most tests (each makes accounts and links of its own); a test that kills, stops or
misconfigures it starts another one.
"""
import itertools
import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "peers"))

from smsc import Smsc               # noqa: E402
from tandem import Tandem           # noqa: E402

PASSWORD = "pass-word-1"
counter = itertools.count(1)


@pytest.fixture(scope="session")
def tandem():
    t = Tandem()
    t.start()
    yield t
    t.stop()


@pytest.fixture
def account(tandem):
    """Makes a new account with a name of its own: account("alice") -> Account."""
    def make(name="user", number=False):
        n = next(counter)
        a = Account("%s%d" % (name, n), PASSWORD, tandem.domain,
                    "+1444200%04d" % n if number else None)
        tandem.user_add(a.user, a.password, a.number)
        return a
    return make


class Account:
    def __init__(self, user, password, domain, number):
        self.user, self.password, self.domain, self.number = user, password, domain, number
        self.jid = "%s@%s" % (user, domain)


class Link:
    """An SMPP link of the shared Tandem to an SMSC of its own, for numbers that begin with its prefix."""

    def __init__(self, tandem, smsc, name, prefix, options):
        self.tandem, self.smsc, self.name, self.prefix = tandem, smsc, name, prefix
        tandem.link_add(name, smsc, prefixes=prefix, reconnect_max_seconds=1, **options)

    def number(self, i=0):
        return "%s%04d" % (self.prefix, i)

    def jid(self, i=0):
        return "%s@sms.%s" % (self.number(i), self.tandem.domain)

    def state(self):
        return next(x for x in self.tandem.ctl("--json", "link", "list")["links"]
                    if x["name"] == self.name)


@pytest.fixture
def link(tandem):
    """link(window=10, smsc={"dlr": 1}) -> Link that is bound; smsc: settings of an Smsc, or a peer that there
    is. Both go away after the test."""
    made = []

    def make(smsc=None, bound=True, **options):
        n = next(counter)
        peer = Smsc(password="p", **(smsc or {})) if smsc is None or isinstance(smsc, dict) else smsc
        made.append((peer, "link%d" % n))
        x = Link(tandem, peer, "link%d" % n, "+1999%03d" % n, options)
        if bound:
            peer.wait_bound()
        return x
    yield make
    for peer, name in made:
        tandem.ctl("link", "delete", name, check=False)
        peer.stop()
