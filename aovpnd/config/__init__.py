# SPDX-License-Identifier: GPL-3.0-or-later
"""Files to one `aovpnd.model.Config`: everything that an administrator or user wrote, validated, each value with its
origin.

    load(config_dir, state_dir, vendor_dir)               -> Config      never raises; problems are in it
    reload(previous, config_dir, state_dir, vendor_dir)   -> Config      what is broken now stays as it was
    check(paths, config_dir, state_dir, vendor_dir)       -> findings    for aovpnctl; no paths: the whole

`files` reads what nobody else can have written, `toml` and `settings` make settings of it, `wgquick`, `values` and
`tunnels` make tunnels, `reading` puts all together. Start reading there. The format is in aovpnd.conf(5).
"""

from aovpnd.config.findings import Finding
from aovpnd.config.reading import check, load, reload

__all__ = ["Finding", "check", "load", "reload"]
