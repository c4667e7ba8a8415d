"""The sockets that processes have bound, as Linux tells them."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

LISTEN = "0A"


def bound(pids: list[int]) -> dict[str, set[str]]:
    """Return the local addresses of the processes' UDP sockets and listening TCP sockets: {"udp": ..., "tcp": ...}."""
    inodes = {inode for pid in pids for inode in _inodes(pid)}
    out: dict[str, set[str]] = {"udp": set(), "tcp": set()}
    for kind in ("udp", "udp6", "tcp", "tcp6"):
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and (kind.startswith("udp") or fields[3] == LISTEN):
                out[kind[:3]].add(_address(fields[1].partition(":")[0]))
    return out


def _inodes(pid: int) -> set[str]:
    links = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.add(os.readlink(fd))
        except OSError:  # closed meanwhile
            continue
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def _address(digits: str) -> str:
    """Words of four bytes, each in the machine's order (little endian)."""
    words = [bytes.fromhex(digits[i : i + 8])[::-1] for i in range(0, len(digits), 8)]
    return str(ipaddress.ip_address(b"".join(words)))
