"""The files around the package keep their promises."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from storefs import __version__
from storefs.cli.flags import FLAGS
from storefs.config import WriteConfig

ROOT = Path(__file__).resolve().parents[1]
UNIT = ROOT / "systemd" / "storefs@.service"

# Each of these gives a service a mount namespace of its own (systemd.exec(5)), in which its mount
# would be invisible to everybody else.
NAMESPACE_DIRECTIVES = re.compile(
    r"^\s*(Private(Tmp|Devices|Mounts|Users|IPC|PIDs)|Protect\w+|ReadOnlyPaths|ReadWritePaths"
    r"|InaccessiblePaths|ExecPaths|NoExecPaths|Bind(ReadOnly)?Paths|DynamicUser|Root\w+"
    r"|TemporaryFileSystem|MountAPIVFS|MountImages|ExtensionImages|ExtensionDirectories"
    r"|LogNamespace|MountFlags)\s*=",
    re.MULTILINE,
)


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return parser


def test_no_unit_has_a_mount_namespace_of_its_own() -> None:
    for path in (ROOT / "systemd").iterdir():
        assert not NAMESPACE_DIRECTIVES.search(path.read_text())


def test_the_service_says_when_it_is_ready_and_is_started_again() -> None:
    service = unit()["Service"]
    assert service["Type"] == "notify"
    assert service["Restart"] == "on-failure"
    assert "--foreground --config /etc/storefs/%i.conf" in service["ExecStart"]
    assert unit()["Unit"]["StartLimitIntervalSec"] == "0"
    assert "network-online.target" in unit()["Unit"]["After"]


def test_the_service_has_time_to_drain() -> None:
    assert int(unit()["Service"]["TimeoutStopSec"]) > WriteConfig(Path("/")).stop_timeout_seconds


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail("systemd is missing")
        pytest.skip("no systemd here")
    text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text())
    (tmp_path / "storefs@x.service").write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "storefs@x.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "storefs@" not in done.stderr


@pytest.mark.parametrize("script", ["scripts/setup.sh", "scripts/local-mount.sh", ".ci/run"])
def test_scripts_can_be_run_and_have_no_mistakes_of_form(script: str) -> None:
    path = ROOT / script
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize("target", ["mount", "umount", "test", "check", "clean"])
def test_make_knows_its_targets(target: str) -> None:
    done = subprocess.run(
        ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_make_clean_keeps_the_bucket() -> None:
    recipe = (ROOT / "Makefile").read_text().split("\nclean:")[1].split("\n\n")[0]
    assert ".local-bucket" not in recipe


def readme() -> str:
    return (ROOT / "README.md").read_text()


def test_flags_that_the_readme_shows_exist() -> None:
    shown = set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]+)", readme()))
    known = {flag.name for flag in FLAGS} | {flag.opposite for flag in FLAGS}
    others = {"config", "now"}  # of the command itself, and of systemctl
    assert shown - known - others == set()


def test_options_that_the_readme_shows_for_fstab_exist() -> None:
    line = next(line for line in readme().splitlines() if " storefs _netdev" in line)
    options = line.split()[3].split(",")
    known = {flag.option for flag in FLAGS} | {"_netdev", "nofail", "ro"}
    assert {option.partition("=")[0] for option in options} <= known


def test_the_configuration_in_the_readme_is_one(tmp_path: Path) -> None:
    from storefs.cli.sources import read_file

    block = re.search(r"```toml\n(.*?)```", readme(), re.DOTALL)
    assert block is not None
    path = tmp_path / "x.conf"
    path.write_text(block[1])
    assert read_file(str(path)).url is not None
    assert tomllib.loads(block[1])


def test_the_policy_in_the_readme_is_the_least() -> None:
    block = re.search(r"```json\n(.*?)```", readme(), re.DOTALL)
    assert block is not None
    statements = json.loads(block[1])["Statement"]
    actions = {action for statement in statements for action in statement["Action"]}
    assert actions == {
        "s3:ListBucket",
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts",
        "s3:GetObjectTagging",
        "s3:PutObjectTagging",
    }
    listing = next(each for each in statements if "s3:ListBucket" in each["Action"])
    assert "s3:prefix" in json.dumps(listing["Condition"])


def test_files_that_the_readme_links_exist() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", readme())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_changelog_tells_of_this_version_or_of_the_next() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## Unreleased" in text or f"## {__version__}" in text
