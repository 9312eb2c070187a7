"""Multipart uploads of a local bucket. A base of `LocalDriver`.

An upload is a directory under `.storefs-bucket/uploads`; a part is a file in it whose name is its
number and ETag, so that parts survive a crash and are listed without a look inside. The object is
put together beside the bucket's files and takes its name in one step.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import time
from typing import IO, TYPE_CHECKING

from storefs.drivers import checksums, streams
from storefs.drivers.local_commits import LocalCommits, require_empty_marker
from storefs.drivers.local_connection import LocalBucket, LocalConnection
from storefs.drivers.local_paths import (
    copy_bytes,
    directory,
    maybe_names_of,
    names_of,
    open_file,
    translated,
)
from storefs.drivers.local_records import Signature, Version
from storefs.drivers.models import MultipartUpload, OperationResult, Part, UploadResult
from storefs.errors import (
    InvalidRange,
    NoSuchUpload,
    ObjectChanged,
    ObjectTooLarge,
    StoreError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storefs.drivers.base import Connection
    from storefs.drivers.models import ObjectAttributes, ProgressCallback

_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_PART = re.compile(rb"(\d{5})-([0-9a-f]{32})")


class LocalMultipart(LocalCommits):
    """See the module."""

    def create_multipart_upload(
        self,
        connection: Connection,
        container_name: str,
        object_name: str,
        *,
        attributes: ObjectAttributes | None = None,
    ) -> str:
        """Begin; the answer is the upload's id."""
        bucket = LocalConnection.of(connection).get_client(container_name)
        names_of(object_name)
        with translated("create_multipart_upload", object_name):
            bucket.prepare()
            upload_id = secrets.token_hex(16)
            path = os.path.join(bucket.uploads, upload_id.encode())
            # Begun under another name, so that an upload that is listed has its description.
            aside = os.path.join(bucket.temporary, b"upload-" + upload_id.encode())
            kept = Version(
                Signature(0, 0, time.time_ns()), "", *([attributes] if attributes else [])
            )
            os.mkdir(aside)
            with open(os.path.join(aside, b"upload"), "wb") as file:
                file.write(json.dumps({"key": object_name, **kept.to_json()}).encode())
                bucket.sync(file.fileno())
            os.rename(aside, path)
        return upload_id

    def upload_part(
        self,
        connection: Connection,
        container_name: str,
        object_name: str,
        upload_id: str,
        part_number: int,
        body: bytes | bytearray | memoryview | IO[bytes],
        *,
        progress_callback: ProgressCallback | None = None,
    ) -> Part:
        """Send one part."""
        bucket = LocalConnection.of(connection).get_client(container_name)
        reader = streams.with_length(body)
        reader.progress = progress_callback
        reader.hash_with("md5")
        self._check_part(connection, container_name, object_name, part_number, reader.size)
        with (
            translated("upload_part", object_name),
            bucket.temporary_file() as (descriptor, path),
        ):
            write_all(descriptor, reader)
            part = Part(part_number, reader.hexdigest("md5"), reader.size)
            self._keep_part(bucket, object_name, upload_id, part, descriptor, path)
        return part

    def copy_part(
        self,
        connection: Connection,
        container_name: str,
        object_name: str,
        upload_id: str,
        part_number: int,
        src_container_name: str,
        src_object_name: str,
        *,
        offset: int,
        length: int,
        src_if_match: str | None = None,
    ) -> Part:
        """A part whose bytes are a range of another object, copied inside the kernel.

        Its ETag names the source and the range instead of the bytes, which nobody reads for it.
        """
        local = LocalConnection.of(connection)
        bucket, source = local.get_client(container_name), local.get_client(src_container_name)
        self._check_part(connection, container_name, object_name, part_number, length)
        with (
            translated("copy_part", object_name),
            self.opened(source, src_object_name, src_if_match) as (origin, version),
            bucket.temporary_file() as (descriptor, path),
        ):
            if offset < 0 or offset + length > version.signature.size:
                raise InvalidRange("a copied range lies inside its source", key=src_object_name)
            copy_unchanged(origin, descriptor, version, offset, length, src_object_name)
            etag = checksums.of("md5", f"{version.etag} {offset} {length}".encode())
            part = Part(part_number, etag, length)
            self._keep_part(bucket, object_name, upload_id, part, descriptor, path)
        return part

    def list_parts(
        self, connection: Connection, container_name: str, object_name: str, upload_id: str
    ) -> list[Part]:
        """All parts that the store has, in order of their numbers."""
        bucket = LocalConnection.of(connection).get_client(container_name)
        with translated("list_parts", object_name):
            path, _, _ = self._upload(bucket, object_name, upload_id)
            return _parts(path, object_name)

    def complete_multipart_upload(
        self,
        connection: Connection,
        container_name: str,
        object_name: str,
        upload_id: str,
        parts: list[Part],
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> UploadResult:
        """Make the parts the object; NoSuchUpload if it is gone (or was completed already)."""
        bucket = LocalConnection.of(connection).get_client(container_name)
        caps = self.capabilities(connection, container_name)
        self.require_conditions(
            "complete_multipart_upload", caps.conditional_complete, if_match, if_none_match
        )
        with translated("complete_multipart_upload", object_name):
            directory_path, attributes, _ = self._upload(bucket, object_name, upload_id)
            _check_parts(
                parts, _parts(directory_path, object_name), caps.min_part_bytes, object_name
            )
            require_empty_marker(object_name, sum(part.size for part in parts))
            # Before the work; it is asked again when the name is taken.
            self.require(bucket, object_name, if_match, if_none_match)
            with bucket.temporary_file() as (descriptor, path):
                size = 0
                for part in parts:
                    with open(_part_path(directory_path, part), "rb") as file:
                        size += copy_bytes(
                            file.fileno(), descriptor, 0, os.fstat(file.fileno()).st_size
                        )
                etag = checksums.multipart_etag(part.etag for part in parts)
                self.commit(
                    bucket, object_name, descriptor, path, etag, attributes, if_match, if_none_match
                )
            shutil.rmtree(directory_path, ignore_errors=True)
        return UploadResult(None, None, etag=etag, size=size)

    def abort_multipart_upload(
        self, connection: Connection, container_name: str, object_name: str, upload_id: str
    ) -> OperationResult:
        """Drop the parts; an upload that is gone is no error."""
        bucket = LocalConnection.of(connection).get_client(container_name)
        with translated("abort_multipart_upload", object_name):
            try:
                path, _, _ = self._upload(bucket, object_name, upload_id)
            except NoSuchUpload:
                return OperationResult(existed=False)
            shutil.rmtree(path, ignore_errors=True)
        return OperationResult(existed=True)

    def list_multipart_uploads(
        self, connection: Connection, container_name: str, prefix: str | None = None
    ) -> list[MultipartUpload]:
        """Uploads under a prefix that are neither completed nor aborted."""
        bucket = LocalConnection.of(connection).get_client(container_name)
        uploads: list[MultipartUpload] = []
        with translated("list_multipart_uploads", prefix or ""):
            try:
                found = sorted(os.listdir(bucket.uploads))
            except FileNotFoundError:
                return []
            for name in found:
                with contextlib.suppress(NoSuchUpload):
                    _, _, about = self._upload(bucket, None, name.decode())
                    if about.key.startswith(prefix or ""):
                        uploads.append(about)
        return sorted(uploads, key=lambda upload: (upload.key, upload.initiated_ns))

    # -- inside --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def opened(
        self, bucket: LocalBucket, key: str, if_match: str | None
    ) -> Iterator[tuple[int, Version]]:
        """A descriptor of an object's file and the version that it is."""
        descriptor, version = self.open_version(bucket, key, if_match)
        try:
            yield descriptor, version
        finally:
            os.close(descriptor)

    def open_version(
        self, bucket: LocalBucket, key: str, if_match: str | None
    ) -> tuple[int, Version]:
        """As `opened`, to be closed by the caller. A marker opens as an empty file."""
        while True:
            version = self.demand(bucket, key, if_match)
            if key.endswith("/"):
                return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), version
            names = maybe_names_of(key) or []
            try:
                with directory(bucket.root, names[:-1]) as parent:
                    descriptor = open_file(names[-1], parent)
            except (FileNotFoundError, NotADirectoryError):
                descriptor = None
            if descriptor is None:
                continue  # removed between the two looks: the next one says so
            if Signature.of(os.fstat(descriptor)) == version.signature:
                return descriptor, version
            os.close(descriptor)  # replaced between the two looks

    def _check_part(
        self, connection: Connection, container_name: str, key: str, number: int, size: int
    ) -> None:
        caps = self.capabilities(connection, container_name)
        if not 1 <= number <= caps.max_parts:
            raise StoreError(f"part numbers are 1 to {caps.max_parts}, not {number}", key=key)
        if size > caps.max_part_bytes:
            raise ObjectTooLarge(f"{size} bytes in one part", key=key)

    def _keep_part(
        self,
        bucket: LocalBucket,
        key: str,
        upload_id: str,
        part: Part,
        descriptor: int,
        path: bytes,
    ) -> None:
        bucket.sync(descriptor)
        directory_path, _, _ = self._upload(bucket, key, upload_id)
        before = [old for old in _parts(directory_path, key) if old.number == part.number]
        try:
            os.rename(path, _part_path(directory_path, part))
        except FileNotFoundError as exc:
            raise NoSuchUpload("the upload was ended meanwhile", key=key) from exc
        for old in before:
            if old.etag != part.etag:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(_part_path(directory_path, old))

    def _upload(
        self, bucket: LocalBucket, key: str | None, upload_id: str
    ) -> tuple[bytes, ObjectAttributes, MultipartUpload]:
        path = os.path.join(bucket.uploads, upload_id.encode())
        try:
            if not _UPLOAD_ID.fullmatch(upload_id):
                raise FileNotFoundError
            with open(os.path.join(path, b"upload"), "rb") as file:
                about = json.loads(file.read())
        except (FileNotFoundError, NotADirectoryError, ValueError) as exc:
            raise NoSuchUpload(f"no upload {upload_id!r} is open", key=key or "") from exc
        if key is not None and about["key"] != key:
            raise NoSuchUpload(f"upload {upload_id!r} is of another key", key=key)
        kept = Version.from_json(about)
        upload = MultipartUpload(about["key"], upload_id, kept.signature.mtime_ns)
        return path, kept.attributes, upload


def write_all(descriptor: int, body: streams.Reader) -> None:
    """The whole body into a file, from where that stands."""
    for piece in body.pieces():
        view = memoryview(piece)
        while view:
            view = view[os.write(descriptor, view) :]


def copy_unchanged(
    source: int, target: int, version: Version, offset: int, length: int, key: str
) -> None:
    """Copy a range of a file that must not change meanwhile; raises ObjectChanged if it does."""
    copied = copy_bytes(source, target, offset, length)
    if copied != length or Signature.of(os.fstat(source)) != version.signature:
        raise ObjectChanged("changed while it was copied", key=key, operation="copy")


def _part_path(directory_path: bytes, part: Part) -> bytes:
    return os.path.join(directory_path, f"{part.number:05d}-{part.etag}".encode())


def _parts(directory_path: bytes, key: str) -> list[Part]:
    try:
        with os.scandir(directory_path) as entries:
            found = [
                Part(int(match[1]), match[2].decode(), entry.stat().st_size)
                for entry in entries
                if (match := _PART.fullmatch(entry.name))
            ]
    except FileNotFoundError as exc:
        raise NoSuchUpload("the upload was ended meanwhile", key=key) from exc
    return sorted(found, key=lambda part: part.number)


def _check_parts(wanted: list[Part], there: list[Part], least: int, key: str) -> None:
    """StoreError where S3 answers InvalidPart, InvalidPartOrder or EntityTooSmall."""
    numbers = [part.number for part in wanted]
    if not wanted or numbers != sorted(set(numbers)):
        raise StoreError("parts must be given in the order of their numbers", key=key)
    sizes = {(part.number, part.etag): part.size for part in there}
    for part in wanted:
        size = sizes.get((part.number, part.etag))
        if size is None:
            raise StoreError(f"part {part.number} is not there or has another ETag", key=key)
        if size < least and part is not wanted[-1]:
            raise StoreError(f"part {part.number} is too small: {size} bytes", key=key)
