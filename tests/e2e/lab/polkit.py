# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's fine-grained access control: a private D-Bus and polkitd that grant by a table of users."""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Iterator, Mapping, NamedTuple, Optional

from . import daemon
from .bus import has_owner, system_bus
from .commands import QEMU, run, wait_until

LIBVIRTD_CONF = pathlib.Path("/etc/libvirt/libvirtd.conf")
POLKITD = "/usr/lib/polkit-1/polkitd"
ACTIONS = pathlib.Path("/usr/share/polkit-1/actions")
RULES = pathlib.Path("/etc/polkit-1/rules.d")
OTHER_RULES = pathlib.Path("/usr/share/polkit-1/rules.d")
CALLER = pathlib.Path(__file__).with_name("caller.py")

FIRST_UID = 4001

# What libvirt's drivers ask for. polkitd refuses an action that it does not know, to root as well.
PERMISSIONS = {
    "connect": "getattr read write search-domains search-networks search-nwfilters search-nwfilter-bindings",
    "domain": "getattr read read-secure write save delete start stop reset init-control",
    "network": "getattr read write save delete start stop search-ports",
    "network-port": "getattr read write create delete",
    "nwfilter": "getattr read write save delete",
    "nwfilter-binding": "getattr read create delete",
}
ALL = frozenset(f"{kind}.{name}" for kind, names in PERMISSIONS.items() for name in names.split())

ACTION = """<action id="org.libvirt.api.{}"><description>{}</description><message>{}</message>
<defaults><allow_any>no</allow_any><allow_inactive>no</allow_inactive><allow_active>no</allow_active></defaults>
</action>"""

RULE = """
const granted = {};
polkit.addRule(function(action, subject) {{
    const rights = granted[subject.user];
    const network = action.lookup("network_name");
    if (!rights || rights.actions.indexOf(action.id) < 0)
        return polkit.Result.NOT_HANDLED;
    if (rights.network && network && network != rights.network)
        return polkit.Result.NOT_HANDLED;
    return polkit.Result.YES;
}});
"""


class Rights(NamedTuple):
    """Permissions such as network.start, and the one network that they are for, or all."""

    permissions: frozenset[str]
    network: Optional[str] = None


class Outcome(NamedTuple):
    code: int  # 0, or libvirt's VIR_ERR_…
    text: str


class User:
    """A process of a user that calls libvirt when it is told to; see caller.py."""

    def __init__(self, uid: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CALLER.read_text()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/",
            user=uid, group=uid, extra_groups=[],
        )  # fmt: skip

    def call(self, function: str, *arguments: object, uri: str = QEMU, read_only: bool = False) -> Outcome:
        print(json.dumps([uri, read_only, function, arguments]), file=self._process.stdin, flush=True)
        return Outcome(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class AccessControl:
    """Who is there. The daemon that is started next asks polkit about each of their calls."""

    def __init__(self, users: Mapping[str, Rights]) -> None:
        self._uids = {name: FIRST_UID + i for i, name in enumerate(users)}
        self._polkitd: Optional[subprocess.Popen[bytes]] = None

    def start_polkitd(self) -> None:
        self._polkitd = subprocess.Popen([POLKITD], stdin=subprocess.DEVNULL)
        wait_until("polkitd is on the bus", lambda: has_owner("org.freedesktop.PolicyKit1"))

    def stop_polkitd(self) -> None:
        if self._polkitd:
            self._polkitd.terminate()
            self._polkitd.wait()
        self._polkitd = None

    @contextlib.contextmanager
    def user(self, name: str) -> Iterator[User]:
        user = User(self._uids[name])
        try:
            yield user
        finally:
            user.close()


def _write_policy(folder: pathlib.Path, users: Mapping[str, Rights]) -> None:
    actions = "".join(ACTION.format(name, name, name) for name in sorted(ALL))
    (folder / "actions/libvirt.policy").write_text(f"<policyconfig>{actions}</policyconfig>")
    granted = {
        name: {"actions": [f"org.libvirt.api.{each}" for each in sorted(rights.permissions)], "network": rights.network}
        for name, rights in users.items()
    }
    (folder / "rules/50-table.rules").write_text(RULE.format(json.dumps(granted)))


@contextlib.contextmanager
def _bound(source: pathlib.Path, target: pathlib.Path) -> Iterator[None]:
    run("mount", "--bind", str(source), str(target))
    try:
        yield
    finally:
        run("umount", str(target))


@contextlib.contextmanager
def access_control(users: Mapping[str, Rights]) -> Iterator[AccessControl]:
    """libvirtd has to be started inside the block, and is started again without polkit at its end."""
    with contextlib.ExitStack() as stack:
        # The daemon ends with its bus, so it is stopped before that and started after.
        stack.callback(daemon.start, *daemon.options)
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        for name in ("actions", "rules", "none"):
            (folder / name).mkdir()
        _write_policy(folder, users)
        for name, line in (("passwd", "{}:x:{}:{}::/nonexistent:/bin/false\n"), ("group", "{}:x:{}:\n")):
            added = [line.format(user, FIRST_UID + i, FIRST_UID + i) for i, user in enumerate(users)]
            (folder / name).write_text(pathlib.Path("/etc", name).read_text() + "".join(added))
            stack.enter_context(_bound(folder / name, pathlib.Path("/etc", name)))
        stack.enter_context(_bound(folder / "actions", ACTIONS))
        stack.enter_context(_bound(folder / "rules", RULES))
        stack.enter_context(_bound(folder / "none", OTHER_RULES))

        stack.enter_context(system_bus())
        control = AccessControl(users)
        stack.callback(control.stop_polkitd)
        control.start_polkitd()

        before = LIBVIRTD_CONF.read_text()
        stack.callback(_stop_and_restore, before)
        LIBVIRTD_CONF.write_text(before + 'access_drivers = [ "polkit" ]\nunix_sock_rw_perms = "0777"\n')
        yield control


def _stop_and_restore(config: str) -> None:
    LIBVIRTD_CONF.write_text(config)
    if daemon.pid() is not None:
        daemon.stop()
