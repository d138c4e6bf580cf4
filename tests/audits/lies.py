# SPDX-License-Identifier: GPL-3.0-or-later
"""What whoever answers names on the laptop's network can have it send, and to whom."""

from typing import Final

from tests.audits.attack import Attack, Harmless, Phase
from tests.audits.scene import Scene
from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.process import wait_for
from tests.lab.world import by_name

_VICTIMS: Final = (plan.WEB4, plan.WEB6)
LIED: Final = tuple((address, plan.GATEWAY_PORT) for address in _VICTIMS)


def _lie(scene: Scene) -> None:
    """The tunnel's file names its gateway, and the network's resolver has it be somebody else."""
    home = scene.laptop.world.home
    if scene.phase is Phase.CONNECTED:
        home.resolver("lie", plan.GATEWAY4, plan.GATEWAY6)  # the truth, the first time
        scene.laptop.lab.install_tunnel(text=by_name(scene.laptop.lab.tunnel_conf))
        scene.settle()
        home.resolver("lie", *_VICTIMS)
        return
    home.resolver("lie", *_VICTIMS)
    scene.laptop.lab.install_tunnel(text=by_name(scene.laptop.lab.tunnel_conf))
    if scene.phase is Phase.CONNECTING:
        victim = f"{plan.WEB4}:{plan.GATEWAY_PORT}"
        wait_for("the lie to be believed", lambda: _endpoint(scene) == victim, deadline_s=30)


def _endpoint(scene: Scene) -> str:
    tunnels = scene.laptop.lab.status()["tunnels"]
    return str(tunnels[0]["endpoint"]) if tunnels else ""


def _server_ip(scene: Scene, tries: int) -> None:
    """Programs ask for the victim all the while, by TCP and UDP and on the tunnel's own port."""
    for _ in range(tries):
        scene.everybody_tries()
        scene.laptop.lab.curl(f"http://{plan.WEB4}:{plan.GATEWAY_PORT}/", timeout_s=0.2)
        scene.laptop.lab.curl(f"http://{plan.WEB4}/", timeout_s=0.2)


def _truth(scene: Scene) -> None:
    scene.laptop.world.home.resolver("honest")
    scene.laptop.lab.install_tunnel()


def _routed_by_name(scene: Scene) -> None:
    """Plain wg-quick with its gateway's address taken from the liar: what is for the victim goes beside the tunnel."""
    lab = scene.laptop.lab
    lab.wg_quick("up")
    try:
        lab.host.ip(f"route add {plan.WEB4}/32 via {plan.HOME.router4}")  # what a client does for its server
        with scene.laptop.world.record() as recorder:
            scene.host.run("ping", "-c1", "-W1", str(plan.WEB4), check=False, uid=plan.USER)
            if recorder.count(Kind.CLEAR) == 0:
                raise Harmless("what is for the victim stays in the tunnel of plain wg-quick")
    finally:
        lab.host.ip(f"route del {plan.WEB4}/32")
        lab.wg_quick("down")


ATTACKS: Final = (
    Attack(
        "A4",
        "server-ip",
        "the gateway's name leads to the victim, whom programs ask for meanwhile (TunnelCrack ServerIP, CVE-2023-36673,"
        " CVE-2023-36671)",
        _server_ip,
        _routed_by_name,
        service=0.99,
        brief=(),
        prepare=_lie,
        give_back=_truth,
        endpoints=LIED,
        of_wireguard=True,
    ),
)
