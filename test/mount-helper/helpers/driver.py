"""Makes system calls for the tests, one JSON request per line of standard input.

Request:  {"op": name, "args": [...], "as": {"uid", "gid", "groups", "umask"} or null}
Answer:   {"value": ...} or {"errno": "ENOENT"} or {"bug": traceback}

Bytes (names, contents, values) travel as strings of one character per byte. Numbers that JavaScript
cannot hold (inode numbers, nanoseconds) travel as decimal strings. Descriptors, maps and directory
streams stay here and are named by numbers.
"""

import ctypes
import errno
import fcntl
import hashlib
import itertools
import json
import mmap
import os
import stat
import struct
import subprocess
import sys
import traceback

libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.c_void_p
libc.readdir.argtypes = [ctypes.c_void_p]
libc.closedir.argtypes = [ctypes.c_void_p]
libc.rewinddir.argtypes = [ctypes.c_void_p]
libc.telldir.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
libc.getdents64.restype = ctypes.c_ssize_t
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
AT_FDCWD = -100
NOATIME = os.O_NOATIME


def raw(text):
    return text.encode("latin-1")


def text(data):
    return bytes(data).decode("latin-1")


def check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def flags_of(names):
    """'RDWR|CREAT' -> the number."""
    number = 0
    for name in names.split("|"):
        number |= os.O_TMPFILE if name == "TMPFILE" else getattr(os, "O_" + name)
    return number


def attributes(s):
    return {
        "dev": str(s.st_dev),
        "ino": str(s.st_ino),
        "mode": s.st_mode,
        "nlink": s.st_nlink,
        "uid": s.st_uid,
        "gid": s.st_gid,
        "size": s.st_size,
        "blocks": s.st_blocks,
        "rdev": s.st_rdev,
        "atime": str(s.st_atime_ns),
        "mtime": str(s.st_mtime_ns),
        "ctime": str(s.st_ctime_ns),
    }


# Files


def op_open(path, flags="RDONLY", mode=0o666):
    return os.open(raw(path), flags_of(flags) | os.O_CLOEXEC, mode)


def op_close(fd):
    os.close(fd)


def op_read(fd, size):
    return text(os.read(fd, size))


def op_pread(fd, size, offset):
    return text(os.pread(fd, size, offset))


def op_write(fd, data):
    return os.write(fd, raw(data))


def op_pwrite(fd, data, offset):
    return os.pwrite(fd, raw(data), offset)


def op_fill(fd, byte, size, offset):
    """Writes `size` times the same byte."""
    piece = raw(byte) * min(size, 1 << 20)
    done = 0
    while done < size:
        done += os.pwrite(fd, piece[: size - done], offset + done)
    return done


def op_lseek(fd, offset, whence="SET"):
    return os.lseek(fd, offset, getattr(os, "SEEK_" + whence))


def op_fsync(fd):
    os.fsync(fd)


def op_fdatasync(fd):
    os.fdatasync(fd)


def op_ftruncate(fd, size):
    os.ftruncate(fd, size)


def op_truncate(path, size):
    os.truncate(raw(path), size)


def op_fallocate(fd, mode, offset, length):
    """`mode`: 1 keep size, 2 punch hole (with 1), 16 zero range."""
    check(libc.fallocate(fd, mode, offset, length))


def op_copyFileRange(source, source_offset, target, target_offset, count):
    return os.copy_file_range(source, target, count, source_offset, target_offset)


def op_readFile(path):
    with open(raw(path), "rb", buffering=0) as file:
        return text(file.readall())


def op_writeFile(path, data, flags="WRONLY|CREAT|TRUNC", mode=0o666):
    fd = os.open(raw(path), flags_of(flags) | os.O_CLOEXEC, mode)
    try:
        data = raw(data)
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


def op_digest(path, leave_times=False):
    return digest_of(os.open(raw(path), os.O_RDONLY | (NOATIME if leave_times else 0)))


def digest_of(fd):
    digest = hashlib.sha256()
    try:
        while piece := os.read(fd, 1 << 20):
            digest.update(piece)
    finally:
        os.close(fd)
    return digest.hexdigest()


# Names


def op_mkdir(path, mode=0o777):
    os.mkdir(raw(path), mode)


def op_rmdir(path):
    os.rmdir(raw(path))


def op_unlink(path):
    os.unlink(raw(path))


def op_rename(source, target):
    os.rename(raw(source), raw(target))


def op_renameat2(source, target, flags):
    """`flags`: 1 NOREPLACE, 2 EXCHANGE, 4 WHITEOUT."""
    check(libc.renameat2(AT_FDCWD, raw(source), AT_FDCWD, raw(target), flags))


def op_link(source, target):
    check(libc.linkat(AT_FDCWD, raw(source), AT_FDCWD, raw(target), 0))


def op_linkOpen(fd, target):
    """Names an open file, as after O_TMPFILE."""
    check(libc.linkat(AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, raw(target), 0x400))


def op_symlink(target, path):
    os.symlink(raw(target), raw(path))


def op_readlink(path):
    return text(os.readlink(raw(path)))


def op_mknod(path, mode, major=0, minor=0):
    os.mknod(raw(path), mode, os.makedev(major, minor))


# Attributes


def op_stat(path):
    return attributes(os.stat(raw(path)))


def op_lstat(path):
    return attributes(os.lstat(raw(path)))


def op_fstat(fd):
    return attributes(os.fstat(fd))


def op_exists(path):
    try:
        os.lstat(raw(path))
        return True
    except FileNotFoundError:
        return False


def op_chmod(path, mode):
    os.chmod(raw(path), mode)


def op_fchmod(fd, mode):
    os.fchmod(fd, mode)


def op_lchown(path, uid, gid):
    os.lchown(raw(path), uid, gid)


def op_fchown(fd, uid, gid):
    os.fchown(fd, uid, gid)


class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def timespec(when):
    if when == "now":
        return Timespec(0, (1 << 30) - 1)
    if when == "omit":
        return Timespec(0, (1 << 30) - 2)
    seconds, nanoseconds = divmod(int(when), 10**9)
    return Timespec(seconds, nanoseconds)


def op_utimens(path, atime, mtime):
    """Times: nanoseconds as a string, 'now' or 'omit'. A symbolic link itself is changed."""
    times = (Timespec * 2)(timespec(atime), timespec(mtime))
    check(libc.utimensat(AT_FDCWD, raw(path), times, 0x100))


def op_futimens(fd, atime, mtime):
    times = (Timespec * 2)(timespec(atime), timespec(mtime))
    check(libc.futimens(fd, times))


def op_access(path, mode):
    """With the effective ids."""
    return os.access(raw(path), mode, effective_ids=True)


def op_setxattr(path, name, value, flags=0):
    os.setxattr(raw(path), raw(name), raw(value), flags, follow_symlinks=False)


def op_getxattr(path, name):
    return text(os.getxattr(raw(path), raw(name), follow_symlinks=False))


def op_listxattr(path):
    return sorted(os.listxattr(raw(path), follow_symlinks=False))


def op_removexattr(path, name):
    os.removexattr(raw(path), raw(name), follow_symlinks=False)


def op_fsetxattr(fd, name, value):
    os.setxattr(fd, raw(name), raw(value))


def op_fgetxattr(fd, name):
    return text(os.getxattr(fd, raw(name)))


def op_statvfs(path):
    s = os.statvfs(raw(path))
    return {"namemax": s.f_namemax, "bsize": s.f_bsize, "blocks": s.f_blocks, "bavail": s.f_bavail, "files": s.f_files}


# Directories


def op_list(path):
    return sorted(text(name) for name in os.listdir(raw(path)))


def dirents(data):
    at = 0
    while at < len(data):
        ino, off, length, kind = struct.unpack_from("=QqHB", data, at)
        name = data[at + 19 : at + length].split(b"\0", 1)[0]
        yield {"name": text(name), "ino": str(ino), "type": kind}
        at += length


def op_getdents(path, buffer_size=32768):
    """All entries as the system gives them, `.` and `..` too."""
    fd = os.open(raw(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        buffer = ctypes.create_string_buffer(buffer_size)
        entries = []
        while True:
            size = check(libc.getdents64(fd, buffer, buffer_size))
            if size == 0:
                return entries
            entries.extend(dirents(buffer.raw[:size]))
    finally:
        os.close(fd)


numbers = itertools.count(1)
streams = {}


def op_opendir(path):
    stream = libc.opendir(raw(path))
    if not stream:
        check(-1)
    number = next(numbers)
    streams[number] = stream
    return number


def op_readdir(number):
    """The next name; null at the end."""
    ctypes.set_errno(0)
    entry = libc.readdir(streams[number])
    if not entry:
        if ctypes.get_errno():
            check(-1)
        return None
    return text(ctypes.string_at(entry + 19))


def op_telldir(number):
    return str(libc.telldir(streams[number]))


def op_seekdir(number, place):
    libc.seekdir(streams[number], int(place))


def op_rewinddir(number):
    libc.rewinddir(streams[number])


def op_closedir(number):
    libc.closedir(streams.pop(number))


# Maps and locks

maps = {}


def op_mmap(fd, length, sharing="SHARED", writable=False):
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    number = next(numbers)
    maps[number] = mmap.mmap(fd, length, flags=getattr(mmap, "MAP_" + sharing), prot=protection)
    return number


def op_mapRead(number, start, end):
    return text(maps[number][start:end])


def op_mapWrite(number, start, data):
    data = raw(data)
    maps[number][start : start + len(data)] = data


def op_mapSync(number):
    maps[number].flush()


def op_munmap(number):
    maps.pop(number).close()


def op_flock(fd, how):
    """`how`: 'SH', 'EX' or 'UN'; never waits."""
    fcntl.flock(fd, getattr(fcntl, "LOCK_" + how) | fcntl.LOCK_NB)


def op_lock(fd, kind, how, start=0, length=0):
    """`kind`: 'POSIX' or 'OFD'; `how`: 'RDLCK', 'WRLCK' or 'UNLCK'; never waits."""
    request = struct.pack("hhlli4x", getattr(fcntl, "F_" + how), os.SEEK_SET, start, length, 0)
    fcntl.fcntl(fd, fcntl.F_SETLK if kind == "POSIX" else 37, request)


# Identity and programs


def op_pid():
    return os.getpid()


def op_run(argv, cwd=None, env=None, stdin=""):
    """Runs a program here: as this user, in this mount namespace."""
    done = subprocess.run(
        [raw(a) for a in argv],
        cwd=None if cwd is None else raw(cwd),
        env=None if env is None else {**os.environ, **env},
        input=raw(stdin),
        capture_output=True,
        check=False,
    )
    return {"status": done.returncode, "stdout": text(done.stdout), "stderr": text(done.stderr)}


def op_mount(source, target, kind, options):
    check(libc.mount(raw(source), raw(target), raw(kind), 0, raw(options)))


def op_umount(target):
    check(libc.umount2(raw(target), 0))


# Whole trees

BLOCK = 4096


def build_one(root, entry):
    path = raw(root) + b"/" + raw(entry["path"])
    kind = entry["type"]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if kind == "directory":
        os.makedirs(path, exist_ok=True)
    elif kind == "file":
        with open(path, "wb") as file:
            for offset, data in entry["data"]:
                file.seek(offset)
                file.write(raw(data))
            if entry.get("size") is not None:
                file.truncate(entry["size"])
    elif kind == "symlink":
        os.symlink(raw(entry["target"]), path)
    elif kind == "link":
        os.link(raw(root) + b"/" + raw(entry["target"]), path)
        return
    else:
        mode = {"fifo": stat.S_IFIFO, "char": stat.S_IFCHR, "block": stat.S_IFBLK, "socket": stat.S_IFSOCK}[kind]
        os.mknod(path, mode | 0o600, os.makedev(*entry.get("device", [0, 0])))
    for name, value in entry.get("xattrs", {}).items():
        os.setxattr(path, raw(name), raw(value), follow_symlinks=False)
    if entry.get("uid") is not None:
        os.lchown(path, entry["uid"], entry["gid"])
    if entry.get("mode") is not None and kind != "symlink":
        os.chmod(path, entry["mode"])


def op_build(root, entries, owner):
    """Makes entries in order. `owner`: [uid, gid] for all that name none, or null."""
    for entry in entries:
        build_one(root, entry)
    if owner is not None:
        owned = {raw(e["path"]) for e in entries if e.get("uid") is not None}
        for directory, directories, files in os.walk(raw(root)):
            for path in [directory] + [os.path.join(directory, f) for f in directories + files]:
                if os.path.relpath(path, raw(root)) not in owned:
                    mode = os.lstat(path).st_mode
                    os.lchown(path, owner[0], owner[1])
                    if mode & 0o6000 and not stat.S_ISLNK(mode):
                        os.chmod(path, stat.S_IMODE(mode))


def op_age(root, atime, mtime, times):
    """Gives all of a tree these times, but for the paths that `times` names: {path: [atime, mtime]}."""
    for directory, _, files in os.walk(raw(root), topdown=False):
        for path in [os.path.join(directory, f) for f in files + os.listdir(directory)] + [directory]:
            name = text(os.path.relpath(path, raw(root)))
            op_utimens(text(path), *times.get(name, [atime, mtime]))


def content_of(path):
    """The digest, read without touching the access time where that is allowed."""
    try:
        fd = os.open(path, os.O_RDONLY | NOATIME)
    except PermissionError:
        try:
            fd = os.open(path, os.O_RDONLY)
        except PermissionError:
            return "unreadable"
    return digest_of(fd)


KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFSOCK: "socket",
}


NOTHING = os.stat_result([0] * 19)


def op_tree(root, contents=True):
    """Every object below `root`, and `root` itself as '.', sorted by path."""
    root = raw(root)
    found = []

    def visit(path, name):
        try:
            s = os.lstat(path)
        except PermissionError:
            found.append({"path": text(name), "type": "unreachable", **attributes(NOTHING), "xattrs": {}})
            return
        entry = {"path": text(name), "type": KINDS[stat.S_IFMT(s.st_mode)], **attributes(s)}
        if stat.S_ISLNK(s.st_mode):
            entry["target"] = text(os.readlink(path))
        if stat.S_ISREG(s.st_mode) and contents:
            entry["content"] = content_of(path)
        try:
            names = os.listxattr(path, follow_symlinks=False)
            entry["xattrs"] = {n: text(os.getxattr(path, n, follow_symlinks=False)) for n in sorted(names)}
        except OSError as error:
            entry["xattrs"] = {"error": errno.errorcode[error.errno]}
        found.append(entry)
        if stat.S_ISDIR(s.st_mode):
            try:
                children = sorted(os.listdir(path))
            except PermissionError:
                entry["content"] = "unreadable"
                return
            for child in children:
                visit(os.path.join(path, child), child if name == b"." else name + b"/" + child)

    visit(root, b".")
    return found


def assume(identity):
    if identity.get("umask") is not None:
        os.umask(identity["umask"])
    if identity.get("uid") is not None:
        os.setgroups(identity.get("groups") or [])
        os.setegid(identity["gid"])
        os.seteuid(identity["uid"])


def resume(identity, groups):
    if identity.get("uid") is not None:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)
    os.umask(0o022)


def errno_name(number):
    """One of the names where there are two."""
    return {errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EAGAIN: "EAGAIN"}.get(number) or errno.errorcode.get(number, str(number))


def answer(request):
    identity = request.get("as")
    groups = os.getgroups()
    if identity:
        assume(identity)
    try:
        return {"value": globals()["op_" + request["op"]](*request["args"])}
    except OSError as error:
        if error.errno is None:
            return {"bug": traceback.format_exc()}
        return {"errno": errno_name(error.errno)}
    except Exception:
        return {"bug": traceback.format_exc()}
    finally:
        if identity:
            resume(identity, groups)


def main():
    os.umask(0o022)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


main()
