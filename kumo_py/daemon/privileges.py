"""As whom the node runs: file limits, and giving root away (`--user`).

Like kumod, a node started as root becomes the user given before the policy runs, and keeps only the right to bind
ports below 1024 (CAP_NET_BIND_SERVICE, capabilities(7)).
"""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import struct

_PR_SET_KEEPCAPS = 8
_CAP_NET_BIND_SERVICE = 10
_CAPABILITY_VERSION_3 = 0x20080522


class PrivilegeError(Exception):
    """The user does not exist, or this process may not become it."""


def raise_file_limit() -> int:
    """Allow as many open files as the system lets us; how many that are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def become(user: str) -> None:
    """Run as this user from now on. Raises PrivilegeError.

    A process that is not root may only name the user it already is.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise PrivilegeError(f"--user {user}: there is no such user") from None
    if os.geteuid() == account.pw_uid:
        return
    if os.geteuid() != 0:
        raise PrivilegeError(f"--user {user}: only root can become another user")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0:
        raise PrivilegeError(f"--user {user}: prctl: {os.strerror(ctypes.get_errno())}")
    os.setgroups(os.getgrouplist(user, account.pw_gid))
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    # Two 32-bit halves of (effective, permitted, inheritable).
    mask = 1 << _CAP_NET_BIND_SERVICE
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if libc.capset(header, struct.pack("=6I", mask, mask, 0, 0, 0, 0)) != 0:
        raise PrivilegeError(f"--user {user}: capset: {os.strerror(ctypes.get_errno())}")
