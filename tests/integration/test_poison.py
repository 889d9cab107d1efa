"""Single stanzas made to stop what comes behind them: in a translator's stream, in a mailbox, in the journal. One
such message, acknowledged and kept, would be tried again for ever."""
import pytest

from rawxmpp import Raw
from servers import wait_for

CHAT = "<message to='%s' id='%s' type='chat'>%s</message>"
SHAPES = {
    # What we write for it: 1.5 MB of &apos;
    "quotes": "<x xmlns='urn:x' a=\"" + "'" * 250000 + "\"/><body>hi</body>",
    # 2.8 MB: each element gets the declaration of its namespace
    "prefixes": "<x:x xmlns:x='urn:x' xmlns:a='urn:" + "y" * 800 + "'>" + "<a:a/><x:b/>" * 1800 + "</x:x>"
                "<body>hi</body>",
}


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_grows_when_written(tandem, account, shape):
    """The sender is told; the telephone gets what comes behind it (DELIV-12)."""
    phone = "%s@sms.%s" % (tandem.handset("report"), tandem.domain)
    with Raw(tandem).login(account(number=True)) as a:
        a.enable()
        a.send(CHAT % (phone, "large", SHAPES[shape]))
        got = a.until("</message>").decode()
        assert "id='large'" in got and "<policy-violation" in got, got[-500:]
        a.send(CHAT % (phone, "next", "<body>hi</body><request xmlns='urn:xmpp:receipts'/>"))
        got = a.until("</message>").decode()
        assert "<received" in got and "id='next'" in got, got[-500:]


def test_dense_message_in_the_mailbox(tandem, account):
    """Small on the wire, forty times that as a tree: who was away gets it, and the one behind it."""
    me, friend = account(), account()
    with Raw(tandem).login(me) as a:
        a.enable()
        for n, inner in enumerate(("<x xmlns='urn:x'>" + "y<a/>" * 4000 + "</x>", "<body>last</body>")):
            a.send(CHAT % (friend.jid, n, inner))
        a.send("<r xmlns='urn:xmpp:sm:3'/>")
        while "h='2'" not in a.until("/>").decode():
            pass
    with Raw(tandem).login(friend) as b:
        b.send("<presence/>")
        assert "id='0'" in b.until("</message>").decode()
        assert "<body>last" in b.until("</message>").decode()


def test_deeper_than_a_translator_is_used_to(tandem, account):
    """What the configuration lets in, the translators take."""
    phone = "%s@sms.%s" % (tandem.handset("report"), tandem.domain)
    tandem.configure("limits", depth=1000, attributes=1000)
    try:
        with Raw(tandem).login(account(number=True)) as a:
            a.enable()
            many = "".join(" a%d=''" % n for n in range(990))
            a.send(CHAT % (phone, "deep", "<body>hi</body><request xmlns='urn:xmpp:receipts'/>" +
                           "<a xmlns='urn:a'%s>" % many + "<a>" * 990 + "</a>" * 991))
            got = a.until("</message>").decode()
            assert "<received" in got and "id='deep'" in got, got[-500:]
        wait_for(lambda: tandem.status()["sms"]["core"] == "up", "the translator has not given up", 5)
    finally:
        tandem.configure("limits", depth=64, attributes=64)


def test_long_id_to_a_telephone(tandem, account):
    """The answer names the message, however long its id is; the queue does not keep such (MSG-12)."""
    phone = "%s@sms.%s" % (tandem.handset("report"), tandem.domain)
    name = "'" * 150000
    inner = "<body>hi</body><request xmlns='urn:xmpp:receipts'/>"
    with Raw(tandem).login(account(number=True)) as a:
        a.enable()
        a.send("<message to='%s' id=\"%s\" type='chat'>%s</message>" % (phone, name, inner))
        a.send("<iq to='%s' id=\"%s\" type='get'><query xmlns='urn:x'/></iq>" % (phone, name))
        a.send(CHAT % (phone, "next", inner))
        got = ""                                            # the answers come in no order
        while got.count("</message>") < 2 or "</iq>" not in got:
            got += a.until("</message>", "</iq>").decode()
        assert "<policy-violation" in got and got.count("&apos;") == 2 * len(name), got[-500:]
        assert "type='error'" in got.split("<iq")[1].split("</iq>")[0][:200]
        assert "<received" in got and "id='next'" in got, got[-500:]
