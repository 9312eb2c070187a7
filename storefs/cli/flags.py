"""The table of flags: each one's names, what it means and where it goes.

The command line, `-o` options, environment variables, configuration file and the reference page
are all made from it, so a flag has one spelling and one description. It knows no values; those are
read in `values` and gathered in `sources`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """What a flag's value is; the text is what the reference page calls it."""

    TEXT = "text"
    CHOICE = "one of the words named"
    SIZE = "size: a number with K, M, G or T (powers of 1,024)"
    SECONDS = "duration: seconds, or a number with ms, s, m or h"
    MODE = "permissions in octal"
    USER = "user name or number"
    GROUP = "group name or number"
    PATH = "path"
    PATH_OR_NONE = "path, or `none`"
    SWITCH = "switch"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. `fields` are the `MountConfig` fields that it sets, with dots.

    `default` is text as a user would write it; None where `default_text` says what happens
    instead. A flag with `inverted` sets its fields to the opposite of its switch.
    """

    name: str
    kind: Kind
    fields: tuple[str, ...]
    help: str
    group: str
    default: str | None = None
    default_text: str = ""
    choices: tuple[str, ...] = ()
    metavar: str = ""
    minimum: float | None = None
    above: float | None = None
    inverted: bool = False
    buckets_only: bool = False
    short: str = ""

    @property
    def env(self) -> str:
        """Name of the environment variable."""
        return "STOREFS_" + self.name.upper().replace("-", "_")

    @property
    def option(self) -> str:
        """Name after `-o`."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """Name of the parameter in Python."""
        return self.option

    @property
    def opposite(self) -> str:
        """The name that switches it off again."""
        return self.name.removeprefix("no-") if self.inverted else f"no-{self.name}"


STORE, CACHE, FILES, LIMITS, LOGGING = (
    "Store",
    "Cache and state",
    "Files and access",
    "Time and memory",
    "Running and logging",
)
GROUPS = (STORE, CACHE, FILES, LIMITS, LOGGING)

ACLS = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)

FLAGS: tuple[Flag, ...] = (
    Flag(
        "endpoint-url",
        Kind.TEXT,
        ("store.endpoint_url",),
        "Address of an S3-compatible server, such as https://s3.example.org:8333.",
        STORE,
        default_text="Amazon's for the region",
        metavar="URL",
        buckets_only=True,
    ),
    Flag(
        "region",
        Kind.TEXT,
        ("store.region",),
        "Region of the bucket.",
        STORE,
        default_text="from AWS_REGION or the profile",
        metavar="NAME",
        buckets_only=True,
    ),
    Flag(
        "profile",
        Kind.TEXT,
        ("store.profile",),
        "Profile in ~/.aws/config and ~/.aws/credentials.",
        STORE,
        default_text="from AWS_PROFILE, else `default`",
        metavar="NAME",
        buckets_only=True,
    ),
    Flag(
        "addressing",
        Kind.CHOICE,
        ("store.addressing",),
        "Whether the bucket's name is in the path or in the host name; `auto` takes the path for "
        "an endpoint of your own and the host name for Amazon.",
        STORE,
        default="auto",
        choices=("auto", "path", "virtual"),
        buckets_only=True,
    ),
    Flag(
        "anonymous",
        Kind.SWITCH,
        ("store.anonymous",),
        "Send unsigned requests: public buckets need no credentials.",
        STORE,
        default="false",
        buckets_only=True,
    ),
    Flag(
        "requester-pays",
        Kind.SWITCH,
        ("store.requester_pays",),
        "Agree to pay for requests and transfer of a requester-pays bucket.",
        STORE,
        default="false",
        buckets_only=True,
    ),
    Flag(
        "sse",
        Kind.CHOICE,
        ("store.sse",),
        "Server-side encryption of new objects.",
        STORE,
        default_text="the bucket's own",
        choices=("AES256", "aws:kms", "aws:kms:dsse"),
        buckets_only=True,
    ),
    Flag(
        "sse-kms-key-id",
        Kind.TEXT,
        ("store.sse_kms_key_id",),
        "KMS key for --sse aws:kms.",
        STORE,
        default_text="the account's own key",
        metavar="ID",
        buckets_only=True,
    ),
    Flag(
        "storage-class",
        Kind.TEXT,
        ("store.storage_class",),
        "Storage class of new objects, such as STANDARD_IA; a rewritten object keeps its own.",
        STORE,
        default_text="the store's own",
        metavar="CLASS",
        buckets_only=True,
    ),
    Flag(
        "acl",
        Kind.CHOICE,
        ("store.acl",),
        "Canned ACL of new objects.",
        STORE,
        default_text="the bucket's own",
        choices=ACLS,
        buckets_only=True,
    ),
    Flag(
        "ca-bundle",
        Kind.PATH,
        ("store.ca_bundle",),
        "File with the certificates to trust.",
        STORE,
        default_text="from AWS_CA_BUNDLE, else the system's",
        metavar="FILE",
        buckets_only=True,
    ),
    Flag(
        "no-verify-tls",
        Kind.SWITCH,
        ("store.verify_tls",),
        "Do not check the server's certificate. Anybody on the way can then read and change all.",
        STORE,
        default="false",
        inverted=True,
        buckets_only=True,
    ),
    Flag(
        "cache-dir",
        Kind.PATH_OR_NONE,
        ("cache.directory",),
        "Where parts of files that were read are kept, also for later mounts. May be deleted at "
        "any time. `none` caches in memory alone.",
        CACHE,
        default_text="/var/cache/storefs for root, else $XDG_CACHE_HOME/storefs",
        metavar="DIR",
    ),
    Flag(
        "cache-size",
        Kind.SIZE,
        ("cache.size_bytes",),
        "How much the cache may hold; what was not used for longest goes first.",
        CACHE,
        default="10G",
        metavar="SIZE",
    ),
    Flag(
        "cache-min-free",
        Kind.SIZE,
        ("cache.min_free_bytes",),
        "How much of the cache's disk stays free for others; the cache shrinks below that.",
        CACHE,
        default="1G",
        metavar="SIZE",
    ),
    Flag(
        "state-dir",
        Kind.PATH,
        ("write.state_dir", "log.fallback_dir"),
        "Where bytes wait until they are in the bucket. Holds the only copy of what could not be "
        "stored: never delete it by hand.",
        CACHE,
        default_text="/var/lib/storefs for root, else $XDG_STATE_HOME/storefs",
        metavar="DIR",
    ),
    Flag(
        "read-only",
        Kind.SWITCH,
        ("read_only", "store.read_only", "tree.read_only"),
        "Refuse every change; nothing is ever sent to the bucket, not even to try what it can do.",
        FILES,
        default="false",
    ),
    Flag(
        "allow-other",
        Kind.SWITCH,
        ("allow_other",),
        "Let all users in, as far as owner and permissions allow it. For a mount by another user "
        "than root /etc/fuse.conf must say `user_allow_other`.",
        FILES,
        default_text="on for root, off for others",
    ),
    Flag(
        "uid",
        Kind.USER,
        ("tree.uid",),
        "Owner of all files.",
        FILES,
        default_text="the user who mounts",
        metavar="USER",
    ),
    Flag(
        "gid",
        Kind.GROUP,
        ("tree.gid",),
        "Group of all files.",
        FILES,
        default_text="the group of the user who mounts",
        metavar="GROUP",
    ),
    Flag(
        "file-mode",
        Kind.MODE,
        ("tree.file_mode",),
        "Permissions of files.",
        FILES,
        default="0644",
        metavar="OCTAL",
    ),
    Flag(
        "dir-mode",
        Kind.MODE,
        ("tree.dir_mode",),
        "Permissions of directories.",
        FILES,
        default="0755",
        metavar="OCTAL",
    ),
    Flag(
        "metadata-ttl",
        Kind.SECONDS,
        ("tree.metadata_ttl_seconds",),
        "How long what is known of a file or directory is believed: so late a change by others may "
        "be seen. 0 asks the store at every open.",
        LIMITS,
        default="5",
        metavar="TIME",
        minimum=0,
    ),
    Flag(
        "negative-ttl",
        Kind.SECONDS,
        ("tree.negative_ttl_seconds",),
        "The same for names that do not exist.",
        LIMITS,
        default="1",
        metavar="TIME",
        minimum=0,
    ),
    Flag(
        "timeout",
        Kind.SECONDS,
        ("store.timeout_seconds", "write.timeout_seconds"),
        "How long a request may take, and a transfer may stand still, before it counts as failed. "
        "A slow transfer that moves never does.",
        LIMITS,
        default="60",
        metavar="TIME",
        above=0,
    ),
    Flag(
        "stop-timeout",
        Kind.SECONDS,
        ("write.stop_timeout_seconds",),
        "How long unmounting may go on storing what is not in the bucket yet; what is left then "
        "stays in the state directory and is named.",
        LIMITS,
        default="60",
        metavar="TIME",
        above=0,
    ),
    Flag(
        "memory-limit",
        Kind.SIZE,
        ("memory_limit_bytes",),
        "Memory for buffers, read-ahead, parts in flight and what is known of files, at least "
        "256M.",
        LIMITS,
        default="512M",
        metavar="SIZE",
        minimum=256 * 1024**2,
    ),
    Flag(
        "log-level",
        Kind.CHOICE,
        ("log.level",),
        "The least important lines to log.",
        LOGGING,
        default="info",
        choices=("debug", "info", "warning", "error"),
    ),
    Flag(
        "log-file",
        Kind.PATH,
        ("log.file",),
        "Log to this file; it may be rotated.",
        LOGGING,
        default_text="the journal or syslog; with --foreground stderr",
        metavar="FILE",
    ),
    Flag(
        "foreground",
        Kind.SWITCH,
        ("log.foreground",),
        "Stay in the foreground instead of returning once mounted.",
        LOGGING,
        default="false",
        short="f",
    ),
)

BY_NAME = {flag.name: flag for flag in FLAGS}

KERNEL_OPTIONS = ("nosuid", "nodev", "noexec", "noatime")
"""Options of mount(8) that are handed to the kernel."""

KERNEL_OPPOSITES = {"suid": "nosuid", "dev": "nodev", "exec": "noexec", "atime": "noatime"}

KERNEL_DEFAULTS = ("nosuid", "nodev")
"""Who may write the bucket may plant set-id bits and devices; root may ask for `suid` and `dev`."""
