"""Which of several places counts, and what is said about a mistake in one of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storefs.cli.options import kernel_options, mount_config, url_text
from storefs.cli.sources import gather, parse_options, read_file, split_options
from storefs.cli.values import parse_seconds
from storefs.config import StoreUrl
from storefs.errors import ConfigError


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mount.conf"
    path.write_text(text)
    return str(path)


def region(**said: object) -> object:
    return gather(url="s3://b", directory="/m", **said).get("region")  # type: ignore[arg-type]


def test_precedence_is_flags_then_options_then_environment_then_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'region = "file"\n')
    environ = {"STOREFS_REGION": "environment"}
    options, flags = ["region=option"], {"region": "flag"}

    assert region(config=path, environ={}) == "file"
    assert region(config=path, environ=environ) == "environment"
    assert region(config=path, environ=environ, options=options) == "option"
    assert region(config=path, environ=environ, options=options, flags=flags) == "flag"


def test_the_file_may_be_named_by_a_flag_an_option_or_a_variable(tmp_path: Path) -> None:
    path = write(tmp_path, 'region = "file"\n')
    assert region(config=path, environ={}) == "file"
    assert region(options=[f"config={path}"], environ={}) == "file"
    assert region(environ={"STOREFS_CONFIG": path}) == "file"


def test_url_and_directory_may_stand_in_the_file(tmp_path: Path) -> None:
    settings = gather(config=write(tmp_path, 'url = "s3://b/p"\ndirectory = "m"\n'), environ={})
    assert settings.url == "s3://b/p"
    assert settings.directory == str(tmp_path / "m")


def test_one_argument_beside_a_file_with_a_url_is_the_directory(tmp_path: Path) -> None:
    path = write(tmp_path, 'url = "s3://b"\ndirectory = "/elsewhere"\n')
    settings = gather(url="/here", config=path, environ={})
    assert (settings.url, settings.directory) == ("s3://b", "/here")


def test_paths_in_the_file_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = read_file(write(tmp_path, 'cache-dir = "c"\nstate-dir = "/abs"\n'))
    assert settings.get("cache-dir") == tmp_path / "c"
    assert settings.get("state-dir") == Path("/abs")


def test_cache_dir_none_means_memory_alone(tmp_path: Path) -> None:
    settings = gather(
        url="s3://b", directory="/m", environ={}, config=write(tmp_path, 'cache-dir = "none"\n')
    )
    assert mount_config(settings).cache.directory is None


def test_numbers_of_toml_are_taken_as_they_are(tmp_path: Path) -> None:
    settings = read_file(write(tmp_path, "cache-size = 1048576\ntimeout = 1.5\nread-only = true\n"))
    assert settings.get("cache-size") == 1048576
    assert settings.get("timeout") == 1.5
    assert settings.get("read-only") is True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('regoin = "x"\n', "unknown key 'regoin', perhaps 'region'"),
        ("file-mode = 644\n", 'write the permissions in quotes, such as "0644"'),
        ('cache-size = "lots"\n', "cache-size: 'lots' is not a size"),
        ("cache-size = true\n", "cache-size: this is not a switch"),
        ("region = [1]\n", "region: write one value"),
        ("url = 3\n", "url: write text in quotes"),
        ("region = \n", "is not TOML"),
        ('options = "cache_dir=/x"\n', "options: write options of mount(8) here"),
    ],
)
def test_a_mistake_in_the_file_names_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    assert str(caught.value).startswith(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration file .*: No such file"):
        read_file(str(tmp_path / "none"))


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    with pytest.raises(ConfigError, match=r"^STOREFS_TIMEOUT: 'soon' is not a duration"):
        gather(environ={"STOREFS_TIMEOUT": "soon"})


def test_an_empty_variable_counts_as_not_set() -> None:
    assert region(environ={"STOREFS_REGION": ""}) is None


def test_options_are_split_at_commas_outside_quotes() -> None:
    assert split_options('ro,cache_dir="/a,b",x=1\\,2,,') == ["ro", "cache_dir=/a,b", "x=1,2"]


def test_options_that_belong_to_mount_and_systemd_are_ignored() -> None:
    text = "_netdev,nofail,auto,noauto,user,users,defaults,x-systemd.automount,comment=hello"
    parsed = parse_options(split_options(text))
    assert (parsed.values, parsed.kernel_options, parsed.rest) == ({}, (), ())


def test_options_for_the_kernel_are_kept_and_the_last_of_two_opposites_counts() -> None:
    assert parse_options(["noexec", "noatime"]).kernel_options == ("noexec", "noatime")
    assert parse_options(["noexec", "exec"]).kernel_options == ("exec",)
    assert parse_options(["exec", "noexec"]).kernel_options == ("noexec",)


def test_ro_and_rw_are_the_switch_read_only() -> None:
    assert parse_options(["ro"]).values == {"read-only": "yes"}
    assert parse_options(["ro", "rw"]).values == {"read-only": "no"}


def test_a_switch_is_turned_off_by_no_in_front_or_behind() -> None:
    assert parse_options(["noallow_other"]).values == {"allow-other": "no"}
    assert parse_options(["no_allow_other"]).values == {"allow-other": "no"}
    assert parse_options(["allow_other=no"]).values == {"allow-other": "no"}
    assert parse_options(["no_verify_tls"]).values == {"no-verify-tls": "yes"}


def test_an_unknown_option_is_refused_with_the_one_that_may_be_meant() -> None:
    with pytest.raises(ConfigError, match="unknown option 'cache_dri', perhaps 'cache_dir'"):
        gather(options=["cache_dri=/x"], environ={})


def test_sloppy_lets_unknown_options_pass() -> None:
    assert gather(options=["cache_dri=/x"], environ={}, sloppy=True).values == {}


def test_an_option_without_its_value_says_so() -> None:
    with pytest.raises(ConfigError, match="-o cache_dir needs a value"):
        parse_options(["cache_dir"])


def test_nosuid_and_nodev_hold_unless_root_says_otherwise() -> None:
    assert kernel_options((), root=False) == ("nosuid", "nodev")
    assert kernel_options(("suid", "noexec"), root=True) == ("nodev", "noexec")
    with pytest.raises(ConfigError, match="only root may mount with 'suid'"):
        kernel_options(("suid",), root=False)


@pytest.mark.parametrize(
    "url",
    [
        StoreUrl("file", "/a dir/with?and#and%20"),
        StoreUrl("s3", "bucket", "pre fix/ü?/"),
        StoreUrl("s3", "bucket"),
    ],
)
def test_the_url_handed_to_the_daemon_means_the_same(url: StoreUrl) -> None:
    assert StoreUrl.parse(url_text(url)) == url


def test_a_url_is_utf8_whatever_the_locale_made_of_it() -> None:
    as_in_c_locale = "s3://bucket/\udcc3\udcbc"
    assert gather(url=as_in_c_locale, environ={}).url == "s3://bucket/ü"


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("1.5", 1.5), ("500ms", 0.5), ("2m", 120), ("1h", 3600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"memory-limit": "255M"}, "--memory-limit: '255M' is too little: at least 256M is needed"),
        ({"timeout": "0"}, "--timeout: '0' is too little: it must be above 0"),
        ({"metadata-ttl": "-1"}, "--metadata-ttl: '-1' is not a duration"),
        ({"file-mode": "rw-r--r--"}, "--file-mode: 'rw-r--r--' are no permissions"),
        ({"file-mode": "4755"}, "--file-mode: '4755' are no permissions"),
        ({"uid": "nobody-has-this-name"}, "--uid: there is no user 'nobody-has-this-name'"),
        ({"gid": "nobody-has-this-name"}, "--gid: there is no group 'nobody-has-this-name'"),
        ({"addressing": "both"}, "--addressing: 'both' is unknown: write auto, path, virtual"),
        ({"log-level": "loud"}, "--log-level: 'loud' is unknown: write debug, info"),
        ({"region": ""}, "--region: a value is missing"),
        ({"endpoint-url": "s3.example.org"}, "--endpoint-url: 's3.example.org' is no endpoint"),
        ({"endpoint-url": "http://me:pw@h"}, "--endpoint-url: a URL holds no credentials"),
        ({"sse-kms-key-id": "k"}, "--sse-kms-key-id needs --sse aws:kms"),
        ({"anonymous": "yes", "profile": "p"}, "--anonymous uses no credentials"),
        ({"no-verify-tls": "yes", "ca-bundle": "/x"}, "--no-verify-tls trusts everybody"),
    ],
)
def test_a_value_that_cannot_be_is_one_line(flags: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mount_config(gather(url="s3://b", directory="/m", flags=flags, environ={}))
    assert said in str(caught.value)
    assert "pw" not in str(caught.value)


def test_a_flag_for_buckets_is_refused_for_a_directory_but_a_variable_is_not() -> None:
    """Variables hold for every mount of a user; a flag is meant for this one."""
    with pytest.raises(ConfigError, match="--region has no meaning for file://: remove it"):
        mount_config(gather(url="file:///b", directory="/m", flags={"region": "x"}, environ={}))
    config = mount_config(gather(url="file:///b", directory="/m", environ={"STOREFS_REGION": "x"}))
    assert config.store.region is None


@pytest.mark.skipif(os.getuid() != 0, reason="what root gets by default")
def test_a_mount_by_root_lets_others_in() -> None:
    assert mount_config(gather(url="s3://b", directory="/m", environ={})).allow_other


def test_a_mount_by_a_user_lets_nobody_else_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 1000)
    assert not mount_config(gather(url="s3://b", directory="/m", environ={})).allow_other
