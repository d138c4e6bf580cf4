# SPDX-License-Identifier: GPL-3.0-or-later
"""All weakenings."""

from typing import Final

from tests.mutants.accompanying import ACCOMPANYING
from tests.mutants.asking import ASKING
from tests.mutants.browsing import BROWSING
from tests.mutants.confirming import FIRST_BLOCK
from tests.mutants.deciding import DECIDING
from tests.mutants.dividing import DIVIDING
from tests.mutants.excluding import EXCLUDING
from tests.mutants.filtering import FILTERING
from tests.mutants.holding import HOLDING
from tests.mutants.judging import JUDGING
from tests.mutants.keying import KEYING
from tests.mutants.leaving import LEAVING
from tests.mutants.moving import MOVING
from tests.mutants.mutant import Mutant
from tests.mutants.naming import NAMING
from tests.mutants.resting import RESTING
from tests.mutants.roaming import ROAMING
from tests.mutants.signing import SIGNING

MUTANTS: Final[tuple[Mutant, ...]] = (
    *LEAVING,
    *FILTERING,
    *EXCLUDING,
    *ACCOMPANYING,
    *DIVIDING,
    *DECIDING,
    *HOLDING,
    *ROAMING,
    *ASKING,
    *NAMING,
    *MOVING,
    *KEYING,
    *RESTING,
    *BROWSING,
    *SIGNING,
    *JUDGING,
    *FIRST_BLOCK,
)
