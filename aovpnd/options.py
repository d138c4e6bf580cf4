# SPDX-License-Identifier: GPL-3.0-or-later
"""The command lines of the processes: argparse, whose complaints quote nothing that a terminal obeys."""

import argparse
from typing import NoReturn

from aovpnd.messages import printable


class Parser(argparse.ArgumentParser):
    """As argparse has it: exit status 2, and why, for what cannot be understood."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end."""
        super().error(printable(message))
