"""SMS centres that are broken, slow, full, or hostile, against a running Tandem (tests/peers/oddsmsc.py)."""
import asyncio

import pytest

from oddsmsc import BIND, UNBIND, OddSmsc, ignore, late
from servers import wait_for
from xmpp_peer import in_loop, login


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
