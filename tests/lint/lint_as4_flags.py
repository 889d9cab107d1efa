#!/usr/bin/python3
"""Flags that Linux 2.6.9 and glibc 2.3.4 (TARGET_RHEL_AS4) do not know, which no symbol betrays.

They may stand only in a sys.h (appliance/loop/sys.h; a lower layer may have one of its own) and
there only where a guard proves that the target has them: #ifdef CONFIG_SYS_*, CONFIG_TARGET_MODERN.
A file that is compiled for TARGET_MODERN alone is listed in MODERN_ONLY.
"""
import os
import re

import csource

FLAGS = ("SOCK_CLOEXEC SOCK_NONBLOCK O_CLOEXEC O_PATH O_TMPFILE EPOLLRDHUP EPOLLEXCLUSIVE "
         "EPOLL_CLOEXEC EFD_CLOEXEC EFD_NONBLOCK MSG_CMSG_CLOEXEC F_DUPFD_CLOEXEC "
         "SO_REUSEPORT TCP_USER_TIMEOUT TCP_FASTOPEN MSG_ZEROCOPY MSG_FASTOPEN "
         "CLOCK_MONOTONIC_COARSE CLOCK_MONOTONIC_RAW CLOCK_BOOTTIME PR_SET_NO_NEW_PRIVS "
         "PR_SET_NAME AT_FDCWD AT_EMPTY_PATH MADV_DONTFORK MADV_DONTDUMP GRND_NONBLOCK SEEK_HOLE "
         "SEEK_DATA RLIMIT_RTTIME F_OFD_SETLK F_OFD_SETLKW MAP_HUGETLB").split()
FLAG = re.compile(r"\b(%s)\b" % "|".join(FLAGS))
CALL = re.compile(r"\bsyscall\s*\(|\b(SYS|__NR)_[a-z]\w+")
GUARD = re.compile(r"\bCONFIG_(SYS_\w+|TARGET_MODERN|SANDBOX_\w+)\b")
MODERN_ONLY = re.compile(r"(^|/)sandbox_(seccomp|landlock)\.c$")


def scan(path):
    """(line, flag, whether an open conditional holds only on a target that has it)"""
    stack = []
    for number, line in enumerate(csource.code(path), 1):
        m = re.match(r"\s*#\s*(ifdef|ifndef|if|elif|else|endif)\b(.*)", line)
        if m:
            word, rest = m.groups()
            positive = bool(GUARD.search(rest)) and "!" not in rest and "||" not in rest
            if word in ("ifdef", "if"):
                stack.append(positive)
            elif word == "ifndef":
                stack.append(False)
            elif word == "elif" and stack:
                stack[-1] = positive
            elif word == "else" and stack:
                stack[-1] = False
            elif word == "endif" and stack:
                stack.pop()
            continue
        for flag in FLAG.findall(line):
            yield number, flag, any(stack)
        if CALL.search(line):
            yield number, "syscall()", any(stack)


outside, unguarded = [], []
for source in csource.files():
    if MODERN_ONLY.search(source):
        continue
    for at, what, safe in scan(source):
        if os.path.basename(source) != "sys.h":
            outside.append("%s:%d: %s belongs into a sys.h" % (source, at, what))
        elif not safe:
            unguarded.append("%s:%d: %s without #ifdef CONFIG_SYS_..." % (source, at, what))

tap = csource.Tap()
tap.rule("flags newer than RHEL AS 4 are only in sys.h", outside)
tap.rule("and only under a guard", unguarded)
tap.done()
