# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of IKE tunnels that are good, those that are weak, and what the configuration as a whole makes of them."""

import sys
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from pathlib import Path

import pytest

from aovpnd.config import certificates, ike_tables, plain, proposals
from aovpnd.errors import ToolError
from aovpnd.ipsec import (
    Ask,
    Childless,
    IkeVersion,
    IPsec,
    Method,
    Ppk,
    Revocation,
    Round,
    Server,
    Timing,
    Token,
)
from aovpnd.model import Config
from aovpnd.tunnel import Endpoint, HostPort, Secret, Written
from tests.unit.ike_files import CERT, EAP, END, PASSWORD, PAST, PSK, SECRET, XAUTH, contents, lay, parse
from tests.unit.imports import ROOT
from tests.unit.test_config_settings import Files
from tests.unit.test_config_tunnels import SMALLEST

FULLEST = """# everything
[ike]
gateways = ["203.0.113.2", "vpn.Example.com:4500", "[2001:db8::2]:4501"]
version = 2
aggressive = false
identity = "laptop.lab"
proposals = ["aes256-sha256-x25519", "aes256gcm16-prfsha384-ecp384-ke1_mlkem768"]
esp_proposals = ["aes256gcm16", "aes128-sha256-esn"]
mobike = false
fragmentation = false
childless = "force"
dpd = "30s"
rekey = "8h"
child_rekey = 1800
reauth = "1 day"

[[ike.auth]]
method = "certificate"
certificate = "keys/chain.crt"
key = "keys/hidden.key"
password_file = "keys/pw"

[[ike.auth]]
method = "eap-ttls"
user = "LAB\\\\alice"
password_file = "keys/psk"

[ike.server]
method = "certificate"
identity = "C=DE, O=Lab, CN=vpn"
authorities = ["keys/ca.crt"]
revocation = "strict"
crls = ["keys/ca.crl", "keys/ca.crl.der"]

[ike.ppk]
identity = "ppk1"
secret_file = "keys/bare"
required = false

[tunnel]
networks = ["10.0.0.0/8", "fd00::/8"]
families = [6, 4]
addresses = ["10.0.0.2/32", "fd00::2/64"]
dns = ["10.0.0.1", "fd00::1"]
search = ["corp.example", "~lab.example"]
mtu = 1400
"""


def good(text: str, base: Path) -> IPsec:
    """The tunnel of a file in which nothing is wrong."""
    spec, findings = parse(text, base)
    assert findings == []
    assert spec is not None
    return spec


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration directory with every file that a tunnel may name."""
    return lay(tmp_path_factory.mktemp("ike"))


# -- what a good file means -------------------------------------------------------------------------------------------
def test_smallest(base: Path) -> None:
    """Gateways and one secret are enough; everything else has a meaning when it is absent."""
    assert good(PSK, base) == IPsec(
        name="home",
        source="home.toml",
        gateways=(HostPort("vpn.example.org", 4500),),
        rounds=(Round(Method.PSK, secret=Secret(SECRET)),),
        server=Server(Method.PSK, "vpn.example.org"),
        version=IkeVersion.V2,
        networks=(ip_network("0.0.0.0/0"), ip_network("::/0")),
        families=(4, 6),
        mobike=True,
        fragmentation=True,
        childless=Childless.ALLOW,
        timing=Timing(rekey_s=14400, child_rekey_s=3600, reauth_s=0, dpd_s=10),
    )


def test_fullest(base: Path) -> None:
    """Every key reaches its place, typed."""
    spec = good(FULLEST, base)
    ours, person = spec.rounds
    held = ours.credential

    assert spec.gateways == (
        Endpoint(IPv4Address("203.0.113.2"), 4500),
        HostPort("vpn.example.com", 4500),
        Endpoint(IPv6Address("2001:db8::2"), 4501),
    )
    assert (spec.version, spec.aggressive, spec.mobike, spec.fragmentation) == (IkeVersion.V2, False, False, False)
    assert spec.proposals == ("aes256-sha256-x25519", "aes256gcm16-prfsha384-ecp384-ke1_mlkem768")
    assert spec.esp_proposals == ("aes256gcm16", "aes128-sha256-esn")
    assert spec.childless is Childless.FORCE
    assert spec.timing == Timing(rekey_s=28800, child_rekey_s=1800, reauth_s=86400, dpd_s=30)
    assert (ours.method, ours.identity, ours.user, ours.secret) == (Method.CERTIFICATE, "laptop.lab", None, None)
    assert held is not None
    assert held.key == Secret(contents()["laptop.key"].decode())
    assert held.chain == tuple(_blocks("chain.crt")[:2])
    assert held.expires_wall == PAST.timestamp()
    assert person == Round(Method.EAP_TTLS, "laptop.lab", "LAB\\alice", Secret(SECRET))
    assert spec.server == Server(
        method=Method.CERTIFICATE,
        identity="C=DE, O=Lab, CN=vpn",
        authorities=tuple(_blocks("ca.crt")),
        revocation=Revocation.STRICT,
        crls=(contents()["ca.crl.der"],) * 2,
        expires_wall=END.timestamp(),
    )
    assert spec.ppk == Ppk("ppk1", Secret(SECRET), required=False)
    assert spec.networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert (spec.families, spec.mtu) == ((4, 6), 1400)
    assert spec.addresses == (ip_interface("10.0.0.2/32"), ip_interface("fd00::2/64"))
    assert (spec.dns, spec.search) == (
        (IPv4Address("10.0.0.1"), IPv6Address("fd00::1")),
        ("corp.example", "~lab.example"),
    )
    assert (spec.weak, spec.endpoint) == ((), None)


def _blocks(name: str) -> list[str]:
    text = contents()[name].decode()
    return [f"{block}-----END CERTIFICATE-----\n" for block in text.split("-----END CERTIFICATE-----\n")[:-1]]


def test_where_values_are_written(base: Path) -> None:
    """What somebody may want to find again is there with its line; no secret, and no name of a file."""
    assert good(FULLEST, base).written == (
        Written("gateways", "203.0.113.2", 3),
        Written("gateways", "vpn.Example.com:4500", 3),
        Written("gateways", "[2001:db8::2]:4501", 3),
        Written("networks", "10.0.0.0/8", 41),
        Written("networks", "fd00::/8", 41),
        Written("addresses", "10.0.0.2/32", 43),
        Written("addresses", "fd00::2/64", 43),
        Written("dns", "10.0.0.1", 44),
        Written("dns", "fd00::1", 44),
        Written("search", "corp.example", 45),
        Written("search", "~lab.example", 45),
        Written("mtu", "1400", 46),
    )


@pytest.mark.parametrize("name", ["psk", "dos", "bare"])
def test_final_line_end_is_no_part_of_a_secret(base: Path, name: str) -> None:
    """Editors write one, `printf` does not: both files hold the same secret."""
    assert good(PSK.replace("keys/psk", f"keys/{name}"), base).rounds[0].secret == Secret(SECRET)


def test_absolute_paths(base: Path) -> None:
    """A file may be anywhere, as long as it is root's."""
    assert good(PSK.replace("keys/psk", f"{base}/keys/psk"), base) == good(PSK, base)


def test_container_is_the_same_as_its_parts(base: Path) -> None:
    """PKCS#12 holds what certificate and key do."""
    parts = CERT.replace("laptop.crt", "chain.crt")
    container = CERT.replace(
        'certificate = "keys/laptop.crt"\nkey = "keys/laptop.key"',
        'pkcs12 = "keys/laptop.p12"\npassword_file = "keys/pw"',
    )

    assert good(container, base) == good(parts, base)


@pytest.mark.parametrize(
    ("line", "token"),
    [
        ('tpm = { handle = "0x81010001" }', Token("81010001")),
        ('tpm = { handle = "81010001", pin_file = "keys/pw" }', Token("81010001", pin=Secret(PASSWORD))),
        (
            'token = { module = "MODULE", handle = "BEEF", pin = { ask = "once" } }',
            Token("beef", "MODULE", ask=Ask.ONCE),
        ),
        (
            'token = { module = "MODULE", slot = 3, handle = "0xbe", pin_file = "keys/pw" }',
            Token("be", "MODULE", 3, Secret(PASSWORD)),
        ),
        (
            '[ike.auth.token]\nmodule = "MODULE"\nhandle = "be"\npin_file = "keys/pw"',
            Token("be", "MODULE", pin=Secret(PASSWORD)),
        ),
    ],
)
def test_keys_that_stay_where_they_are(base: Path, line: str, token: Token) -> None:
    """In a token or a TPM: the certificate is a file, the key is a handle."""
    module = base / "keys" / "module.so"
    text = CERT.replace('key = "keys/laptop.key"', line.replace("MODULE", str(module)))
    wanted = Token(token.handle, token.module and str(module), token.slot, token.pin, token.ask)
    credential = good(text, base).rounds[0].credential

    assert credential is not None
    assert credential.key == wanted


@pytest.mark.parametrize(
    "identity",
    [
        "laptop.lab", "LAPTOP.lab", "@laptop.lab", "fqdn:laptop.lab", "alice@lab", "email:alice@lab", "fd00::7",
        "ipv6:fd00::7", "C=DE, O=Lab, CN=laptop", "C=DE,O=Lab,CN=laptop", "/C=DE/O=Lab/CN=laptop", "keyid:7",
        "C=DE, O=Lab, Inc., CN=whoever",  # which of the commas divide, charon alone can say
    ],
)  # fmt: skip
def test_identities_of_the_certificate(base: Path, identity: str) -> None:
    """Its alternative names and its subject, in any of strongSwan's notations."""
    assert good(CERT.replace("[[ike", f'identity = "{identity}"\n[[ike'), base).rounds[0].identity == identity


def test_families_follow_the_addresses(base: Path) -> None:
    """Who has a fixed address of one family asks for none of the other."""
    spec = good(PSK + '[tunnel]\naddresses = "10.0.0.2"\n', base)

    assert (spec.families, spec.networks) == ((4,), (ip_network("0.0.0.0/0"), ip_network("::/0")))


@pytest.mark.parametrize(("written", "seconds"), [('"0"', 0), ("0", 0), ('"1min"', 60), ("86400", 86400)])
def test_reauthentication_may_never_be(base: Path, written: str, seconds: int) -> None:
    """Here, unlike elsewhere, no time at all is a value."""
    assert good(PSK.replace("[[ike", f"reauth = {written}\n[[ike"), base).timing.reauth_s == seconds


def test_psk_and_certificate(base: Path) -> None:
    """In IKEv2 each side may show who it is in its own way."""
    spec = good(PSK + '[ike.server]\nmethod = "certificate"\nauthorities = "keys/ca.crt"\n', base)

    assert (spec.rounds[0].method, spec.server.method) == (Method.PSK, Method.CERTIFICATE)


def test_tls_within_eap_needs_an_authority(base: Path) -> None:
    """Also behind a gateway with a PSK: the server of EAP-TTLS shows a certificate."""
    text = PSK + '[[ike.auth]]\nmethod = "eap-ttls"\nuser = "a"\npassword_file = "keys/pw"\n'
    told = [str(finding).partition(" (")[0] for finding in parse(text, base)[1]]
    spec = good(text + '[ike.server]\nmethod = "psk"\nauthorities = "keys/ca.crt"\n', base)

    assert told == ["home.toml:1: ike.server.authorities: is missing"]
    assert (spec.server.method, len(spec.server.authorities)) == (Method.PSK, 1)


@pytest.mark.parametrize(
    "line",
    [
        'tpm = { handle = "81010001" }',
        'tpm = { handle = "81010002" }',
        'tpm = { handle = "81010001", pin_file = "keys/pw" }',
        'tpm = { handle = "81010001", pin_file = "keys/psk" }',
    ],
)
def test_another_key_is_another_tunnel(base: Path, line: str) -> None:
    """To charon, which is told anew: also when nothing but the PIN is another."""
    first = good(CERT.replace('key = "keys/laptop.key"', 'tpm = { handle = "81010003" }'), base)
    lone = good(CERT.replace('key = "keys/laptop.key"', 'tpm = { handle = "81010001", pin_file = "keys/bare" }'), base)
    digest = good(CERT.replace('key = "keys/laptop.key"', line), base).digest()

    assert digest != first.digest()
    assert (digest == lone.digest()) is ("keys/psk" in line)


# -- what is weak -----------------------------------------------------------------------------------------------------
WEAK = {
    PSK.replace("[[ike", "version = 1\n[[ike"): ["3: ike.version: IKEv1 is weak"],
    PSK.replace("[[ike", "version = 1\nmobike = false\n[[ike") + XAUTH: ["3: ike.version: IKEv1 is weak"],
    PSK.replace("[[ike", "aggressive = true\nversion = 1\n[[ike"): [
        "4: ike.version: IKEv1 is weak",
        "3: ike.aggressive: aggressive mode with a PSK is weak",
    ],
    EAP.replace("[[ike", "aggressive = true\nversion = 1\n[[ike").replace("eap-mschapv2", "xauth"): [
        "4: ike.version: IKEv1 is weak",
        "3: ike.aggressive: aggressive mode is weak",
    ],
    CERT.replace("[[ike", "version = 1\n[[ike"): ["3: ike.version: IKEv1 is weak"],
    PSK.replace("[[ike", 'proposals = ["3des-sha1-modp1024", "aes128-sha1-x25519-ke1_modp768"]\n[[ike'): [
        "3: ike.proposals: '3des' in proposals is weak",
        "3: ike.proposals: 'sha1' in proposals is weak",
        "3: ike.proposals: 'modp1024' in proposals is weak",
        "3: ike.proposals: 'ke1_modp768' in proposals is weak",
    ],
    PSK.replace("[[ike", 'esp_proposals = "des-md5"\n[[ike'): [
        "3: ike.esp_proposals: 'des' in esp_proposals is weak",
        "3: ike.esp_proposals: 'md5' in esp_proposals is weak",
    ],
    PSK + '[[ike.auth]]\nmethod = "eap-mschapv2"\nuser = "a"\npassword_file = "keys/pw"\n': [
        "1: ike.server.method: EAP-MSCHAPv2 towards a gateway without a certificate is weak"
    ],
}


@pytest.mark.parametrize(("text", "expected"), WEAK.items(), ids=map(str, range(len(WEAK))))
def test_weak(base: Path, text: str, expected: list[str]) -> None:
    """It works, and says what is weak of it, each once and with a way out."""
    spec, findings = parse(text, base)

    assert [finding.text for finding in findings] == [f"home.toml:{line}" for line in expected]
    assert {finding.code for finding in findings} == {"config-weak"}
    assert all("[ike] allow_weak = true in aovpnd.toml" in finding.hint for finding in findings)
    assert spec is not None
    assert [f"{words} is weak" for words in spec.weak] == [finding.reason for finding in findings]


@pytest.mark.parametrize("words", ["modp2048", "modp1536", "sha256", "prfsha256", "aes128gcm16", "ke1_mlkem768"])
def test_strong(words: str) -> None:
    """What the RFCs do not advise against is no weakness."""
    assert proposals.weak(f"aes256-sha256-{words}") == ()


# -- the configuration as a whole -------------------------------------------------------------------------------------
@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A configuration with secrets, and without tunnels."""
    files = Files(tmp_path)
    lay(files.etc)
    return files


def _names(found: Config) -> list[str]:
    return [spec.name for spec in found.tunnels]


V1 = PSK.replace("[[ike", "version = 1\n[[ike")
NOT_WEAK = (
    "etc/tunnels/old.toml:3: ike.version: IKEv1 is weak (use version = 2; an administrator can allow it: [ike] "
    "allow_weak = true in aovpnd.toml)"
)


def test_both_kinds_of_file(files: Files) -> None:
    """NAME.conf and NAME.toml are tunnels beside each other; the file of an IKE tunnel holds no secret, and may be
    read by everybody.
    """
    files.write("etc/tunnels/home.conf", SMALLEST).chmod(0o600)
    files.write("etc/tunnels/office.toml", PSK)
    found = files.load()

    assert (_names(found), found.problems, files.check()) == (["home", "office"], (), [])
    assert found.tunnels[1].source == str(files.etc / "tunnels" / "office.toml")


@pytest.mark.parametrize("where", ["aovpnd.toml", "policy.d/10.toml"])
def test_weak_is_refused_unless_allowed(files: Files, where: str) -> None:
    """Like a broken file; the settings can allow it, and then nothing is said but by the tunnel itself."""
    files.write("etc/tunnels/old.toml", V1)
    before = files.load()
    assert files.check() == files.check("etc/tunnels/old.toml") == [NOT_WEAK]
    files.write(f"etc/{where}", "[ike]\nallow_weak = true\n")
    allowed = files.load()

    assert (_names(before), before.broken) == ([], frozenset({"old"}))
    assert (_names(allowed), allowed.broken, allowed.problems) == (["old"], frozenset(), ())
    assert [spec.weak for spec in allowed.tunnels if isinstance(spec, IPsec)] == [("IKEv1",)]
    assert files.check() == files.check("etc/tunnels/old.toml") == []


def test_weak_ends_when_it_is_no_longer_allowed(files: Files) -> None:
    """A tunnel that was in force is no "last good version" for settings that do not allow it, also when its file is
    broken as well; while the settings themselves are broken, theirs hold.
    """
    files.write("etc/tunnels/old.toml", V1)
    allow = files.write("etc/aovpnd.toml", "[ike]\nallow_weak = true\n")
    before = files.load()
    allow.write_text("[broken")
    meanwhile = files.load(before)
    files.write("etc/tunnels/old.toml", "[broken")
    broken = files.load(meanwhile)
    allow.write_text("")
    after = files.load(broken)

    assert (_names(before), _names(meanwhile), _names(broken)) == (["old"],) * 3
    assert (_names(after), after.broken) == ([], frozenset({"old"}))


def test_weak_is_refused_while_settings_were_never_good(files: Files) -> None:
    """What cannot be read may have forbidden it."""
    files.write("etc/tunnels/old.toml", V1)
    files.write("etc/aovpnd.toml", "[ike]\nallow_weak = true\n[broken")

    assert _names(files.load()) == []
    assert NOT_WEAK in files.check()


def test_one_name_is_one_tunnel(files: Files) -> None:
    """Two files with one name are errors of both; what was in force before stays."""
    files.write("etc/tunnels/home.toml", PSK)
    before = files.load()
    files.write("etc/tunnels/home.conf", SMALLEST).chmod(0o600)
    hint = "there is another file with this name (a name is one tunnel's: remove or rename one of the two files)"

    assert files.check() == [f"etc/tunnels/home.conf: {hint}", f"etc/tunnels/home.toml: {hint}"]
    assert (_names(files.load()), files.load().broken) == ([], frozenset({"home"}))
    assert files.load(before).tunnels == before.tunnels


@pytest.mark.parametrize("breakage", ["text", "mode", "gone", "others"])
def test_broken_file_keeps_its_last_good_version(files: Files, breakage: str) -> None:
    """However the file, or one that it names, breaks."""
    path = files.write("etc/tunnels/home.toml", PSK)
    before = files.load()
    match breakage:
        case "text":
            path.write_text("[ike]\n")
        case "mode":
            path.chmod(0o666)
        case "gone":
            (files.etc / "keys" / "psk").unlink()
        case _:
            (files.etc / "keys" / "psk").chmod(0o644)
    during = files.load(before)

    assert during.tunnels == before.tunnels
    assert f"tunnel home: the last good version of {path} is in force" in [problem.text for problem in during.problems]
    assert (_names(files.load()), files.load().broken) == ([], frozenset({"home"}))


def test_secret_that_others_can_read(files: Files) -> None:
    """The message names the secret's file, and the line that names it."""
    files.write("etc/tunnels/home.toml", PSK)
    (files.etc / "keys" / "psk").chmod(0o640)

    assert files.check() == [
        (
            "etc/tunnels/home.toml:5: ike.auth.secret_file: etc/keys/psk: holds a secret and others can read it "
            "(chmod 600 etc/keys/psk)"
        )
    ]


def test_secret_that_is_a_link(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential of the daemon's unit may be linked to, and nothing else outside the directory."""
    decrypted = files.home / "run/credentials/aovpnd.service"
    monkeypatch.setattr("aovpnd.names.CREDENTIALS_DIR", str(decrypted))
    files.write("run/credentials/aovpnd.service/psk", SECRET).chmod(0o400)
    files.write("elsewhere", SECRET).chmod(0o600)
    files.write("etc/tunnels/home.toml", PSK.replace("keys/psk", "keys/link"))
    link = files.etc / "keys" / "link"
    link.symlink_to(decrypted / "psk")
    credential = files.check()
    link.unlink()
    link.symlink_to(files.home / "elsewhere")

    assert credential == []
    assert files.check() == [
        (
            "etc/tunnels/home.toml:5: ike.auth.secret_file: etc/keys/link: is a link out of its directory "
            "(copy the file itself here)"
        )
    ]


def test_file_that_is_not_yet_in_place(files: Files) -> None:
    """`check FILE` knows a tunnel by what it holds, and where its paths will begin."""
    files.write("office.toml", PSK.replace("keys/psk", "keys/gone"))
    files.write("settings.toml", "[ike]\nallow_weak = false\n")

    assert files.check("office.toml", "settings.toml") == [
        "office.toml:5: ike.auth.secret_file: there is no such file (paths are absolute, or relative to etc)"
    ]


def test_name_of_the_file(files: Files) -> None:
    """As for every tunnel."""
    files.write("etc/tunnels/a b.toml", PSK)

    assert files.check() == [
        (
            "etc/tunnels/a b.toml: the file's name is no tunnel name (name it NAME.toml: letters, digits, - and _, "
            "at most 32)"
        )
    ]
    assert files.load().broken == {"a b"}


# -- what is never told, and what it costs ----------------------------------------------------------------------------
def test_no_secret_is_shown(base: Path) -> None:
    """Neither in the value, however it is printed, nor where a secret stands in the place of a path."""
    spec = good(FULLEST, base)
    _, misplaced = parse(PSK.replace("keys/psk", SECRET), base)
    _, named = parse(PSK.replace("[[ike", f'identity = "{SECRET}*"\n[[ike'), base)
    key = contents()["laptop.key"].decode().splitlines()[1]

    read = certificates.private_key(contents()["laptop.key"], None)
    shown = repr(read) + repr(spec) + str(spec) + "".join(map(str, (*misplaced, *named)))
    assert len(misplaced) == len(named) == 1
    assert [secret for secret in (SECRET, PASSWORD, key) if secret in shown] == []


def test_library_is_missing(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tunnels with certificates say what to install; those without need nothing."""
    monkeypatch.delitem(sys.modules, "aovpnd.config.certificates", raising=False)
    monkeypatch.delattr("aovpnd.config.certificates", raising=False)
    monkeypatch.setitem(sys.modules, "cryptography", None)

    assert parse(PSK, base)[1] == []
    with pytest.raises(ToolError) as caught:
        parse(CERT, base)
    assert str(caught.value) == "certificates cannot be read (apt install python3-cryptography)"


def test_manual_page_knows_every_key() -> None:
    """aovpnd-ike(5) has a heading for each table and an entry for each key, each method, and each word."""
    manual = (ROOT / "docs/man/aovpnd-ike.5.md").read_text(encoding="utf-8")
    tables = {"ike.auth": "## [[ike.auth]]", "ike.auth.token": "**token** = {", "ike.auth.tpm": "**tpm** = {"}

    assert [name for name in ike_tables.KEYS if tables.get(name, f"## [{name}]") not in manual] == []
    for table, keys in ike_tables.KEYS.items():
        inner = table in {"ike.auth.token", "ike.auth.tpm"}
        assert [key for key in keys if (f"{key} =" if inner else f"**{key}** =") not in manual] == []
    assert [method for method in Method if f"| {method.value} |" not in manual] == []
    assert [word for word in Childless if f'`"{word.value}"`' not in manual] == []


def test_examples_of_the_manual_page(base: Path) -> None:
    """They are accepted without a word, once their files are there."""
    manual = (ROOT / "docs/man/aovpnd-ike.5.md").read_text(encoding="utf-8")
    examples = manual.partition("## Examples")[2].partition("## See also")[0].split("[ike]\n")[1:]
    files = {"company-ca.crt": "ca.crt", "keys/alice": "keys/pw"}

    assert len(examples) == 2
    for example in examples:
        text = "[ike]\n" + "\n".join(line[4:] for line in example.splitlines() if line.startswith("    "))
        for name, ours in files.items():
            text = text.replace(name, ours)
        good(text, base)


@pytest.mark.parametrize("value", [True, "x", [], {}, 3, 3.5, None])
def test_kinds(value: object) -> None:
    """Every value of TOML has a name in messages."""
    assert plain.kind(value) in {"true or false", "a text", "a list", "a table", "a number", "a date or time"}
