#!/usr/bin/python3
"""What the pages point at is there (TAP): links and their headings; paths, files, functions and make
goals in `code`.

A path is a word that begins with a folder of the tree, a file one that ends like a source; a
function is a name with () behind it.
"""
import errno
import glob
import os
import re

import csource

GUIDE = "docs/guide.md"
ERRNO = [os.strerror(n) for n in (errno.ECONNREFUSED, errno.EACCES, errno.ENOENT)]
PAGES = ["README.md"] + csource.files("docs", ends=(".md",))
ROOTS = csource.PRODUCT + ("tests", "docs")
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.S | re.M)
PATH = re.compile(r"^(?:%s)/[\w./*<>-]+$" % "|".join(ROOTS))
LEAF = re.compile(r"^[a-z][\w-]*\.(?:c|h|def|py|sh|awk)$")
CALL = re.compile(r"^([a-z_][a-z0-9_]*)\(\)$")
GOAL = re.compile(r"(?m)(?:`|^)make (?:[A-Z_]+=\S+ +)*([a-z][a-z0-9_-]*)")
# Functions of others that we write about.
FOREIGN = ("main log_ev fork exec execve fsync fdatasync connect accept bind sendmsg write writev read kill mmap "
           "malloc free SSL_read SSL_write poll select epoll_wait open close setuid chroot").split()


def anchors(page):
    """The names that the headings of a page get."""
    found = set()
    for heading in re.findall(r"^#+ +(.*?) *#*$", FENCE.sub("", csource.text(page)), re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        found.add(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
    return found


def line(text, at):
    return text.count("\n", 0, at) + 1


def links(page):
    """(complaints, pages that it links to)"""
    bad, to = [], set()
    text = csource.text(page)
    for m in LINK.finditer(text):
        target, _, anchor = m.group(1).partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = os.path.normpath(os.path.join(os.path.dirname(page), target)) if target else page
        if not os.path.exists(os.path.join(csource.TOP, path)):
            bad.append("%s:%d: %s is not there" % (page, line(text, m.start()), path))
        elif anchor and path.endswith(".md") and anchor not in anchors(path):
            bad.append("%s:%d: %s has no heading #%s" % (page, line(text, m.start()), path, anchor))
        to.add(path)
    return bad, to


def words(page):
    """Each word in `code`, with its line."""
    text = csource.text(page)
    for m in CODE.finditer(FENCE.sub(lambda f: re.sub(r"[^\n]", " ", f.group()), text)):
        yield line(text, m.start()), m.group(1)


def path_there(word):
    pattern = re.sub(r"<[^>]*>|[A-Z]{4,}", "*", word.rstrip("/"))
    return bool(glob.glob(os.path.join(csource.TOP, pattern)))


class Tree:
    """What the pages may name."""

    def __init__(self):
        paths = csource.files(*ROOTS, ends=(".c", ".h", ".def", ".py", ".js", ".sh", ".awk"))
        self.leaves = {os.path.basename(p) for p in paths}
        self.functions = set(FOREIGN)
        for path in paths:
            self.functions |= set(re.findall(r"\b[a-z_][a-z0-9_]*(?=\()", csource.text(path)))
        rules = re.findall(r"^([a-z][a-z0-9_. -]*):(?!=)", csource.text("Makefile").replace("\\\n", " "), re.M)
        self.goals = {goal for rule in rules for goal in rule.split()}
        self.goals |= set(os.listdir(os.path.join(csource.TOP, "appliance", "configs")))

    def missing(self, page):
        """(paths, functions, goals) of a page that are not there."""
        paths, functions, goals = [], [], []
        for n, word in words(page):
            at = "%s:%d: %s" % (page, n, word)
            call = CALL.match(word)
            if PATH.match(word) and not path_there(word) or LEAF.match(word) and word not in self.leaves:
                paths.append(at)
            if call and call.group(1) not in self.functions:
                functions.append(at)
        text = csource.text(page)
        for m in GOAL.finditer(text):
            if m.group(1) not in self.goals:
                goals.append("%s:%d: make %s" % (page, line(text, m.start()), m.group(1)))
        return paths, functions, goals


def quoted_texts():
    """(line, text) of the messages that the guide explains: what a program says, what a sender sees."""
    page = csource.text(GUIDE)
    for m in re.finditer(r"^\| (?:`([^`]+)`(?=: | \|)|[a-z-]+ \| ([A-Z][^|]+?) \|).*$", page[page.index("## Trouble"):], re.M):
        yield line(page, page.index("## Trouble") + m.start()), m.group(1) or m.group(2)


def texts_that_nobody_says():
    paths = csource.files(ends=(".c", ".h", ".def"))
    source = re.sub(r'"\s*(?:PRI\w+\s*)?"', "", "\n".join(csource.text(p) for p in paths))
    bad = []
    for n, text in quoted_texts():
        for piece in re.split(r"\.\.\.|: |'[A-Z]'|0x[0-9a-f]+|\b[A-Z]{4,}(?::[A-Z]+)?\b|\b[NX]\b|\d+|[()]", text):
            piece = piece.strip(" :|")
            if len(piece) > 5 and piece not in source and piece not in ERRNO:
                bad.append("%s:%d: nobody says %r" % (GUIDE, n, piece))
    return bad


def main():
    tap, tree = csource.Tap(), Tree()
    bad_links, linked, missing = [], {"README.md"}, ([], [], [])
    for page in PAGES:
        bad, to = links(page)
        bad_links += bad
        linked |= to
        for all_of, more in zip(missing, tree.missing(page)):
            all_of.extend(more)
    tap.rule("every link of a page leads somewhere", bad_links)
    tap.rule("every page can be reached from another",
             [p for p in PAGES if p not in linked and not p.startswith(("docs/rules/", "docs/fsm/"))])
    tap.rule("every path in a page is there", missing[0])
    tap.rule("every function in a page is in the source", missing[1])
    tap.rule("every message that the guide explains is in the source", texts_that_nobody_says())
    tap.rule("every make goal in a page is in the Makefile", missing[2])
    tap.done()


if __name__ == "__main__":
    main()
