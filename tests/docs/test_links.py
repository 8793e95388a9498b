"""Links of README and docs lead somewhere, and the tests that pages name exist."""

import re
import shutil
import subprocess

import pytest

from tests.docs import pages, runner
from tests.imports import TREES

ROOT = pages.ROOT
OTHERS = sorted(
    p.relative_to(ROOT).as_posix() for p in (ROOT / "experiments/results").rglob("*.md")
)
# Flags in pages that are of other programs.
FOREIGN = {"docs/how-to/moving.md"}


def anchors(page):
    """Return the anchors of a page's headings."""
    heads = re.findall(r"^#+ (.*)$", pages.read(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head).strip().lower().replace(" ", "-") for head in heads}


def leads_somewhere(page, link):
    """Return whether a link from a page leads to a file of the project and, if named, a heading."""
    path, _, anchor = link.partition("#")
    target = ((ROOT / page).parent / path if path else ROOT / page).resolve()
    if not target.exists() or ROOT not in target.parents:
        return False
    return not anchor or anchor in anchors(target.relative_to(ROOT).as_posix())


@pytest.mark.parametrize("page", [*pages.PAGES, *OTHERS])
def test_the_links_of_a_page_lead_to_files_of_the_project(page):
    """Bug: a page that moved. The strict build checks the site; this checks a checkout."""
    wrong = [link for link in pages.links(page) if not leads_somewhere(page, link)]
    assert [link for link in wrong if not re.match("https?://", link)] == []


@pytest.mark.parametrize("page", pages.PAGES)
def test_the_tests_that_a_page_names_exist(page):
    files = {path.stem: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    name = None
    for mentioned, function in re.findall(r"`(test_\w+)?(?:::(\w+))?`", pages.read(page)):
        name = mentioned or name
        if function or mentioned:
            assert name in files, f"{page} names {name}"
            assert not function or f"def {function}(" in files[name], f"{name}::{function}"


def test_the_layout_in_build_names_every_module():
    """Bug: a module that moved into a new room, or was added, and that no page names."""
    named = {*re.findall(r"\w+", pages.read("BUILD.md"))}
    modules = [path for tree in TREES for path in (ROOT / tree).rglob("[!_]*.py")]
    assert [path.name for path in modules if path.stem not in named] == []


def test_every_flag_between_backquotes_is_a_flag_of_a_command(tmp_path):
    from experiments.__main__ import COMMANDS

    known = {"flagfile", "help", "helpfull"}
    for command in COMMANDS:
        known |= runner.flag_names(command, tmp_path)
    for page in set(pages.PAGES) - FOREIGN:
        for token in pages.tokens(page):
            if token.type == "code_inline" and (flag := re.match(r"--(no)?(\w+)", token.content)):
                assert {flag[2], f"{flag[1] or ''}{flag[2]}"} & known, f"{page}: {token.content}"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs/deploy").iterdir()), ids=lambda path: path.name
)
def test_the_files_to_deploy_are_valid(path, tmp_path):
    if path.suffix == ".service":
        [command] = re.findall(
            r"^ExecStart=(?:/opt/hrnn_jax/)?(.*)$", path.read_text(), re.MULTILINE
        )
        [(module, argv)] = pages.Command(command, is_inline=False).calls()
        assert runner.parse_commands(module, [argv], tmp_path) == []
        if shutil.which("systemd-analyze") is None:
            pytest.skip("systemd-analyze is not installed")
        unit = tmp_path / path.name  # with a program and a user that this machine has
        text = re.sub(
            r"^ExecStart=\S+", "ExecStart=/bin/true", path.read_text(), flags=re.MULTILINE
        )
        unit.write_text(text.replace("User=hrnn_jax", "User=nobody"))
        check = ["systemd-analyze", "verify", "--man=no", str(unit)]
    else:
        if shutil.which("nginx") is None:
            pytest.skip("nginx is not installed")
        key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
        made = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=localhost",
        ]
        subprocess.run([*made, "-keyout", key, "-out", cert], check=True, capture_output=True)
        site = re.sub(r"ssl_certificate_key .*;", f"ssl_certificate_key {key};", path.read_text())
        site = re.sub(r"ssl_certificate .*;", f"ssl_certificate {cert};", site)
        conf = tmp_path / "nginx.conf"
        conf.write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{site}\n}}\n")
        check = ["nginx", "-t", "-c", str(conf), "-e", str(tmp_path / "errors")]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
