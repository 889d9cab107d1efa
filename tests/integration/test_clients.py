"""Clients that we did not write: slixmpp."""
import asyncio
import re

import pytest
import slixmpp

from smclient import SmClient, Stream
from xmpp_peer import LoginFailed, Peer, in_loop, login

MECHANISMS = ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS",
              "SCRAM-SHA-512-PLUS", "PLAIN"]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@in_loop
async def test_login_starttls(tandem, account, mechanism):
    a = account()
    p = await login(tandem, a, mechanism=mechanism)
    assert p.boundjid.bare == a.jid and p.boundjid.resource
    (session,) = tandem.ctl("--json", "sessions", a.jid)["sessions"]
    assert session["mechanism"] == mechanism and session["tls"]


@in_loop
async def test_downgrade_of_channel_binding_is_refused(tandem, account):
    """A client that could bind the channel and believes that we cannot (RFC 5802 section 6)."""
    with pytest.raises(LoginFailed):
        await login(tandem, account(), mechanism="SCRAM-SHA-256", binding=True)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN"])
@in_loop
async def test_login_direct_tls(tandem, account, mechanism):
    p = await login(tandem, account(), tls="direct", mechanism=mechanism)
    await p["xep_0199"].send_ping(p.boundjid.bare, timeout=10)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN"])
@in_loop
async def test_wrong_password_and_unknown_user_look_alike(tandem, account, mechanism):
    wrong, nobody = account(), account()
    wrong.password = "no"
    nobody.jid = "nobody-at-all@" + tandem.domain
    seen = []
    for a in (wrong, nobody):
        p = Peer(tandem, a, mechanism=mechanism)
        failures = []
        p.add_event_handler("failed_auth", lambda e: failures.append(e["condition"]))
        with pytest.raises(LoginFailed):
            await p.login()
        seen.append(failures)
    assert seen[0] and set(seen[0]) == {"not-authorized"} and seen[0] == seen[1]


@in_loop
async def test_plain_client_is_refused(tandem, account):
    """TLS is required: without it there is nothing to log in with."""
    with pytest.raises((LoginFailed, asyncio.TimeoutError)):
        p = Peer(tandem, account())
        p.connect(("127.0.0.1", tandem.port), disable_starttls=True, force_starttls=False)
        what = await asyncio.wait_for(p.done, 3)
        if what != "in":
            raise LoginFailed(what)


@in_loop
async def test_messages_both_ways(tandem, account):
    a, b = await login(tandem, account()), await login(tandem, account())
    for n in range(30):
        a.send_message(b.boundjid.bare, "to b %d \u20ac \U0001f600 <&>" % n, mtype="chat")
        b.send_message(a.boundjid.full, "to a %d" % n, mtype="chat")
    for n in range(30):
        m = await b.message()
        assert m["body"] == "to b %d \u20ac \U0001f600 <&>" % n and m["from"] == a.boundjid
        assert (await a.message())["body"] == "to a %d" % n


@in_loop
async def test_second_resource_and_priority(tandem, account):
    x = account()
    low, high = await login(tandem, x, resource="low"), await login(tandem, x, resource="high")
    low.send_presence(ppriority=-1)
    high.send_presence(ppriority=5)
    await low["xep_0199"].send_ping(x.jid)
    await high["xep_0199"].send_ping(x.jid)
    b = await login(tandem, account())
    b.send_message(x.jid, "to the account", mtype="chat")
    assert (await high.message())["body"] == "to the account"
    b.send_message(low.boundjid.full, "to the resource", mtype="chat")
    assert (await low.message())["body"] == "to the resource"
    await low.nothing()
    await high.nothing()


@in_loop
async def test_resource_conflict(tandem, account):
    """Whatever the rule is, two sessions never have one full JID."""
    x = account()
    one = await login(tandem, x, resource="same")
    gone = asyncio.get_running_loop().create_future()
    one.add_event_handler("disconnected", lambda e: gone.done() or gone.set_result(True))
    two = await login(tandem, x, resource="same")
    assert two.boundjid.resource != one.boundjid.resource or await asyncio.wait_for(gone, 10)


@in_loop
async def test_to_nobody_and_to_other_domains(tandem, account):
    a = await login(tandem, account())
    a.send_message("nobody-here@" + tandem.domain, "hello", mtype="chat")
    m = await a.message(lambda m: m["type"] == "error")
    assert m["error"]["condition"] in ("service-unavailable", "item-not-found")
    a.send_message("x@elsewhere.example", "hello", mtype="chat")
    m = await a.message(lambda m: m["type"] == "error")
    assert m["error"]["condition"] == "remote-server-not-found"
    assert await a.errors(a["xep_0199"].send_ping("x@elsewhere.example", timeout=10)) == \
        "remote-server-not-found"


@in_loop
async def test_offline_messages_with_delay(tandem, account):
    x = account()
    a = await login(tandem, account())
    for n in range(5):
        a.send_message(x.jid, "while away %d" % n, mtype="chat")
    await a["xep_0199"].send_ping(a.boundjid.bare)
    b = await login(tandem, x)
    for n in range(5):
        m = await b.message()
        assert m["body"] == "while away %d" % n
        assert m["delay"]["stamp"] is not None and m["from"] == a.boundjid
    await b.logout()
    again = await login(tandem, x)
    await again.nothing()


@in_loop
async def test_receipts_pass(tandem, account):
    a, b = await login(tandem, account()), await login(tandem, account())
    b["xep_0184"].auto_ack = True
    m = a.make_message(b.boundjid.full, "receipt please", mtype="chat")
    m["request_receipt"] = True
    m.send()
    r = await a.message(lambda m: m["receipt"])
    assert r["receipt"] == m["id"]


@in_loop
async def test_roster_and_subscription(tandem, account):
    xa, xb = account(), account()
    a, b = await login(tandem, xa), await login(tandem, xb)
    await a.get_roster()
    await a.update_roster(xb.jid, name="Bee", groups=["Friends", "Work"])
    a.send_presence_subscription(xb.jid, ptype="subscribe")
    ask = await b.presence(lambda p: p["type"] == "subscribe")
    assert ask["from"].bare == xa.jid
    b.send_presence_subscription(xa.jid, ptype="subscribed")
    await a.presence(lambda p: p["type"] == "subscribed")
    # The contact's presence comes with the subscription, and each change after it.
    await a.presence(lambda p: p["from"] == b.boundjid and p["type"] == "available")
    b.send_presence(pshow="dnd", pstatus="busy")
    p = await a.presence(lambda p: p["from"] == b.boundjid and p["status"] == "busy")
    assert p["show"] == "dnd" or p["type"] == "dnd"
    b.send_presence_subscription(xa.jid, ptype="subscribe")
    await a.presence(lambda p: p["type"] == "subscribe")
    a.send_presence_subscription(xb.jid, ptype="subscribed")
    await b.presence(lambda p: p["from"] == a.boundjid and p["type"] == "available")
    again = await login(tandem, xa, resource="again")
    roster = await again.get_roster()
    item = roster["roster"]["items"][slixmpp.JID(xb.jid)]
    assert item["subscription"] == "both" and item["name"] == "Bee"
    assert sorted(item["groups"]) == ["Friends", "Work"]
    # Probes: the new session learns of the contact who is there.
    await again.presence(lambda p: p["from"] == b.boundjid)
    await b.logout()
    await a.presence(lambda p: p["from"].bare == xb.jid and p["type"] == "unavailable")
    await a.del_roster_item(xb.jid)
    roster = await again.get_roster()
    assert slixmpp.JID(xb.jid) not in roster["roster"]["items"]


@in_loop
async def test_subscription_request_waits_for_the_absent(tandem, account):
    xa, xb = account(), account()
    a = await login(tandem, xa)
    await a.get_roster()                # now it is an interested resource
    a.send_presence_subscription(xb.jid, ptype="subscribe")
    await a["xep_0199"].send_ping(xa.jid)
    b = await login(tandem, xb)
    assert (await b.presence(lambda p: p["type"] == "subscribe"))["from"].bare == xa.jid
    b.send_presence_subscription(xa.jid, ptype="unsubscribed")
    await a.presence(lambda p: p["type"] == "unsubscribed")


@in_loop
async def test_directed_presence(tandem, account):
    a, b = await login(tandem, account()), await login(tandem, account())
    a.send_presence(pto=b.boundjid.full, pstatus="for you")
    p = await b.presence(lambda p: p["from"] == a.boundjid)
    assert p["status"] == "for you"
    a.kill()
    await b.presence(lambda p: p["from"] == a.boundjid and p["type"] == "unavailable")


@in_loop
async def test_services(tandem, account):
    p = await login(tandem, account())
    info = await p["xep_0030"].get_info(tandem.domain, timeout=10)
    assert ("server", "im") in [(i[0], i[1]) for i in info["disco_info"]["identities"]]
    features = info["disco_info"]["features"]
    for feature in ("http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items",
                    "urn:xmpp:ping", "jabber:iq:version", "urn:xmpp:time", "msgoffline"):
        assert feature in features, feature
    items = await p["xep_0030"].get_items(tandem.domain, timeout=10)
    assert "sms." + tandem.domain in [i[0] for i in items["disco_items"]["items"]]
    info = await p["xep_0030"].get_info("sms." + tandem.domain, timeout=10)
    assert ("gateway", "sms") in [(i[0], i[1]) for i in info["disco_info"]["identities"]]
    await p["xep_0199"].send_ping(tandem.domain, timeout=10)
    version = await p["xep_0092"].get_version(tandem.domain, timeout=10)
    assert "andem" in version["software_version"]["name"]
    now = await p["xep_0202"].get_entity_time(tandem.domain, timeout=10)
    # (slixmpp 1.8.3 cannot parse its own entity_time["utc"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z",
                        now.xml.findtext(".//{urn:xmpp:time}utc"))
    iq = p.make_iq_get(queryxmlns="urn:example:nothing", ito=tandem.domain)
    assert await p.errors(iq.send(timeout=10)) == "service-unavailable"


@in_loop
async def test_resume_after_the_cable_was_cut(tandem, account):
    """XEP-0198 as slixmpp does it: what was sent meanwhile comes, once and in order."""
    x = account()
    a, b = await login(tandem, account()), await login(tandem, x, sm=True)
    resumed = asyncio.get_running_loop().create_future()
    b.add_event_handler("session_resumed", lambda e: resumed.done() or resumed.set_result(True))
    a.send_message(x.jid, "before", mtype="chat")
    assert (await b.message())["body"] == "before"
    b.end_session_on_disconnect = False
    b.transport.abort()
    for n in range(10):
        a.send_message(x.jid, "meanwhile %d" % n, mtype="chat")
    await a["xep_0199"].send_ping(a.boundjid.bare)
    b.connect(("127.0.0.1", tandem.port))
    assert await asyncio.wait_for(resumed, 15)
    for n in range(10):
        m = await b.message()
        assert m["body"] == "meanwhile %d" % n
    a.send_message(x.jid, "after", mtype="chat")
    assert (await b.message())["body"] == "after"


@in_loop
async def test_sent_again_with_its_origin_id(tandem, account):
    """CUST-5: what was committed is recognised by (sender, origin-id), and by nothing else."""
    x = account()
    a, b = SmClient("127.0.0.1", tandem.tls_port, x.user, x.password, x.domain), account()
    a.start()
    receiver = await login(tandem, b)
    message = "<message to='%s' type='chat' id='same'><body>%s</body>%s</message>"
    origin = "<origin-id xmlns='urn:xmpp:sid:0' id='o1'/>"
    for body, extra in (("once", origin), ("once", origin), ("twice", ""), ("twice", ""), ("end", "")):
        a.send(body, message % (b.jid, body, extra))
    seen = []
    while "end" not in seen:
        seen.append((await receiver.message())["body"])
    assert seen == ["once", "twice", "twice", "end"]
    await asyncio.wait_for(asyncio.shield(until(lambda: len(a.acknowledged) == 5)), 10)
    # And in a later session, too.
    await a.stop()
    again = SmClient("127.0.0.1", tandem.tls_port, x.user, x.password, x.domain)
    again.start()
    again.send("once", message % (b.jid, "once", origin))
    again.send("end", message % (b.jid, "end", ""))
    assert (await receiver.message())["body"] == "end"
    await again.stop()


async def until(condition):
    while not condition():
        await asyncio.sleep(0.02)


@in_loop
async def test_ipv6(tandem, account):
    with open("/proc/net/if_inet6") as f:
        assert "00000000000000000000000000000001" in f.read(), "no ::1 on this machine"
    for port in (tandem.tls_port, tandem.port):
        s = await Stream.open("::1", port, tls=port == tandem.tls_port)
        features = await s.header(tandem.domain)
        assert [e for e in features if e.tag.endswith("mechanisms" if port == tandem.tls_port else "starttls")]
        s.close()


@in_loop
async def test_large_and_too_large(tandem, account):
    a, b = await login(tandem, account()), await login(tandem, account())
    text = "x" * 200000
    a.send_message(b.boundjid.bare, text, mtype="chat")
    assert (await b.message())["body"] == text
    gone = asyncio.get_running_loop().create_future()
    a.add_event_handler("stream_error", lambda e: gone.done() or gone.set_result(e["condition"]))
    a.send_message(b.boundjid.bare, "x" * 400000, mtype="chat")
    assert await asyncio.wait_for(gone, 15) == "policy-violation"
    await b.nothing()
