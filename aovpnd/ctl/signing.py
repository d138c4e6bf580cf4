# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl sign-in``: ask a person for what tunnels ask for, hand it to the daemon, and say what the gateway said; or
send him to his browser (`browsing`).

Nothing that is typed is shown, kept or repeated: it goes from the terminal (or standard input, or systemd's agents)
into one line on the control socket, or beside the bus.
"""

from __future__ import annotations

import os
import time

from aovpnd import durations, names
from aovpnd.ctl import browsing
from aovpnd.ctl.arguments import UsageError
from aovpnd.ctl.asking import ask
from aovpnd.ctl.reading import read
from aovpnd.ctl.terminal import plain
from aovpnd.errors import AovpndError, CommandRefused, StateError
from aovpnd.shape import LONGEST_ANSWER, typed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from aovpnd.ctl.arguments import Arguments

DONE = 0
ANSWER_S = 30.0
"""How long the gateway may take to be reached and to answer, unless somebody says otherwise."""
LOOK_S = 0.2
AGENT_LOOK_S = 1.0
"""How often the published status is looked at."""
STANDARD_INPUT = 0
ASK_PASSWORD = "/usr/bin/systemd-ask-password"  # noqa: S105 - a program
CODES = ("sign-in-wanted", "sign-in-refused")


def run(arguments: Arguments) -> int:
    """Sign in, to one tunnel or to all that wait for it."""
    given_s = _seconds(arguments.value("--timeout"))
    timeout_s = ANSWER_S if given_s is None else given_s
    if arguments.has("--agent"):
        _require_root(arguments.runtime_dir)
        _for_ever(arguments, timeout_s)
    pages, questions = _wanted(arguments.runtime_dir, arguments.argument)
    if not pages and not questions:
        text = f"nothing is asked for by {arguments.argument}" if arguments.argument else "no tunnel waits for anything"
        raise CommandRefused(text, hint="aovpnctl status", code="nothing-asked")
    said = [browsing.sign_in(arguments, tunnel, given_s) for tunnel in pages]
    for tunnel, asked in questions.items():
        answers = {str(each["place"]): _answer(arguments, tunnel, each) for each in asked}
        said.append(_sign_in(arguments.runtime_dir, tunnel, answers, timeout_s))
    if arguments.json:
        import json

        print(json.dumps({"ok": True, "text": "; ".join(said), "expires_at": None, "remaining_s": None}))
    else:
        print("\n".join(said))
    return DONE


def _seconds(span: str | None) -> float | None:
    if span is None:
        return None
    try:
        return durations.parse(span)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from error


def _require_root(runtime_dir: str) -> None:
    """Systemd's questions lie where root alone writes; a user's would be asked in vain, again and again."""
    try:
        owner = os.stat(os.path.join(runtime_dir, names.CONTROL_SOCKET)).st_uid
    except OSError:
        owner = 0
    if os.geteuid() not in {0, owner}:
        raise CommandRefused("only root may have systemd ask", hint="without --agent, or try sudo", code="root-only")


def _wanted(runtime_dir: str, tunnel: str | None) -> tuple[dict[str, str], dict[str, list[dict[str, Any]]]]:
    """The pages to sign in at, and the questions. Where a browser is wanted, the daemon is asked for questions only if
    it says that there are any: whoever may open a page need not be one who may sign in.
    """
    document = read(runtime_dir).document
    pages = browsing.pages(document, tunnel)
    asks = not pages or (tunnel is None and any(problem["code"] in CODES for problem in document["problems"]))
    return pages, _questions(runtime_dir, tunnel) if asks else {}


def _questions(runtime_dir: str, tunnel: str | None) -> dict[str, list[dict[str, Any]]]:
    """What is missing, by tunnels: of one tunnel all, otherwise of those that wait for it."""
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        for each in ask(runtime_dir, "questions")["data"]["questions"]:
            if each["tunnel"] == tunnel or (tunnel is None and each["wanted"]):
                found.setdefault(str(each["tunnel"]), []).append(each)
    except (KeyError, TypeError):
        hint = "aovpnctl and aovpnd must be of the same release"
        raise AovpndError("the daemon's answer cannot be understood", hint=hint) from None
    return found


# -- asking -----------------------------------------------------------------------------------------------------------
def _prompt(tunnel: str, each: dict[str, Any]) -> str:
    return plain(f"{each['text']}, for {tunnel} ({each['gateway']}): ")


def _answer(arguments: Arguments, tunnel: str, each: dict[str, Any]) -> str:
    if arguments.has("--stdin"):
        return _judged(_line())
    return _judged(_typed(_prompt(tunnel, each)))


def _line() -> str:
    """One line of standard input, byte by byte read so that the next one is left for the next question."""
    found = bytearray()
    while (byte := os.read(STANDARD_INPUT, 1)) and byte != b"\n":
        found += byte
        if len(found) > 4 * LONGEST_ANSWER:
            break
    try:
        return found.decode("utf-8").removesuffix("\r")
    except UnicodeDecodeError:
        return ""


def _typed(prompt: str) -> str:
    """On the terminal, without echo; never from anywhere else."""
    import termios

    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        hint = "run it in a terminal, or give it by --stdin"
        raise CommandRefused("there is no terminal to ask on", hint=hint, code="no-terminal") from None
    try:
        before = termios.tcgetattr(terminal)
        quiet = list(before)
        quiet[3] = before[3] & ~termios.ECHO
        try:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, quiet)
            os.write(terminal, prompt.encode("utf-8", "backslashreplace"))
            typed = os.read(terminal, 4096)
        finally:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
            os.write(terminal, b"\n")
    except (OSError, termios.error):
        raise CommandRefused("the terminal cannot be asked", hint="give it by --stdin", code="no-terminal") from None
    finally:
        os.close(terminal)
    return typed.decode("utf-8", "replace").rstrip("\r\n")


def _judged(answer: str) -> str:
    if not typed(answer):
        text = "what was given is nothing, or not one line of text"
        hint = f"one line of at most {LONGEST_ANSWER} characters; nothing was tried"
        raise CommandRefused(text, hint=hint, code="answer-unfit")
    return answer


def _asked_by_systemd(prompt: str) -> str | None:
    """By whoever asks on this system (systemd-ask-password(1)): console, splash screen, systemctl; None: nobody did."""
    import subprocess

    words = [ASK_PASSWORD, "--no-tty", "--icon=network-vpn", "--id=aovpnd", "--timeout=0", prompt.rstrip(": ")]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    except OSError:
        text = "systemd-ask-password cannot be run"
        raise CommandRefused(text, hint="apt install systemd; or sign in by hand", code="no-agent") from None
    answer = done.stdout.decode("utf-8", "replace").removesuffix("\n")
    return answer if done.returncode == 0 and answer else None


# -- signing in -------------------------------------------------------------------------------------------------------
def _sign_in(runtime_dir: str, tunnel: str, answers: dict[str, str], timeout_s: float) -> str:
    """What to say of it. `CommandRefused` when the gateway refuses, `AovpndError` when it does not answer."""
    answer = ask(runtime_dir, "sign-in", name=tunnel, answers=answers)
    if not (isinstance(answer["data"], dict) and answer["data"].get("tried") is True):
        return plain(answer["text"])
    problem: dict[str, Any] | None = None
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            document = read(runtime_dir).document
        except StateError:
            document = {"tunnels": [], "problems": []}
        if any(each["name"] == tunnel and each["state"] == "connected" for each in document["tunnels"]):
            return f"signed in: the tunnel {tunnel} is up"
        problem = next((each for each in document["problems"] if _is_of(each, tunnel)), None)
        if problem is not None and problem["code"] in CODES:
            raise CommandRefused(plain(problem["text"]), hint=plain(problem["hint"]), code=problem["code"])
        time.sleep(LOOK_S)
    why = plain(problem["text"]) if problem is not None else f"{tunnel} does not come up within {timeout_s:.0f} s"
    raise AovpndError(why, hint="aovpnctl status", code="timeout")


def _is_of(problem: dict[str, Any], tunnel: str) -> bool:
    return str(problem["text"]).startswith(f"{tunnel}: ")


def _for_ever(arguments: Arguments, timeout_s: float) -> None:
    """Ask whenever a tunnel waits for somebody; of what goes wrong the next question is the answer. A page is told,
    once: there is nobody here whose browser could be opened.
    """
    told = browsing.Told()
    while True:
        try:
            document = read(arguments.runtime_dir).document
            for tunnel, url in told.news(document, arguments.argument).items():
                print(browsing.sentence(tunnel, url), flush=True)
            problems = document["problems"]
            if any(problem["code"] in CODES for problem in problems):
                for tunnel, asked in _questions(arguments.runtime_dir, arguments.argument).items():
                    _by_agent(arguments, tunnel, asked, timeout_s)
        except CommandRefused as error:
            if error.code == "no-agent":
                raise
            print(error, flush=True)
        except AovpndError as error:
            print(error, flush=True)
        time.sleep(AGENT_LOOK_S)


def _by_agent(arguments: Arguments, tunnel: str, asked: list[dict[str, Any]], timeout_s: float) -> None:
    answers = {str(each["place"]): _asked_by_systemd(_prompt(tunnel, each)) for each in asked}
    given = {place: _judged(answer) for place, answer in answers.items() if answer is not None}
    if len(given) == len(answers):
        print(_sign_in(arguments.runtime_dir, tunnel, given, timeout_s), flush=True)
