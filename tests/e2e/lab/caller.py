# SPDX-License-Identifier: LGPL-2.1-or-later
"""Calls libvirt as the user that it runs as (see polkit.User): a call a line on stdin, its outcome on
stdout, both JSON.

It is given to the interpreter as text, since that user may not be able to read this folder.
"""

import ctypes
import json
import sys

import libvirt

libvirt.registerErrorHandler(lambda _context, _error: None, None)


class TypedParameter(ctypes.Structure):
    _fields_ = [("field", ctypes.c_char * 80), ("type", ctypes.c_int), ("value", ctypes.c_uint64)]


def set_parameters(port: libvirt.virNetworkPort, values: dict) -> None:
    """virNetworkPortSetParameters alone: the binding's method reads the parameters first."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    parameters = (TypedParameter * len(values))(
        *((name.encode(), libvirt.VIR_TYPED_PARAM_UINT, value) for name, value in values.items())
    )
    function = ctypes.CDLL("libvirt.so.0").virNetworkPortSetParameters
    function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint)
    if function(pointer(port._o, b"virNetworkPortPtr"), parameters, len(values), 0) < 0:
        raise libvirt.libvirtError("virNetworkPortSetParameters() failed")


class Caller:
    def __init__(self, uri: str, read_only: bool) -> None:
        self._connection = (libvirt.openReadOnly if read_only else libvirt.open)(uri)

    def _network(self, name: str) -> libvirt.virNetwork:
        return self._connection.networkLookupByName(name)

    def _port(self, network: str, uuid: str) -> libvirt.virNetworkPort:
        return self._network(network).portLookupByUUIDString(uuid)

    def start(self, network: str) -> None:
        self._network(network).create()

    def create(self, xml: str) -> None:
        self._connection.networkCreateXML(xml)

    def create_with_flags(self, xml: str) -> None:
        self._connection.networkCreateXMLFlags(xml, libvirt.VIR_NETWORK_CREATE_VALIDATE)

    def define(self, xml: str) -> None:
        self._connection.networkDefineXML(xml)

    def undefine(self, network: str) -> None:
        self._network(network).undefine()

    def destroy(self, network: str) -> None:
        self._network(network).destroy()

    def autostart(self, network: str) -> None:
        self._network(network).setAutostart(1)

    def xml(self, network: str, flags: int) -> None:
        self._network(network).XMLDesc(flags)

    def create_port(self, network: str, xml: str) -> None:
        self._network(network).portCreateXML(xml, 0)

    def delete_port(self, network: str, uuid: str) -> None:
        self._port(network, uuid).delete(0)

    def set_port(self, network: str, uuid: str, values: dict) -> None:
        set_parameters(self._port(network, uuid), values)

    def get_port(self, network: str, uuid: str) -> None:
        self._port(network, uuid).parameters(0)

    def port_xml(self, network: str, uuid: str) -> None:
        self._port(network, uuid).XMLDesc(0)

    def start_domain(self, name: str, flags: int) -> None:
        self._connection.lookupByName(name).createWithFlags(flags)


def main() -> None:
    callers = {}
    for line in sys.stdin:
        uri, read_only, function, arguments = json.loads(line)
        code, text = 0, ""
        try:
            key = (uri, read_only)
            if key not in callers:
                callers[key] = Caller(uri, read_only)
            getattr(callers[key], function)(*arguments)
        except libvirt.libvirtError as error:
            code, text = error.get_error_code(), error.get_error_message()
        print(json.dumps([code, text]), flush=True)


main()
