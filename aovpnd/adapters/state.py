# SPDX-License-Identifier: GPL-3.0-or-later
"""What must survive a restart: the marker that keeps the block off, whether the block is confirmed, the budget of
temporary access, the tunnel that was chosen.
"""

import json
import math
import stat
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from aovpnd import clockfile, names, regular, rollback
from aovpnd.clock import Clock
from aovpnd.confirmation import NEEDLESS, NEVER, Confirmation, Standing, parse, spell
from aovpnd.errors import StateError
from aovpnd.inquiries import Host
from aovpnd.model import Block, Intent
from aovpnd.rollback import RolledBack
from aovpnd.ruleset import Address
from aovpnd.tunnel import HOST_NAME, LONGEST_NAME, TUNNEL_NAME, unfit

ADDRESSES_FILE: Final = "addresses.json"
MOST_HOSTS, MOST_ADDRESSES = 32, 2
"""What is kept of gateways' names."""
BUDGET_FILE: Final = "temporary-access.json"
CHOICE_FILE: Final = "choice.toml"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_LARGEST: Final = 65536


@dataclass(frozen=True, slots=True)
class State:
    """Files below CONFIG and STATE that the daemon itself writes; each is replaced whole."""

    config_dir: Path
    state_dir: Path
    rolled_back_file: Path = Path(names.ROLLED_BACK)

    def recall(self, now: Clock) -> Intent:
        """The memory to start with. A budget that cannot be read counts as used up: when in doubt, closed."""
        used = self._used(now)
        return Intent(
            block=Block.OFF if self.unblocked() else Block.ON,
            confirmation=self.confirmation(now),
            used=(now.boot,) * 3 if used is None else used,
            unread_at=now.boot if used is None else None,
            hosts=self._addresses(),
        )

    def unblocked(self) -> bool:
        """Whether an administrator has taken the block off for good; not as long as nobody can tell."""
        try:
            return stat.S_ISREG((self.config_dir / names.UNBLOCKED_MARKER).stat().st_mode)
        except OSError:
            return False

    def rolled_back(self) -> RolledBack | None:
        """Whether a version that broke the tunnel was replaced by the one before; None also where nobody can tell."""
        try:
            return rollback.parse(regular.read(self.rolled_back_file, rollback.LARGEST).decode())
        except (OSError, ValueError):
            return None

    def mark(self, block: Block) -> None:
        """Write or remove the marker. `StateError` when that fails."""
        path = self.config_dir / names.UNBLOCKED_MARKER
        try:
            if block is Block.OFF:
                self.config_dir.mkdir(parents=True, exist_ok=True)
                path.write_text("The block is off. To put it on: aovpnctl block\n", encoding="utf-8")
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}", hint="is the file system full or read-only?") from error

    def confirmation(self, now: Clock) -> Confirmation:
        """What became of this machine's first block; it stands for good as long as nobody can tell."""
        try:
            text = regular.read(self.state_dir / names.CONFIRMATION_FILE, _LARGEST).decode("ascii")
        except FileNotFoundError:
            return NEVER
        except (OSError, ValueError):
            return NEEDLESS
        return parse(text, _boot_id(), now.boot)

    def keep_confirmation(self, confirmation: Confirmation) -> None:
        """Write it down, so that a restart or a reboot goes on with it. `StateError` when that fails."""
        if confirmation.standing is Standing.NEVER:
            self._remove(names.CONFIRMATION_FILE)
        else:
            self._write(names.CONFIRMATION_FILE, spell(confirmation, _boot_id()))

    def remember(self, intent: Intent, now: Clock) -> None:
        """Keep the budget, the tunnel that the user named, or that none was, and that the block was confirmed.
        `StateError` when that fails.
        """
        if intent.confirmation.standing is Standing.GIVEN and self.confirmation(now) != intent.confirmation:
            self.keep_confirmation(intent.confirmation)
        grants = [{"boot": at, "wall": now.wall - (now.boot - at)} for at in intent.used]
        self._write(BUDGET_FILE, json.dumps({"boot_id": _boot_id(), "grants": grants}) + "\n")
        if intent.chosen is None:
            self._remove(CHOICE_FILE)
        elif TUNNEL_NAME.fullmatch(intent.chosen):
            self._write(CHOICE_FILE, f'[tunnel]\nprefer = "{intent.chosen}"\n')

    def keep_addresses(self, hosts: tuple[Host, ...]) -> None:
        """Keep the addresses at which gateways answered; writes nothing when the file has them. `StateError` when that
        fails.
        """
        kept = {host.name: list(map(str, host.good)) for host in hosts if host.good}
        old = {host.name: list(map(str, host.good)) for host in self._addresses()}
        # Those of other tunnels stay, as long as there is room.
        merged = dict(
            list({**kept, **{name: good for name, good in old.items() if name not in kept}}.items())[:MOST_HOSTS]
        )
        if merged != old:
            self._write(ADDRESSES_FILE, json.dumps({"good": merged}) + "\n")

    def keep_clock(self, shaken_wall: int | None) -> None:
        """Note when a gateway answered, for a boot whose clock is behind (`aovpnd.clockfile`). `StateError` when that
        fails.

        The latest answer counts, not the latest time: a gateway that answers at an earlier one has none against it.
        """
        noted = clockfile.noted(self.state_dir)
        if shaken_wall is not None and (noted is None or abs(shaken_wall - noted) >= clockfile.EVERY_S):
            self._write(clockfile.FILE, f"{shaken_wall}\n")

    def _addresses(self) -> tuple[Host, ...]:
        """The addresses that were kept; a file that is not just as we write it is as good as none."""
        try:
            good = json.loads(regular.read(self.state_dir / ADDRESSES_FILE, _LARGEST))["good"]
            if not isinstance(good, dict) or len(good) > MOST_HOSTS:
                return ()
            return tuple(Host(_host(name), good=_fit(texts)) for name, texts in good.items())
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return ()

    def _used(self, now: Clock) -> tuple[float, ...] | None:
        """When temporary access began in the last hour; None when that cannot be read."""
        path = self.state_dir / BUDGET_FILE
        try:
            document = json.loads(regular.read(path, _LARGEST))
            same_boot = document["boot_id"] == _boot_id()
            grants = document["grants"]
            if not isinstance(grants, list):
                raise TypeError("no list")  # noqa: TRY301 - as all else that is not as we write it
            pairs = [(_moment(grant["boot"]), _moment(grant["wall"])) for grant in grants]
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
            return None
        # Another boot's clock says nothing here; the wall clock may have been set back, which must not refill the
        # budget.
        # No window began later than now.
        return tuple(
            sorted(min(boot, now.boot) if same_boot else now.boot - max(now.wall - wall, 0.0) for boot, wall in pairs)
        )

    def _remove(self, name: str) -> None:
        path = self.state_dir / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}", hint="is the file system read-only?") from error

    def _write(self, name: str, text: str) -> None:
        path = self.state_dir / name
        try:
            regular.put(path, text)
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}", hint="is the file system full or read-only?") from error


def _moment(value: object) -> float:
    """A time in seconds; JSON as Python reads it also knows NaN, which no comparison finds in the last hour."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("no time")
    return float(value)


def _host(name: str) -> str:
    if HOST_NAME.fullmatch(name) is None or len(name) > LONGEST_NAME:
        raise ValueError("no host name")
    return name


def _fit(texts: object) -> tuple[Address, ...]:
    if (
        not isinstance(texts, list)
        or not 0 < len(texts) <= MOST_ADDRESSES
        or not all(isinstance(t, str) for t in texts)
    ):
        raise ValueError("no list of addresses")
    found = tuple(map(ip_address, texts))
    if any(unfit(addr) is not None or "%" in str(addr) for addr in found):
        raise ValueError("an address that no gateway has")
    return found


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
