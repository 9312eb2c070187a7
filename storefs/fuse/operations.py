"""One short handler per request of the kernel: find, delegate, reply.

Holds no logic: names are the tree's, bytes the open files'. Every handler is guarded (see
`errnos`). The contract of each handler is that of `pyfuse3.Operations`.
"""

from __future__ import annotations

import errno
import os
import stat as stat_module
from collections import Counter
from contextlib import aclosing
from itertools import count
from typing import TYPE_CHECKING

import pyfuse3

from storefs.errors import BadHandle, IsADirectory
from storefs.fuse.attributes import attributes_of, negative, statfs
from storefs.fuse.errnos import guarded
from storefs.store.version import Version
from storefs.tree import names
from storefs.tree.tree import Missing
from storefs.units import HandleNumber, InodeNumber

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyfuse3 import FileHandleT, FlagT, InodeT, ModeT, RequestContext

    from storefs.handle.table import OpenFiles
    from storefs.tree.inode import Inode
    from storefs.tree.tree import OpenDirectory, Tree

REQUESTS: Counter[str] = Counter()
"""What the kernel asked, by handler; shown by `status` and pinned by tests."""

handler = guarded(REQUESTS)

UNSUPPORTED_XATTRS = (b"security.", b"system.", b"trusted.")


class Operations(pyfuse3.Operations):
    """The file system, as the kernel sees it."""

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, tree: Tree, files: OpenFiles) -> None:
        super().__init__()
        self.tree = tree
        self.files = files
        self._directories: dict[int, OpenDirectory] = {}
        self._numbers = count(1)

    def _told(self, inode: Inode) -> pyfuse3.EntryAttributes:
        """Attributes in a reply that makes the kernel hold the inode once more."""
        self.tree.counted(inode)
        return attributes_of(self.tree.stat(inode))

    # -- names ---------------------------------------------------------------------------------

    @handler
    async def lookup(
        self, parent_inode: InodeT, name: bytes, ctx: RequestContext
    ) -> pyfuse3.EntryAttributes:
        found = await self.tree.lookup(InodeNumber(parent_inode), name)
        if isinstance(found, Missing):
            return negative(found.ttl_seconds)
        return self._told(found)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        for number, lookups in inode_list:
            self.tree.forget(InodeNumber(number), lookups)

    @handler
    async def getattr(self, inode: InodeT, ctx: RequestContext) -> pyfuse3.EntryAttributes:
        return attributes_of(self.tree.stat(await self.tree.refreshed(InodeNumber(inode))))

    @handler
    async def setattr(
        self,
        inode: InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> pyfuse3.EntryAttributes:
        found = await self.tree.refreshed(InodeNumber(inode))
        if fields.update_size:
            self.tree.check_writable(found.path)
            handle = None if fh is None else HandleNumber(fh)
            version = Version(found.etag, found.size, found.mtime_ns) if found.etag else None
            await self.files.truncate(found.number, found.key, version, attr.st_size, handle)
        if fields.update_mtime:
            self.files.set_mtime(found.number, attr.st_mtime_ns)
        self.tree.set_attributes(
            found,
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        return attributes_of(self.tree.stat(found))

    @handler
    async def readlink(self, inode: InodeT, ctx: RequestContext) -> bytes:
        return await self.tree.readlink(await self.tree.refreshed(InodeNumber(inode)))

    @handler
    async def symlink(
        self, parent_inode: InodeT, name: bytes, target: bytes, ctx: RequestContext
    ) -> pyfuse3.EntryAttributes:
        parent = self.tree.parent_of(InodeNumber(parent_inode))
        return self._told(await self.tree.symlink(parent, name, target))

    @handler
    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: bytes, ctx: RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise pyfuse3.FUSEError(errno.EPERM)  # programs fall back on EPERM

    @handler
    async def mknod(
        self, parent_inode: InodeT, name: bytes, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> pyfuse3.EntryAttributes:
        if not stat_module.S_ISREG(mode):
            raise pyfuse3.FUSEError(errno.EPERM)
        flags = os.O_WRONLY | os.O_EXCL
        handle, inode = await self._create(parent_inode, name, mode, flags, ctx)
        try:
            await self.files.flush(handle)
        finally:
            await self.files.release(handle)
        return self._told(inode)

    @handler
    async def mkdir(
        self, parent_inode: InodeT, name: bytes, mode: ModeT, ctx: RequestContext
    ) -> pyfuse3.EntryAttributes:
        made = await self.tree.mkdir(self.tree.parent_of(InodeNumber(parent_inode)), name)
        self._own(made, mode, ctx)
        return self._told(made)

    def _own(self, inode: Inode, mode: int, ctx: RequestContext) -> None:
        """Who creates something owns it; kept where it differs from the mount's defaults."""
        self.tree.set_attributes(inode, mode=mode, uid=ctx.uid, gid=ctx.gid)

    @handler
    async def unlink(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        parent = self.tree.parent_of(InodeNumber(parent_inode))
        await self.tree.unlink(parent, names.decode_existing(name))

    @handler
    async def rmdir(self, parent_inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        parent = self.tree.parent_of(InodeNumber(parent_inode))
        await self.tree.rmdir(parent, names.decode_existing(name))

    @handler
    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: bytes,
        parent_inode_new: InodeT,
        name_new: bytes,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        if flags & ~pyfuse3.RENAME_NOREPLACE:
            raise pyfuse3.FUSEError(errno.EINVAL)
        await self.tree.rename(
            self.tree.parent_of(InodeNumber(parent_inode_old)),
            names.decode_existing(name_old),
            self.tree.parent_of(InodeNumber(parent_inode_new)),
            name_new,
            replace=not flags & pyfuse3.RENAME_NOREPLACE,
        )

    # -- files ---------------------------------------------------------------------------------

    async def _create(
        self, parent: InodeT, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[HandleNumber, Inode]:
        directory = self.tree.parent_of(InodeNumber(parent))
        await self.tree.at_rest(directory)
        inode = self.tree.create(directory, name, exclusive=bool(flags & os.O_EXCL))
        handle = await self._handle(inode, flags)
        self._own(inode, mode, ctx)
        return handle, inode

    async def _handle(self, inode: Inode, flags: int) -> HandleNumber:
        access = flags & os.O_ACCMODE
        return await self.files.open(
            inode.number,
            inode.key,
            Version(inode.etag, inode.size, inode.mtime_ns) if inode.etag else None,
            readable=access != os.O_WRONLY,
            writable=access != os.O_RDONLY,
            append=bool(flags & os.O_APPEND),
            truncate=bool(flags & os.O_TRUNC),
        )

    @handler
    async def create(
        self, parent_inode: InodeT, name: bytes, mode: ModeT, flags: FlagT, ctx: RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        handle, inode = await self._create(parent_inode, name, mode, flags, ctx)
        return self._info(handle), self._told(inode)

    def _info(self, handle: HandleNumber) -> pyfuse3.FileInfo:
        # One inode is one version and our own commits to it, so its pages stay true.
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(handle), keep_cache=True)

    @handler
    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> pyfuse3.FileInfo:
        found = await self.tree.open_file(InodeNumber(inode))
        if found.is_dir:
            raise IsADirectory(found.path)
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
            self.tree.check_writable(found.path)
        return self._info(await self._handle(found, flags))

    @handler
    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return await self.files.read(HandleNumber(fh), off, size)

    @handler
    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        return await self.files.write(HandleNumber(fh), off, buf)

    @handler
    async def flush(self, fh: FileHandleT) -> None:
        await self.files.flush(HandleNumber(fh))

    @handler
    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        await self.files.fsync(HandleNumber(fh))

    @handler
    async def release(self, fh: FileHandleT) -> None:
        await self.files.release(HandleNumber(fh))

    # -- directories ---------------------------------------------------------------------------

    @handler
    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        number = next(self._numbers)
        self._directories[number] = await self.tree.open_directory(InodeNumber(inode))
        return pyfuse3.FileHandleT(number)

    @handler
    async def readdir(self, fh: FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        directory = self._directories.get(fh)
        if directory is None:
            raise BadHandle(str(fh))
        async with aclosing(directory.entries(start_id)) as entries:
            async for inode, position in entries:
                entry = attributes_of(self.tree.stat(inode))
                if not pyfuse3.readdir_reply(token, inode.name.encode(), entry, position):
                    return
                self.tree.counted(inode)

    @handler
    async def releasedir(self, fh: FileHandleT) -> None:
        self._directories.pop(fh, None)

    @handler
    async def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        """Names are in the store when the call that made them returned."""

    # -- the rest ------------------------------------------------------------------------------

    @handler
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        return statfs()

    @handler
    async def getxattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> bytes:
        # EOPNOTSUPP makes `ls` stop asking, ENODATA does not (2 requests against 40,000 for 20,000
        # entries); ENOSYS would switch all attributes off.
        if name.startswith(UNSUPPORTED_XATTRS):
            raise pyfuse3.FUSEError(errno.EOPNOTSUPP)
        raise pyfuse3.FUSEError(pyfuse3.ENOATTR)

    @handler
    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[bytes]:
        return ()

    @handler
    async def setxattr(self, inode: InodeT, name: bytes, value: bytes, ctx: RequestContext) -> None:
        raise pyfuse3.FUSEError(errno.EOPNOTSUPP)

    @handler
    async def removexattr(self, inode: InodeT, name: bytes, ctx: RequestContext) -> None:
        raise pyfuse3.FUSEError(errno.EOPNOTSUPP)

    def init(self) -> None:
        """Nothing: the layers are built before the kernel asks."""

    def stacktrace(self) -> None:
        """Never asked for: no attribute of the root triggers it."""
