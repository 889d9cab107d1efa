#!/usr/bin/python3
"""Does what was built start, and does the card of "make run" promise what is there? smoke.py BUILD (TAP)."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "peers"))
BUILD = os.environ["BUILD"] = os.path.abspath(sys.argv[1])

from tandem import Tandem           # noqa: E402

failed = []


def check(what, good):
    print("%s - %s" % ("ok" if good else "not ok", what))
    if not good:
        failed.append(what)


def main():
    with open(os.path.join(BUILD, "include/config/auto.conf")) as f:
        have = {line.split("=")[0] for line in f}
    sms, phones = "CONFIG_TRANSLATOR_SMS" in have, "CONFIG_SMS_RADIO" in have
    t = Tandem()
    try:
        t.start(40)
        names = {p["name"] for p in t.status()["processes"]}
        check("the processes of this build are started, and no others",
              names == ({"tandem-core", "tandem-sms"} if sms else {"tandem-core"}))
        check("numbers only with SMS", all(bool(a["number"]) == sms for a in t.card["accounts"]))
        check("handsets only with radios", bool(t.card["handsets"]) == phones)
        check("the printed card too", ("phones " in t.output()) == phones and
              ("real SMSC" in t.output()) == sms)
        t.user_add("carol", "pass-word-1")
        t.ctl("user", "delete", "carol@localhost")
        check("an account is made and deleted", True)
    except Exception as e:          # pylint: disable=broad-except
        print("# %s: %s" % (type(e).__name__, e))
        print("# " + t.output().replace("\n", "\n# "))
        check("it starts", False)
    finally:
        t.stop()
    print("1..%d" % 5)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
