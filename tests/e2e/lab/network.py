# SPDX-License-Identifier: LGPL-2.1-or-later
"""Networks, their ports, and interfaces that plug into them."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import uuid
from typing import Optional
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import libvirt

from . import kernel
from .bandwidth import Values, bandwidth_xml, inbound_of
from .commands import connection, file_of, virsh

PERSISTENT_DIR = pathlib.Path("/etc/libvirt/qemu/networks")


@dataclasses.dataclass(frozen=True)
class Port:
    """A port as virNetworkPortGetXMLDesc tells it."""

    uuid: str
    mac: str
    class_id: Optional[int]
    inbound: dict[str, int]
    xml: str

    @property
    def floor(self) -> int:
        return self.inbound.get("floor", 0)

    @staticmethod
    def from_xml(xml: str) -> Port:
        root = ElementTree.fromstring(xml)
        bandwidth = root.find("bandwidth")
        class_id = None if bandwidth is None else bandwidth.get("classID")
        return Port(
            uuid=root.findtext("uuid", ""),
            mac=root.find("mac").get("address", "").lower(),
            class_id=int(class_id) if class_id else None,
            inbound=inbound_of(xml),
            xml=xml,
        )


@dataclasses.dataclass
class Nic:
    """An <interface type='network'> of a guest."""

    network: Network
    mac: str
    host_number: int
    inbound: Values
    outbound: Optional[Values] = None
    raw_bandwidth: Optional[str] = None  # instead of the two above, as it stands
    trusted: bool = False  # the guest may change its MAC address

    @property
    def ip4(self) -> str:
        return f"10.{self.network.index}.0.{self.host_number}"

    @property
    def ip6(self) -> str:
        return f"fd00:{self.network.index}::{self.host_number:x}"

    def xml(self, with_addresses: bool = False, model: str = "") -> str:
        """Addresses are for LXC, whose driver sets them in the guest; a model is for QEMU."""
        addresses = (
            f"<ip address='{self.ip4}' prefix='24'/><ip family='ipv6' address='{self.ip6}' prefix='64'/>"
            if with_addresses
            else ""
        )
        bandwidth = self.raw_bandwidth or bandwidth_xml(self.inbound, self.outbound)
        trust = " trustGuestRxFilters='yes'" if self.trusted else ""
        return (
            f"<interface type='network'{trust}><mac address='{self.mac}'/>"
            f"<source network='{self.network.name}'/>{addresses}"
            f"{model and f'<model type={model!r}/>'}{bandwidth}</interface>"
        )

    def port(self) -> Port:
        return self.network.port(self.mac)

    def class_id(self) -> int:
        class_id = self.port().class_id
        assert class_id is not None, f"{self.mac} on {self.network.name} has no class ID"
        return class_id

    def kernel_class(self) -> kernel.Class:
        return self.network.classes()[self.class_id()]

    def tune(self, **values: int) -> None:
        """virNetworkPortSetParameters of the values given, as in floor=500."""
        parameters = {f"inbound.{key}": value for key, value in values.items()}
        with connection() as conn:
            network = conn.networkLookupByName(self.network.name)
            network.portLookupByUUIDString(self.port().uuid).setParameters(parameters, 0)

    def parameters(self) -> dict[str, int]:
        """virNetworkPortGetParameters."""
        with connection() as conn:
            network = conn.networkLookupByName(self.network.name)
            port = network.portLookupByUUIDString(self.port().uuid)
            with contextlib.suppress(LookupError):  # that is how the binding says "none"
                return port.parameters(0)
            return {}


@dataclasses.dataclass
class Network:
    """A network of its own for a test: name, bridge and addresses follow from the index."""

    index: int
    inbound: Values
    outbound: Optional[Values] = None
    forward: Optional[str] = "open"  # no firewall rules: quicker than nat
    name: str = ""
    services: bool = False  # DHCP and DNS, which are of no use to our guests
    bridge_options: str = ""  # more attributes of <bridge>
    _last_number: int = dataclasses.field(default=10, repr=False)

    def __post_init__(self) -> None:
        self.name = self.name or f"test-net-{self.index}"

    @property
    def bridge(self) -> str:
        return f"brt{self.index}"

    @property
    def address(self) -> str:
        return f"10.{self.index}.0.1"

    @property
    def persistent_file(self) -> pathlib.Path:
        return PERSISTENT_DIR / f"{self.name}.xml"

    def xml(self) -> str:
        # STP is off so that a new guest's bridge port forwards at once.
        dhcp = f"<dhcp><range start='10.{self.index}.0.100' end='10.{self.index}.0.200'/></dhcp>"
        addresses = (
            f"<dns enable='{'yes' if self.services else 'no'}'/>"
            f"<ip address='{self.address}' netmask='255.255.255.0'>{dhcp if self.services else ''}</ip>"
            f"<ip family='ipv6' address='fd00:{self.index}::1' prefix='64'/>"
        )
        return (
            f"<network><name>{escape(self.name)}</name>"
            f"<uuid>{uuid.uuid5(uuid.NAMESPACE_DNS, self.name)}</uuid>"
            f"{self.forward and f'<forward mode={self.forward!r}/>' or ''}"
            f"<bridge name='{self.bridge}' stp='off' delay='0' {self.bridge_options}/>"
            f"<mac address='52:54:00:{self.index:02x}:ff:01'/>"
            f"{bandwidth_xml(self.inbound, self.outbound)}{addresses}</network>"
        )

    # What a user does.

    def define(self) -> None:
        with file_of(self.xml()) as path:
            virsh("net-define", path)

    def start(self) -> None:
        virsh("net-start", self.name)

    def create(self) -> None:
        """Starts it as a transient network."""
        with file_of(self.xml()) as path:
            virsh("net-create", path)

    def destroy(self) -> None:
        virsh("net-destroy", self.name)

    def undefine(self) -> None:
        virsh("net-undefine", self.name)

    def autostart(self) -> None:
        virsh("net-autostart", self.name)

    # What libvirt says.

    def dumpxml(self, *options: str) -> str:
        return virsh("net-dumpxml", *options, self.name)

    def info(self, key: str) -> str:
        """A value of `virsh net-info`, such as Active, Persistent, Autostart."""
        for line in virsh("net-info", self.name).splitlines():
            name, _, value = line.partition(":")
            if name == key:
                return value.strip()
        raise KeyError(key)

    def is_active(self) -> bool:
        return self.info("Active") == "yes"

    def ports(self) -> list[Port]:
        with connection() as conn:
            network = conn.networkLookupByName(self.name)
            return [Port.from_xml(port.XMLDesc(0)) for port in network.listAllPorts(0)]

    def port(self, mac: str) -> Port:
        found = [port for port in self.ports() if port.mac == mac.lower()]
        assert len(found) == 1, f"{len(found)} ports with MAC {mac} on {self.name}"
        return found[0]

    # What the kernel says.

    def classes(self) -> dict[int, kernel.Class]:
        return kernel.tc_classes(self.bridge)

    def shapes(self) -> dict[int, tuple[int, ...]]:
        """The classes without their counters."""
        return {class_id: each.shape() for class_id, each in self.classes().items()}

    # Interfaces and ports for it.

    def nic(
        self,
        mac: Optional[str] = None,
        outbound: Optional[Values] = None,
        raw_bandwidth: Optional[str] = None,
        **inbound: object,
    ) -> Nic:
        """A new interface; its inbound values are keywords, as in nic(floor=500)."""
        self._last_number += 1
        number = self._last_number
        mac = mac or f"52:54:00:{self.index:02x}:00:{number:02x}"
        return Nic(self, mac, number, inbound, outbound, raw_bandwidth)

    def port_xml(
        self,
        nic: Nic,
        class_id: Optional[int] = None,
        port_uuid: Optional[str] = None,
        reclaim: bool = False,
    ) -> str:
        """A port as a hypervisor driver asks for it, for tests that need many or odd ones."""
        bandwidth = nic.raw_bandwidth or bandwidth_xml(nic.inbound, nic.outbound)
        if class_id is not None:
            bandwidth = bandwidth.replace("<bandwidth", f"<bandwidth classID='{class_id}'", 1)
        plug = f"<plug type='network' bridge='{self.bridge}'/>" if reclaim else ""
        return (
            f"<networkport><uuid>{port_uuid or uuid.uuid4()}</uuid>"
            f"<owner><name>nobody</name><uuid>{uuid.uuid4()}</uuid></owner>"
            f"<mac address='{nic.mac}'/>{bandwidth}{plug}</networkport>"
        )

    def create_port(
        self,
        nic: Nic,
        class_id: Optional[int] = None,
        port_uuid: Optional[str] = None,
        reclaim: bool = False,
    ) -> Port:
        """virNetworkPortCreateXML, as a hypervisor driver calls it."""
        flags = libvirt.VIR_NETWORK_PORT_CREATE_RECLAIM if reclaim else 0
        xml = self.port_xml(nic, class_id, port_uuid, reclaim)
        with connection() as conn:
            return Port.from_xml(conn.networkLookupByName(self.name).portCreateXML(xml, flags).XMLDesc(0))

    def delete_port(self, port: Port) -> None:
        with connection() as conn:
            conn.networkLookupByName(self.name).portLookupByUUIDString(port.uuid).delete(0)
