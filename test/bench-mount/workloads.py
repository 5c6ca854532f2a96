"""What is measured and needs more than a program of the system: prints the seconds it took."""

import os
import random
import sys
import threading
import time

MIB = 1 << 20


def read(path, times=1):
    """The whole file, a megabyte at a time, that many times."""
    buffer = bytearray(MIB)
    fd = os.open(path, os.O_RDONLY)
    for _ in range(int(times)):
        os.lseek(fd, 0, os.SEEK_SET)
        while os.readv(fd, [buffer]):
            pass
    os.close(fd)


def write(path, size):
    """A new file of that size, a megabyte at a time."""
    buffer = os.urandom(MIB)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    for _ in range(int(size) // MIB):
        os.write(fd, buffer)
    os.close(fd)


def random_read(path, count):
    """Reads of 4 KiB at random places, the same ones each time."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    places = random.Random(1)
    pages = os.fstat(fd).st_size // 4096
    for _ in range(int(count)):
        os.pread(fd, 4096, places.randrange(pages) * 4096)
    os.close(fd)


def create_unlink(directory, count):
    """That many empty files are made, then removed."""
    os.mkdir(directory)
    names = [os.path.join(directory, "f%d" % i) for i in range(int(count))]
    for name in names:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    for name in names:
        os.unlink(name)
    os.rmdir(directory)


def copy_to(source, target):
    """Within the kernel, 8 MiB at a time, then fsync."""
    reader = os.open(source, os.O_RDONLY)
    writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    while os.copy_file_range(reader, writer, 8 << 20):
        pass
    os.fsync(writer)
    os.close(writer)
    os.close(reader)


def stat_delay(large, directory, copy=None):
    """The longest stat of a file that was not looked at before, while opening `large` copies it up, or
    while it is copied to `copy`, as lastingly as a copy-up does."""
    names = sorted(os.listdir(directory))
    done = threading.Event()

    def copy_up():
        if copy is None:
            os.close(os.open(large, os.O_WRONLY))
        else:
            copy_to(large, copy)
        done.set()

    thread = threading.Thread(target=copy_up)
    thread.start()
    worst = 0
    at = 0
    while not done.is_set():
        start = time.perf_counter()
        os.stat(os.path.join(directory, names[at % len(names)]))
        worst = max(worst, time.perf_counter() - start)
        at += 1
        time.sleep(0.001)
    thread.join()
    return worst


WORK = {f.__name__: f for f in (read, write, random_read, create_unlink, stat_delay)}

start = time.perf_counter()
result = WORK[sys.argv[1]](*sys.argv[2:])
print(time.perf_counter() - start if result is None else result)
