# SPDX-License-Identifier: GPL-3.0-or-later
"""Attackers' programs for IPv6 as Debian packages them, run by a neighbour (`tools`): radvd, thc-ipv6, ipv6toolkit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tests.audits.attack import Attack, Harmless, Phase
from tests.audits.attacker import PORT, ROUTER6, counting
from tests.audits.scene import LINK, Scene
from tests.audits.tools import LOCAL6, MAC, Tool, endless, neighbour, tools, use
from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.host import Host
from tests.lab.process import LabError, stop, wait_for

TARGET: Final = plan.ECHO6
_RADVD: Final = f"""
interface {PORT} {{
  AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultPreference high; AdvLinkMTU 1280;
  prefix 2001:db8:66::/64 {{ }};
  prefix 2001:db8:80::/64 {{ AdvAutonomous off; }};
  route ::/1 {{ AdvRoutePreference high; }};
  route 8000::/1 {{ AdvRoutePreference high; }};
  route {TARGET}/128 {{ AdvRoutePreference high; }};
  route {plan.GATEWAY6}/128 {{ AdvRoutePreference high; }};
  RDNSS {LOCAL6} {{ }};
  DNSSL example.com {{ }};
}};
"""
"""Routes for everything and for the target alone, the target on the link, name servers, the least size; when it ends,
radvd says that there is no router any more.
"""


def obey(scene: Scene, longest: int) -> None:
    """Have the laptop take routes of advertisements, as desktops do."""
    scene.host.sysctl(**{f"ipv6__conf__{LINK}__accept_ra_rt_info_max_plen": longest})


def forget(scene: Scene) -> None:
    """A network without all that: the laptop forgets it when it comes anew."""
    obey(scene, 0)
    scene.laptop.world.roam("home", ipv6=True)


def _routes(scene: Scene) -> str:
    return scene.host.ip(f"-6 route show dev {LINK}")


# -- routers (A2) ------------------------------------------------------------------------------------------------------
@contextmanager
def _radvd(scene: Scene) -> Iterator[Host]:
    """A neighbour who runs radvd, and is believed; stopped in order, so that it says that it is gone."""
    with neighbour(scene, ipv6__conf__all__forwarding=1) as host:
        (host.dir / "run" / "radvd.conf").write_text(_RADVD, encoding="utf-8")
        words = "radvd --nodaemon --config=/run/radvd.conf --pidfile=/run/radvd.pid --logmethod=stderr"
        program = host.spawn(*words.split(), chroot=True, log="radvd")
        try:
            wait_for("radvd to be believed", lambda: "::/1 via fe80::66" in _routes(scene), deadline_s=15)
            yield host
        except LabError as error:
            raise LabError(f"{error}; radvd: {(host.dir / 'radvd.log').read_text()[-600:]}") from error
        finally:
            stop(program)


def _advertise(scene: Scene, tries: int) -> None:
    """It comes and goes; never is the target looked for on the link, but in a window."""
    looked = f"icmpv6 type 135 @th,64,128 {int(TARGET):#x}"
    for _ in range(tries):
        with _radvd(scene) as host, counting(host, target=looked) as asked:
            scene.everybody_tries()
            assert scene.phase is Phase.ACCESS or not asked()["target"], "the target was looked for on the link"
        scene.everybody_tries()


def _lured(scene: Scene) -> None:
    lab = scene.laptop.lab
    lab.wg_quick("up")
    try:
        obey(scene, 128)
        with _radvd(scene), scene.laptop.world.record() as recorder:
            scene.host.run("ping", "-6", "-c1", "-W1", str(TARGET), check=False, uid=plan.USER)
            if recorder.count(Kind.CLEAR) == 0:
                raise Harmless("what is for the target stays in the tunnel of plain wg-quick")
    finally:
        lab.wg_quick("down")
        forget(scene)


_THC_ROUTERS: Final = (
    Tool(
        f"atk6-fake_router26 -A 2001:db8:80::/64 -R ::/1 -R 8000::/1 -R {TARGET}/128 -D {LOCAL6} -L example.com"
        " -M 1280 -p high -n 3 -i 0.1 {link}",
        least=3,
    ),
    endless(f"atk6-kill_router6 {{link}} {ROUTER6}", seconds=2, least=1),
)
_SI6_ROUTERS: Final = (
    Tool(
        "ra6 -i {link} -d ff02::1 -t 1800 -p 1 -e -M 1280 -P 2001:db8:80::/64#LA#1800#1800 -R ::/1#1#1800"
        f" -R {TARGET}/128#1#1800 -N 600#{LOCAL6}",
    ),
    Tool(f"ra6 -i {{link}} -s {ROUTER6} -d ff02::1 -t 0 -e"),
    Tool("ra6 -i {link} -d ff02::1 -t 1800 -F 200 -w 4 -f 4 -W 4 -e", least=200),
)


def _believes(tool: Tool, sign: Callable[[Scene], bool]) -> Callable[[Scene], None]:
    """The control: an unprotected laptop believes what this one says."""

    def control(scene: Scene) -> None:
        obey(scene, 128)
        try:
            with neighbour(scene) as host:
                use(scene, host, tool)
                wait_for("it to be believed", lambda: sign(scene), deadline_s=3)
        except LabError as error:
            raise Harmless(f"an unprotected laptop does not believe it: {error}") from error
        finally:
            forget(scene)

    return control


def _has_the_route(scene: Scene) -> bool:
    return "::/1 via" in _routes(scene)


# -- neighbours (A9, B6) -----------------------------------------------------------------------------------------------
_SPOOFS: Final = (
    Tool(f"atk6-fake_advertise6 -r -n 3 -w 0 {{link}} {ROUTER6} ff02::1 {MAC}", least=3),
    Tool(f"na6 -i {{link}} -s {ROUTER6} -d ff02::1 -t {ROUTER6} -E {MAC} -r -o"),
    Tool(f"na6 -i {{link}} -s {ROUTER6} -d {{local6}} -D {{mac}} -t {ROUTER6} -E {MAC} -r -o -c"),
    Tool("ns6 -i {link} -d {local6} -D {mac} -t {local6} -F 200 -e", least=200),
)
_PARASITE: Final = "timeout --signal=INT --kill-after=2 60 atk6-parasite6 -l {link}"
_NEW: Final = "timeout --signal=INT --kill-after=2 60 atk6-dos-new-ip6 {link}"


@contextmanager
def _beside(host: Host, line: str) -> Iterator[None]:
    """A program that waits for what it answers, until the block is left; LabError when it did not live so long."""
    program = host.spawn(*line.format(link=PORT).split(), chroot=True, log="beside")
    try:
        yield
        if program.poll() is not None:
            raise LabError(f"{line!r} ended by itself: {(host.dir / 'beside.log').read_text()[-600:]}")
    finally:
        stop(program)


def _address_anew(scene: Scene) -> None:
    """The laptop makes itself addresses again, and asks whether anybody has them."""
    for off in (1, 0):
        scene.host.sysctl(**{f"ipv6__conf__{LINK}__disable_ipv6": off})


def _spoof(scene: Scene, tries: int) -> None:
    """The neighbour is the router for everybody who asks and for those who do not; then nobody may have an address."""
    with neighbour(scene) as host:
        for _ in range(tries):
            with _beside(host, _PARASITE):
                for tool in _SPOOFS:
                    use(scene, host, tool)
                scene.host.run("ip", "-6", "neigh", "flush", "dev", LINK)
                scene.everybody_tries()
            with _beside(host, _NEW):
                _address_anew(scene)
                scene.everybody_tries()
            _address_anew(scene)  # nobody objects any more, and the next try is told to an address
            wait_for("an address", lambda: scene.laptop.lab.address6(LINK, "link"), deadline_s=10)


def _spoofed(scene: Scene) -> None:
    """Unprotected, it takes the neighbour for the router, and gets no address while he objects."""
    scene.host.run("ping", "-6", "-c1", "-W1", str(TARGET), check=False)
    try:
        with neighbour(scene) as host:
            for tool in _SPOOFS[:2]:
                use(scene, host, tool)
            if MAC not in scene.host.ip(f"-6 neigh show {ROUTER6} dev {LINK}"):
                raise Harmless("the router is believed where it was")
            with _beside(host, _NEW):
                _address_anew(scene)
                shown = f"-6 addr show dev {LINK} dadfailed"
                wait_for("the address to be refused", lambda: "dadfailed" in scene.host.ip(shown), deadline_s=5)
    except LabError as error:
        raise Harmless(f"an unprotected laptop has its address all the same: {error}") from error
    finally:
        forget(scene)


_WHO_HAS: Final = (
    Tool(f"ns6 -i {{link}} -s {LOCAL6} -d {{local6}} -D {{mac}} -t {plan.TUNNEL6} -e"),
    Tool(f"ns6 -i {{link}} -s {LOCAL6} -d {plan.TUNNEL6} -D {{mac}} -t {plan.TUNNEL6} -e"),
)


def _who_has(scene: Scene, tries: int) -> None:
    told = f"icmpv6 type 136 @th,64,128 {int(plan.TUNNEL6):#x}"
    with neighbour(scene) as host, counting(host, told=told) as answers:
        for tool in _WHO_HAS * tries:
            use(scene, host, tool)
        scene.everybody_tries()
        assert not answers()["told"], "somebody has answered for the tunnel's address"


def _who_has_at_home(scene: Scene) -> None:
    scene.host.ip(f"addr add {plan.TUNNEL6}/128 dev {LINK} nodad")
    try:
        with neighbour(scene) as host, counting(host, told="icmpv6 type 136") as answers:
            use(scene, host, _WHO_HAS[0])
            wait_for("an answer", lambda: answers()["told"], deadline_s=2)
    except LabError as error:
        raise Harmless("nobody answers for the tunnel's address") from error
    finally:
        scene.host.ip(f"addr del {plan.TUNNEL6}/128 dev {LINK}")


ATTACKS: Final = (
    Attack(
        "A2",
        "radvd",
        "radvd as a rogue router: routes and a router of high preference, the target on the link, name servers, sizes,"
        " its own end",
        _advertise,
        _lured,
        tries=1,
        many=3,
        service=0.99,
        brief=(),
        prepare=lambda scene: obey(scene, 128),
        give_back=forget,
        callee=TARGET,
    ),
    Attack(
        "A2",
        "thc-ipv6",
        "thc-ipv6: fake_router26 and kill_router6: routes of high preference, and the router's end in its name",
        tools(*_THC_ROUTERS),
        _believes(_THC_ROUTERS[0], _has_the_route),
        tries=1,
        many=3,
        service=0.95,
        brief=(Phase.CONNECTED,),
        prepare=lambda scene: obey(scene, 128),
        give_back=forget,
        callee=TARGET,
    ),
    Attack(
        "A2",
        "ipv6toolkit",
        "ipv6toolkit's ra6: routes of high preference, the router's end in its name, two hundred routers",
        tools(*_SI6_ROUTERS),
        _believes(_SI6_ROUTERS[0], _has_the_route),
        tries=1,
        many=3,
        service=0.99,
        brief=(),
        prepare=lambda scene: obey(scene, 128),
        give_back=forget,
        callee=TARGET,
    ),
    Attack(
        "A9",
        "ipv6-tools",
        "thc-ipv6's parasite6, fake_advertise6, dos-new-ip6, ipv6toolkit's na6 and ns6: the neighbour is the router,"
        " and nobody may have an address",
        _spoof,
        _spoofed,
        tries=1,
        many=3,
        service=0.95,
        brief=(),
        give_back=forget,
    ),
    Attack(
        "B6",
        "ns6",
        "ipv6toolkit's ns6 asks for the tunnel's address",
        _who_has,
        _who_has_at_home,
        tries=1,
        service=0.95,
        brief=(),
    ),
)
