"""Which network interfaces DDS may use: this machine's own unless somebody says otherwise."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import struct
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

from hsr_core.errors import ConfigError

from .environment import PROFILE_VARIABLES, large_message_profile, transport_environment, uses_fastdds

LOOPBACK = "127.0.0.1"
RANGE, PEERS, SERVER = "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER"
_NAMESPACE = "http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"
_SIOCGIFADDR = 0x8915


def network_environment(
    dds_profile: str, interface: str, folder: Path, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the variables to add to a node's environment: those of `transport_environment`, bound to an interface.

    A profile of the user's own stays as it is; so does the network where ROS's own variables speak of one.

    Args:
        dds_profile: As in `transport_environment`.
        interface: "" = loopback, unless ROS_AUTOMATIC_DISCOVERY_RANGE, ROS_STATIC_PEERS or ROS_DISCOVERY_SERVER open
            the network; `all`; or the name or IPv4 address of an interface, which is used beside the loopback.
        folder: Where the profile is written.
        environ: The environment that is added to; the current one if None.

    Raises:
        ConfigError: No such interface, or an interface is given that this setting cannot bind to.
        FileNotFoundError: `dds_profile` is a path without a file.
    """
    environ = os.environ if environ is None else environ
    out = transport_environment(dds_profile, environ)
    ours = out.get(PROFILE_VARIABLES[0]) == str(large_message_profile())
    if interface and interface != "all" and not ours:
        reason = "a Fast DDS profile is set" if uses_fastdds(environ) else "the middleware is not Fast DDS"
        raise ConfigError(f"interface {interface}: {reason}; name the interface there")
    if interface == "all" or (not interface and opened_by_ros(environ)):
        return out
    if ours:
        path = folder / "fastdds.xml"
        path.write_bytes(bound_profile(addresses(interface)))
        out.update(dict.fromkeys(PROFILE_VARIABLES, str(path)))
    elif not environ.get(RANGE) and not any(environ.get(name) for name in PROFILE_VARIABLES) and dds_profile == "auto":
        out[RANGE] = "LOCALHOST"
    return out


def opened_by_ros(environ: Mapping[str, str]) -> bool:
    """True when ROS's own variables ask for other machines."""
    named = environ.get(PEERS) or environ.get(SERVER)
    return bool(named) or environ.get(RANGE, "").upper() in ("SUBNET", "SYSTEM_DEFAULT")


def addresses(interface: str) -> list[str]:
    """Return the IPv4 addresses for an interface: the loopback, and its own.

    Raises:
        ConfigError: There is no such interface, or it has no IPv4 address.
    """
    if interface in ("", "lo", LOOPBACK):
        return [LOOPBACK]
    known = {name: _address_of(name) for _, name in socket.if_nameindex()}
    found = known.get(interface) or (interface if _is_ipv4(interface) and interface in known.values() else "")
    if not found:
        there = ", ".join(f"{name} ({address})" for name, address in known.items() if address)
        raise ConfigError(f"no interface {interface!r} with an IPv4 address; there are: {there}; or all")
    return [LOOPBACK, found]


def bound_profile(allowed: list[str]) -> bytes:
    """Return our transport profile (XML) with UDP bound to these addresses."""
    ET.register_namespace("", _NAMESPACE)
    root = ET.parse(large_message_profile()).getroot()
    for transport in root.iter(f"{{{_NAMESPACE}}}transport_descriptor"):
        if transport.findtext(f"{{{_NAMESPACE}}}type") == "UDPv4":
            names = ET.SubElement(transport, f"{{{_NAMESPACE}}}interfaceWhiteList")
            for address in allowed:
                ET.SubElement(names, f"{{{_NAMESPACE}}}address").text = address
    return ET.tostring(root, encoding="UTF-8", xml_declaration=True)


def _address_of(name: str) -> str:
    """Return the first IPv4 address of an interface; "" = none (Linux only)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            reply = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return ""
    return socket.inet_ntoa(reply[20:24])


def _is_ipv4(text: str) -> bool:
    try:
        return bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False
