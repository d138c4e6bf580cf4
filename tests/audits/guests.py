# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that have guests behind a bridge, and load rules of their own for them (D6)."""

import json
from collections.abc import Callable
from typing import Final

from tests.audits.attack import Attack, Harmless, Phase
from tests.audits.neighbours import RECORDED, Guest, Neighbours, guest, namespace, ours
from tests.audits.scene import Scene
from tests.audits.tables import HEALED_S, flood, named
from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.process import wait_for


def with_guest(program: str, bridge: str, network: str) -> Callable[[Scene, int], None]:
    """Load what docker or libvirt loads (as recorded), with a guest behind its bridge that sends all the while.

    Where the tunnel is up, the guest goes through it: the rules of the program that made it still work.
    """
    text = (RECORDED / f"{program}.iptables").read_text(encoding="utf-8")

    def run(scene: Scene, tries: int) -> None:
        neighbours = Neighbours(scene.host)
        before, culprit = ours(scene.host), named(scene)
        token = scene.watch.senders.token if scene.watch is not None else bytes(16)
        try:
            with flood(scene, tries):
                for _ in range(tries):
                    neighbours.restore(text, backends=("nft",))
                    with guest(scene.host, bridge, network, token) as there:
                        _comes_out(scene, there)
                        wait_for("the guest to send", there.has_tried, deadline_s=20)
                        scene.everybody_tries()
                    neighbours.leave()
            wait_for("our table to be as before", lambda: ours(scene.host) == before, deadline_s=HEALED_S, poll_s=0.05)
            assert named(scene) == culprit
        finally:
            neighbours.leave()

    return run


def seen_without_us(program: str, bridge: str, network: str) -> Callable[[Scene], None]:
    """Without protection the guest's packets are seen on the link."""
    run = with_guest(program, bridge, network)

    def control(scene: Scene) -> None:
        with scene.laptop.world.record() as recorder:
            run(scene, 1)
            if recorder.count(Kind.CLEAR) == 0:
                raise Harmless("nothing of the guest was seen")

    return control


_NETAVARK: Final = {
    "container_id": "c" * 64,
    "container_name": "guest",
    "networks": {"podman": {"interface_name": "eth0", "static_ips": ["10.88.0.2"]}},
    "network_info": {
        "podman": {
            "name": "podman",
            "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
            "driver": "bridge",
            "network_interface": "podman0",
            "subnets": [{"subnet": "10.88.0.0/16", "gateway": "10.88.0.1"}],
            "ipv6_enabled": False,
            "internal": False,
            "dns_enabled": False,
            "ipam_options": {"driver": "host-local"},
        }
    },
}
"""What podman tells netavark of a container on its default network."""


def _podman(scene: Scene, tries: int) -> None:
    """The real netavark sets a container's network up and takes it down."""
    neighbours = Neighbours(scene.host)
    before, culprit, told = ours(scene.host), named(scene), json.dumps(_NETAVARK)
    try:
        with flood(scene, tries):
            for _ in range(tries):
                with namespace(scene.host) as container:
                    neighbours.run(_NETAVARK_PROGRAM, "--config", "/run", "setup", container.place, stdin=told)
                    _comes_out(scene, container)
                    scene.everybody_tries()
                    neighbours.run(_NETAVARK_PROGRAM, "--config", "/run", "teardown", container.place, stdin=told)
        wait_for("our table to be as before", lambda: ours(scene.host) == before, deadline_s=HEALED_S, poll_s=0.05)
        assert named(scene) == culprit
    finally:
        neighbours.leave()


_NETAVARK_PROGRAM: Final = "/usr/lib/podman/netavark"


def _comes_out(scene: Scene, there: Guest) -> None:
    """Where the tunnel is up a guest goes through it; elsewhere it tries."""
    if scene.phase is Phase.CONNECTED and scene.watch is not None:
        at_gateway = str(plan.GATEWAY4)
        wait_for("the guest to come out at the gateway", lambda: there.address_outside() == at_gateway, deadline_s=20)
    else:
        there.address_outside()


ATTACKS: Final = (
    Attack(
        "D6",
        "docker",
        "docker's rules: a guest behind docker0 with MASQUERADE and FORWARD",
        with_guest("docker", "docker0", "172.17.0"),
        seen_without_us("docker", "docker0", "172.17.0"),
        tries=1,
        brief=(Phase.CONNECTED,),
        service=0.9,
    ),
    Attack(
        "D6",
        "libvirt",
        "libvirt's rules: a guest behind virbr0",
        with_guest("libvirt", "virbr0", "192.168.122"),
        seen_without_us("libvirt", "virbr0", "192.168.122"),
        tries=1,
        brief=(Phase.CONNECTED,),
        service=0.9,
    ),
    Attack(
        "D6",
        "podman",
        "podman's netavark: a container's network set up and taken down",
        _podman,
        tries=1,
        brief=(Phase.CONNECTED,),
        service=0.9,
    ),
)
