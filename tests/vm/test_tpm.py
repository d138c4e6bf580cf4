# SPDX-License-Identifier: GPL-3.0-or-later
"""A tunnel whose keys the TPM keeps: it boots to the tunnel; when the TPM was cleared, or the firmware is another one,
nothing leaves, and one command brings it back. And one of IKE whose key never leaves the TPM.
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from aovpnd import names
from tests.lab.ike import Way
from tests.lab.ike_client import account
from tests.lab.process import wait_for
from tests.lab.product import installed
from tests.lab.tree import Tree, copied, text
from tests.lab.world import World
from tests.vm import FULL
from tests.vm.guest.chatty import SENDERS
from tests.vm.images import TPM, Image, image
from tests.vm.laptop import BootedLaptop, clear_kinds
from tests.vm.lives.broken import ENABLED, TUNNEL
from tests.vm.lives.stage import DEADLINE_S, MEMORY_MIB, OUTLIVING, wait_works
from tests.vm.machine import layer
from tests.vm.tpm import Tpm

pytestmark = [
    *(pytest.mark.vm, pytest.mark.root, pytest.mark.slow),
    pytest.mark.skipif(not FULL, reason="takes minutes: make test-vm"),
]

_PROFILE: Final = "/root/home.conf"
_KEPT: Final = "/etc/credstore.encrypted/aovpnd.home.conf"
_BY_HOST_ALONE: Final = bytes.fromhex("5a1c6a86df9d4096b1d5a65e0862f19a")
"""What begins a credential that no TPM has to do with (systemd, creds-util.h: CRED_AES256_GCM_BY_HOST)."""
_ANEW: Final = ("aovpnctl", "import", "--replace", "--encrypt", _PROFILE)
_HANDLE: Final = "81010001"
_MAKE_KEY: Final = f"""set -e
tpm2_createprimary -Q -C o -g sha256 -G ecc256:ecdsa-sha256 -c /run/key \\
    -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign'
tpm2_evictcontrol -Q -C o -c /run/key 0x{_HANDLE}
tpm2_readpublic -Q -c 0x{_HANDLE} -f pem -o /run/key.pem
cat /run/key.pem
"""
_UNIT: Final = "/etc/systemd/system/aovpnd-charon@.service.d/tpm.conf"
_MAY_ASK: Final = "[Service]\nSupplementaryGroups=tss\nDeviceAllow=/dev/tpmrm0 rw\nBindPaths=/dev/tpmrm0\n"
"""As docs/known-issues.md says."""
_KEYS: Final = "/etc/aovpnd/keys"
_GUEST: Final = Path(__file__).with_name("guest")


@dataclass(frozen=True, slots=True)
class Owner:
    """Somebody with a laptop whose disk and TPM outlive the power."""

    world: World
    system: Image
    disk: Path
    tpm: Tpm

    @contextmanager
    def laptop(self, files: Tree) -> Iterator[BootedLaptop]:
        """From power-on to a power cut, after which nothing has left in clear, though everybody tried."""
        with BootedLaptop.power_on(
            self.system, self.world, files, disk=self.disk, tpm=self.tpm, memory=MEMORY_MIB
        ) as booted:
            yield booted
            booted.wait_tried(booted.built_in(), OUTLIVING, DEADLINE_S)
            booted.machine.check("sync")
            recording = booted.recording()
        assert not recording.clear(), recording.describe()
        assert clear_kinds(recording)

    def closed_until_it_is_imported_again(self, files: Tree) -> None:
        """The daemon is not started, programs try in vain, and one command ends that."""
        with self.laptop(files) as laptop:
            failed = ("systemctl", "show", "--property=ExecMainStatus", "--value", names.UNIT)
            laptop.machine.wait("the boot", "systemctl", "is-active", "-q", "network.target", seconds=DEADLINE_S)
            wait_for(
                "systemd to give up", lambda: laptop.machine.run(*failed).out.strip() == "243", deadline_s=DEADLINE_S
            )
            link = laptop.built_in()
            laptop.wait_online(link, DEADLINE_S)
            laptop.wait_tried(link, SENDERS, DEADLINE_S)
            said = laptop.machine.run("aovpnctl", "check").out
            assert "where it cannot be any more: aovpnctl import --replace --encrypt FILE" in said
            laptop.machine.check(*_ANEW, seconds=DEADLINE_S)
            wait_works(laptop)


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """A laptop whose tunnel was imported with --encrypt."""
    place = tmp_path_factory.mktemp("tpm")
    system = image("bookworm", TPM)
    tpm = Tpm(place / "state")
    tpm.state.mkdir()
    with World.build(links=()) as world:
        made = Owner(world, system, layer(system, place / "disk.qcow2"), tpm)
        profile = text(world.laptop.tunnel_conf, 0o600)
        with made.laptop({**installed(ENABLED), _PROFILE: profile, TUNNEL: profile}) as laptop:
            wait_works(laptop)
            laptop.machine.check("systemd-creds", "has-tpm2")
            laptop.machine.check(*_ANEW, seconds=DEADLINE_S)
            wait_works(laptop)
            kept = base64.b64decode(laptop.machine.check("cat", _KEPT))
            assert not kept.startswith(_BY_HOST_ALONE)
            assert laptop.machine.check("readlink", TUNNEL).strip() == f"{names.CREDENTIALS_DIR}/home.conf"
        yield made


def test_boots_to_the_tunnel(owner: Owner) -> None:
    """The TPM gives the keys to the daemon, at every boot."""
    with owner.laptop({}) as laptop:
        wait_works(laptop)


def test_the_tpm_was_cleared(owner: Owner) -> None:
    """What it kept is lost, and with it the keys."""
    owner.tpm.clear()
    owner.closed_until_it_is_imported_again({})


def test_another_firmware(owner: Owner) -> None:
    """The TPM measures something else, and gives the keys to nobody; that boot is the first of a new time."""
    owner.closed_until_it_is_imported_again({"/before/measured": copied(_GUEST / "measured.py", 0o755)})
    with owner.laptop({}) as laptop:
        wait_works(laptop)


def test_an_ike_key_in_the_tpm(tmp_path: Path) -> None:
    """The key is made in the TPM and stays there; charon has it sign, and the tunnel works, also at the next boot."""
    system, tpm = image("bookworm", TPM), Tpm(tmp_path / "state")
    tpm.state.mkdir()
    with World.build(links=()) as world:
        gateway = world.speak_ike()
        owner = Owner(world, system, layer(system, tmp_path / "disk.qcow2"), tpm)
        first = {TUNNEL: text(world.laptop.tunnel_conf, 0o600), _UNIT: text(_MAY_ASK)}
        with owner.laptop({**installed(ENABLED), **first}) as laptop:
            machine = laptop.machine
            wait_works(laptop)
            public = machine.check("sh", "-c", _MAKE_KEY, seconds=DEADLINE_S)
            made = account(gateway, Way.CERTIFICATE)
            given = made.text.replace('key = "keys/laptop.key"', f'tpm = {{ handle = "{_HANDLE}" }}')
            assert given != made.text
            laptop.put(f"{_KEYS}/ca.crt", made.files["ca.crt"])
            laptop.put(f"{_KEYS}/laptop.crt", gateway.pki.vouch(public.encode(), (Way.CERTIFICATE.identity,)))
            laptop.put("/etc/aovpnd/tunnels/office.toml", given)
            machine.check("rm", TUNNEL)
            machine.check("systemctl", "reload", names.UNIT)
            wait_for("the SA", lambda: gateway.established(Way.CERTIFICATE), deadline_s=DEADLINE_S)
            wait_works(laptop)
        with owner.laptop({}) as laptop:
            wait_works(laptop)
