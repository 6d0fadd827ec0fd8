#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""compare.py on a small source tree: it says nothing of a right one, and names what differs in others."""

from __future__ import annotations

import pathlib
import tempfile
import unittest

import compare

# Of the driver's functions, those that the module replaces or calls.
FUNCTIONS = {
    "ConnectListAllNetworks": "int (virConnectPtr conn, virNetworkPtr **nets, unsigned int flags)",
    "NetworkLookupByName": "virNetworkPtr (virConnectPtr conn, const char *name)",
    "NetworkCreateXML": "virNetworkPtr (virConnectPtr conn, const char *xmlDesc)",
    "NetworkCreateXMLFlags": "virNetworkPtr (virConnectPtr conn, const char *xmlDesc, unsigned int flags)",
    "NetworkDefineXML": "virNetworkPtr (virConnectPtr conn, const char *xml)",
    "NetworkCreate": "int (virNetworkPtr network)",
    "NetworkDestroy": "int (virNetworkPtr network)",
    "NetworkGetXMLDesc": "char * (virNetworkPtr network, unsigned int flags)",
    "NetworkGetAutostart": "int (virNetworkPtr network, int *autostart)",
    "NetworkSetAutostart": "int (virNetworkPtr network, int autostart)",
    "NetworkIsActive": "int (virNetworkPtr net)",
    "NetworkIsPersistent": "int (virNetworkPtr net)",
    "NetworkPortCreateXML": "virNetworkPortPtr (virNetworkPtr network, const char *xmldesc, unsigned int flags)",
    "NetworkPortGetXMLDesc": "char * (virNetworkPortPtr port, unsigned int flags)",
    "NetworkPortSetParameters": "int (virNetworkPortPtr port, virTypedParameterPtr params, int nparams, unsigned int flags)",
    "NetworkPortGetParameters": "int (virNetworkPortPtr port, virTypedParameterPtr *params, int *nparams, unsigned int flags)",
    "NetworkPortDelete": "int (virNetworkPortPtr port, unsigned int flags)",
    "NetworkListAllPorts": "int (virNetworkPtr network, virNetworkPortPtr **ports, unsigned int flags)",
}
POSITIONS = (5, 9, 10, 11, 12, 16, 17, 18, 20, 21, 22, 23, 26, 27, 28, 29, 30, 31)
ENTRIES = 34


def driver_table() -> str:
    entries = [f"virDrvOther{n} other{n};" for n in range(ENTRIES)]
    entries[0] = "const char *name; /* the name of the driver; not a function */"
    typedefs = []
    for position, (name, signature) in zip(POSITIONS, FUNCTIONS.items()):
        entries[position] = f"virDrv{name} {name[0].lower()}{name[1:]};"
        result, _, parameters = signature.partition("(")
        typedefs.append(f"typedef {result}\n(*virDrv{name})({parameters};\n")
    return "".join(typedefs) + "struct _virNetworkDriver {\n    " + "\n    ".join(entries) + "\n};\n"


FILES = {
    "meson.build": "project(\n  'libvirt', 'c',\n  version: '12.8.0',\n)\n",
    "src/driver-network.h": driver_table(),
    "src/driver-state.h": """
        typedef enum {
            VIR_DRV_STATE_INIT_ERROR = -1,
            VIR_DRV_STATE_INIT_SKIPPED,
            VIR_DRV_STATE_INIT_COMPLETE,
        } virDrvStateInitResult;
        typedef virDrvStateInitResult (*virDrvStateInitialize)(bool privileged, const char *root, bool monolithic);
        struct _virStateDriver {
            const char *name;
            bool initialized;
            virDrvStateInitialize stateInitialize;
            virDrvStateCleanup stateCleanup;
            virDrvStateReload stateReload;
            virDrvStateStop stateStop;
            virDrvStateShutdownPrepare stateShutdownPrepare;
            virDrvStateShutdownWait stateShutdownWait;
        };""",
    "src/driver.h": """
        struct _virConnectDriver {
            bool localOnly; /* who else? */
            bool remoteOnly;
            bool embeddable;
            const char **uriSchemes;
            virHypervisorDriver *hypervisorDriver;
            virInterfaceDriver *interfaceDriver;
            virNetworkDriver *networkDriver;
            virNodeDeviceDriver *nodeDeviceDriver;
            virNWFilterDriver *nwfilterDriver;
            virSecretDriver *secretDriver;
            virStorageDriver *storageDriver;
        };""",
    "src/driver-hypervisor.h": "struct _virHypervisorDriver { const char *name; virDrvConnectURIProbe connectURIProbe; virDrvConnectOpen connectOpen; };",
    "src/conf/network_conf.h": """
        struct _virNetworkDef {
            unsigned char uuid[VIR_UUID_BUFLEN];
            bool uuid_specified;
            char *name;
            char *title;
        };""",
    "src/conf/virnetworkportdef.h": "struct _virNetworkPortDef { unsigned char uuid[VIR_UUID_BUFLEN]; char *ownername; };",
    "src/util/virlog.h": """
        typedef enum { VIR_LOG_DEBUG = 1, VIR_LOG_INFO, VIR_LOG_WARN, VIR_LOG_ERROR, } virLogPriority;
        struct _virLogSource { const char *name; unsigned int priority; unsigned int serial; };""",
    "src/libvirt_private.syms": "# of all parts\n"
    + "".join(
        f"vir{name};\n"
        for name in """RegisterConnectDriver RegisterStateDriver ReportErrorHelper ErrorPreserveLast ErrorRestore
        IdentityGetCurrent IdentitySetCurrent IdentityGetSystem LogMessage""".split()
    ),
}

# What a new version might bring: file, text, what stands there instead, what must be said.
CHANGES = [
    ("meson.build", "12.8.0", "12.99.0", "slots_of_version() does not know 12099000: 34 entries"),
    ("meson.build", "12.8.0", "9.6.0", "_virNetworkDriver has 34 entries, not 32"),
    ("src/driver-network.h", "virDrvOther33 other33;", "virDrvOther33 other33; virDrvNew new;", "has 35 entries, not 34"),
    ("src/driver-network.h", "virDrvOther13 other13;", "", "entry 16 is networkDestroy, not network_create"),
    ("src/driver-network.h", "(virNetworkPtr net)", "(virNetworkPtr net, unsigned int flags)", "networkIsActive is int(*)(virNetworkPtr,unsigned)"),
    ("src/driver-state.h", "bool initialized;", "", "_virStateDriver is ['name', 'initialize'"),
    ("src/driver-state.h", "const char *root, ", "", "the arguments of stateInitialize begin with boolprivileged,boolmonolithic"),
    ("src/driver-state.h", "SKIPPED,", "SKIPPED = 2,", "virDrvStateInitResult: SKIPPED is 2, not 0"),
    ("src/driver.h", "bool embeddable;", "", "_virConnectDriver is ["),
    ("src/driver-hypervisor.h", "const char *name;", "", "_virHypervisorDriver begins with ['connectURIProbe', 'connectOpen'], not ['name', 'connectURIProbe']"),
    ("src/conf/network_conf.h", "bool uuid_specified;", "", "_virNetworkDef begins with ['uuid', 'name', 'title']"),
    ("src/conf/virnetworkportdef.h", "unsigned char uuid[VIR_UUID_BUFLEN];", "", "_virNetworkPortDef begins with ['ownername']"),
    ("src/util/virlog.h", "VIR_LOG_DEBUG = 1", "VIR_LOG_DEBUG", "virLogPriority: INFO is 1, not 2"),
    ("src/util/virlog.h", "unsigned int serial;", "", "_virLogSource begins with"),
    ("src/libvirt_private.syms", "virErrorRestore;", "", "virErrorRestore is not in src/libvirt_private.syms"),
]


def said_of(files: dict[str, str]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = pathlib.Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return compare.differences(pathlib.Path(folder))


class CompareTest(unittest.TestCase):
    def test_right_source(self) -> None:
        self.assertEqual(said_of(FILES), [])

    def test_each_change_is_named(self) -> None:
        for name, old, new, expected in CHANGES:
            with self.subTest(file=name, new=new):
                self.assertIn(old, FILES[name])
                said = said_of({**FILES, name: FILES[name].replace(old, new)})
                self.assertIn(expected, "\n".join(said))

    def test_file_that_is_missing_is_named(self) -> None:
        for name in FILES:
            with self.subTest(file=name):
                said = said_of({other: text for other, text in FILES.items() if other != name})
                self.assertIn(name, "\n".join(said))


if __name__ == "__main__":
    unittest.main()
