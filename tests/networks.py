"""A network of one machine alone: a namespace from which nothing leads anywhere, and which notes every packet that tries.

A thread of its own enters the namespace, so what it starts and every socket it opens is in there, and the rest of the
tests is not. Only Linux, and only who may make namespaces.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

CLONE_NEWNS, CLONE_NEWNET = 0x0002_0000, 0x4000_0000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x4004_54CA, 0x0001, 0x1000
PACKET_BYTES = 65_536
LIBC = ctypes.CDLL(None, use_errno=True)
NAMESERVER = "192.0.2.53"  # of a block that is nobody's: a question for a name has to leave the machine


@dataclass
class Alone:
    """The network as its thread sees it. `caught` is filled by `look`."""

    caught: list[str] = field(default_factory=list)
    device: int = -1

    def look(self) -> list[str]:
        """Where packets have tried to go so far: "udp 192.0.2.53:53"."""
        while self.device >= 0:
            try:
                self.caught.append(destination(os.read(self.device, PACKET_BYTES)))
            except BlockingIOError:
                break
        return [name for name in self.caught if name]


def alone(body: Callable[[Alone], T], *, sink: bool) -> T:
    """`body` in a network with a loopback and nothing else: no route, so that a call outside fails at once; or, with a
    `sink`, a route into nothing, so that it waits, and is noted."""
    with ThreadPoolExecutor(1, thread_name_prefix="alone") as thread:
        return thread.submit(entered, body, sink).result()


def entered(body: Callable[[Alone], T], sink: bool) -> T:
    if LIBC.unshare(CLONE_NEWNET | CLONE_NEWNS):
        number = ctypes.get_errno()
        if number in (errno.EPERM, errno.ENOSYS, errno.ENOSPC):
            pytest.skip(f"no network namespace may be made here: {os.strerror(number)}")
        raise OSError(number, os.strerror(number))
    up("lo")
    network = Alone()
    if sink:
        network.device = sink_everything()
        ask_outside_for_names()
    try:
        return body(network)
    finally:
        if sink:
            os.close(network.device)


def up(device: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", device.encode(), IFF_UP))


def sink_everything() -> int:
    """A device that all routes lead to; whoever reads it sees the packets."""
    try:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    except OSError as missing:
        pytest.skip(f"no tunnel device here: {missing.strerror}")
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sh22x", b"sink", IFF_TUN | IFF_NO_PI))
    up("sink")
    for route in (["addr", "add", "198.51.100.1/32"], ["route", "add", "default"], ["-6", "route", "add", "default"]):
        # Where there is no IPv6 at all, nothing can leave by it.
        subprocess.run(["ip", *route, "dev", "sink"], check="-6" not in route, capture_output=True)
    return device


def ask_outside_for_names() -> None:
    """A resolver on the loopback would hide who asks for which name, so this mount namespace names another."""
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    file = Path(f"/tmp/winnow-resolver-{os.getpid()}")
    file.write_text(f"nameserver {NAMESERVER}\noptions timeout:1 attempts:1\n")
    try:
        subprocess.run(["mount", "--bind", file, Path("/etc/resolv.conf").resolve()], check=True)
    finally:
        file.unlink()


def destination(packet: bytes) -> str:
    """Protocol, address and port of an IP packet; "" for what the kernel itself says to its neighbours."""
    version = packet[0] >> 4
    protocol, to, start = (
        (packet[9], packet[16:20], (packet[0] & 15) * 4) if version == 4 else (packet[6], packet[24:40], 40)
    )
    address = ip_address(to)
    if address.is_multicast:
        return ""
    name = {6: "tcp", 17: "udp"}.get(protocol, f"protocol-{protocol}")
    port = int.from_bytes(packet[start + 2 : start + 4], "big") if protocol in (6, 17) else 0
    return f"{name} {address}:{port}"
