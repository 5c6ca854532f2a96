import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { MessageChannel } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import {
  DEFERRED,
  type FileSystem,
  type Job,
  type Waiting,
} from '../../src/mount-helper/fuse/file-system.ts';
import { JobQueue, perform } from '../../src/mount-helper/fuse/jobs.ts';
import { Loop, RequestWaiting } from '../../src/mount-helper/fuse/loop.ts';
import * as op from '../../src/mount-helper/fuse/opcodes.ts';
import { EBADF, EINTR, EIO } from '../../src/mount-helper/system/errno.ts';
import { EFD_CLOEXEC, eventfd } from '../../src/mount-helper/system/kernel.ts';
import { close, fcntl, read, write } from '../../src/mount-helper/system/libc.ts';
import { bindAll } from '../../src/native/library.ts';
import { name, parseReply, recordingFileSystem, request, u32, u64 } from './helpers/frames.ts';
import { scratch } from './helpers/scratch.ts';

// A socket that keeps messages apart stands for the device: each read gives one request, each write is one reply.
const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
const SHUT_WR = 1;
const F_SETFL = 4;
const O_NONBLOCK = 0o4000;
const sockets = bindAll({
  socketpair: 'int socketpair(int, int, int, void*)',
  shutdown: 'int shutdown(int, int)',
});

interface Scene {
  readonly waiting: Waiting;
  /** Ends a job with `result`, as the other thread would. */
  readonly endJob: (job: Job, result: number) => void;
}

interface Played {
  /** `unique:error` of each reply, in order. */
  readonly replies: readonly string[];
  readonly faults: readonly string[];
}

/** Runs the loop over these requests until the connection ends after the last. */
function play(
  t: ExecutionContext,
  makeFileSystem: (scene: Scene) => FileSystem,
  frames: readonly Buffer[],
): Played {
  const pair = Buffer.alloc(8);
  t.is(sockets.socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
  const [device, kernel] = [pair.readInt32LE(0), pair.readInt32LE(4)];
  for (const frame of frames) t.is(write(kernel, frame, 0, frame.length), frame.length);
  sockets.shutdown(kernel, SHUT_WR);

  const eventFd = eventfd(0, EFD_CLOEXEC);
  const { port1, port2 } = new MessageChannel();
  const jobs = new JobQueue(port1, eventFd);
  const waiting = new RequestWaiting(jobs);
  const one = Buffer.alloc(8);
  one[0] = 1;
  const endJob = (job: Job, result: number) => {
    port2.postMessage({ id: job.id, result });
    write(eventFd, one, 0, 8);
  };
  const faults: string[] = [];
  const loop = new Loop(
    device,
    makeFileSystem({ waiting, endJob }),
    waiting,
    jobs,
    { posixAcl: false, passthrough: false },
    { onReady: () => {}, onFault: (message) => faults.push(message) },
  );
  loop.run();

  const replies: string[] = [];
  const buffer = Buffer.alloc(1 << 16);
  fcntl(kernel, F_SETFL, 2 | O_NONBLOCK);
  for (let length = read(kernel, buffer, 0, buffer.length); length > 0; ) {
    const { unique, error } = parseReply(buffer.subarray(0, length));
    replies.push(`${unique}:${error}`);
    length = read(kernel, buffer, 0, buffer.length);
  }
  for (const fd of [device, kernel, eventFd]) close(fd);
  port1.close();
  return { replies, faults };
}

const lookup = (unique: number, text: string) => request({ opcode: op.LOOKUP, unique }, name(text));
const fsync = (unique: number, handle: number) =>
  request({ opcode: op.FSYNC, unique }, u64(handle), u32(0, 0));
const flush = (unique: number) => request({ opcode: op.FLUSH, unique }, u64(1, 0, 0));
const interrupt = (unique: number) => request({ opcode: op.INTERRUPT, unique: unique | 1 }, u64(unique));

/** FSYNC starts a job with the first of its calls and waits for it; FLUSH ends the oldest job. */
function slowFileSystem({ waiting, endJob }: Scene, result = 0): FileSystem {
  const jobs = new Map<number, Job>();
  const results = new Map<number, number>();
  const under: Job[] = [];
  return recordingFileSystem({
    fsync: (handle) => {
      const ended = results.get(handle);
      if (ended !== undefined) return ended;
      let job = jobs.get(handle);
      if (job === undefined) {
        job = waiting.start({ kind: 'sync', fd: handle, dataOnly: false }, (code) =>
          results.set(handle, code),
        );
        jobs.set(handle, job);
        under.push(job);
      }
      waiting.waitFor(job);
      return DEFERRED;
    },
    flush: () => {
      const job = under.shift();
      if (job !== undefined) endJob(job, result);
      return 0;
    },
  }).fileSystem;
}

test('requests are answered in the order in which they come', (t) => {
  const { fileSystem, calls } = recordingFileSystem();
  const { replies, faults } = play(t, () => fileSystem, [lookup(2, 'a'), lookup(4, 'b'), lookup(6, 'c')]);
  t.deepEqual(replies, ['2:0', '4:0', '6:0']);
  t.deepEqual(faults, []);
  t.deepEqual(
    calls.map(([, , text]) => text),
    ['a', 'b', 'c'],
  );
});

test('others are answered while one waits for its job, which then has its answer', (t) => {
  const frames = [fsync(2, 1), lookup(4, 'a'), lookup(6, 'b'), flush(8), lookup(10, 'c')];
  const { replies } = play(t, (scene) => slowFileSystem(scene), frames);
  t.deepEqual(replies, ['4:0', '6:0', '8:0', '2:0', '10:0']);
});

test('the error of a job is the answer of who waited', (t) => {
  const { replies } = play(t, (scene) => slowFileSystem(scene, -EIO), [fsync(2, 1), flush(4)]);
  t.deepEqual(replies, ['4:0', `2:${-EIO}`]);
});

test('those that wait for one job are answered in the order in which they came', (t) => {
  const frames = [fsync(2, 1), fsync(4, 1), fsync(6, 1), flush(8)];
  const { replies } = play(t, (scene) => slowFileSystem(scene), frames);
  t.deepEqual(replies, ['8:0', '2:0', '4:0', '6:0']);
});

test('jobs end independently of each other', (t) => {
  const frames = [fsync(2, 1), fsync(4, 2), flush(6), lookup(8, 'a'), flush(10)];
  const { replies } = play(t, (scene) => slowFileSystem(scene), frames);
  t.deepEqual(replies, ['6:0', '2:0', '8:0', '10:0', '4:0']);
});

test('a request that was waiting may wait again', (t) => {
  const makeFileSystem = ({ waiting, endJob }: Scene) => {
    let last: Job | undefined;
    let ended = 0;
    return recordingFileSystem({
      fsync: () => {
        if (ended === 2) return 0;
        if (last === undefined || last.isDone) {
          last = waiting.start({ kind: 'sync', fd: 1, dataOnly: false }, () => {
            ended++;
          });
        }
        waiting.waitFor(last);
        return DEFERRED;
      },
      flush: () => {
        endJob(last!, 0);
        return 0;
      },
    }).fileSystem;
  };
  const { replies, faults } = play(t, makeFileSystem, [fsync(2, 1), flush(4), lookup(6, 'a'), flush(8)]);
  t.deepEqual(replies, ['4:0', '6:0', '8:0', '2:0']);
  t.deepEqual(faults, []);
});

test('an interrupted request that waits is answered EINTR, once', (t) => {
  const frames = [fsync(2, 1), fsync(4, 1), interrupt(2), lookup(6, 'a'), flush(8)];
  const { replies } = play(t, (scene) => slowFileSystem(scene), frames);
  t.deepEqual(replies, [`2:${-EINTR}`, '6:0', '8:0', '4:0']);
});

test('an interrupt for a request that was answered already changes nothing', (t) => {
  const { replies, faults } = play(t, (scene) => slowFileSystem(scene), [
    lookup(2, 'a'),
    interrupt(2),
    lookup(4, 'b'),
  ]);
  t.deepEqual(replies, ['2:0', '4:0']);
  t.deepEqual(faults, []);
});

test('a request that waits for nothing is an error rather than waiting for ever', (t) => {
  const { fileSystem } = recordingFileSystem({ fsync: () => DEFERRED });
  const { replies, faults } = play(t, () => fileSystem, [fsync(2, 1), lookup(4, 'a')]);
  t.deepEqual(replies, [`2:${-EIO}`, '4:0']);
  t.is(faults.length, 1);
});

test('a long request hears of its interrupt, and what came in between is answered after it', (t) => {
  const heard: boolean[] = [];
  const makeFileSystem = ({ waiting }: Scene) =>
    recordingFileSystem({
      fsync: () => {
        heard.push(waiting.isInterrupted);
        return heard.at(-1) ? -EINTR : 0;
      },
    }).fileSystem;
  const frames = [fsync(2, 1), lookup(4, 'a'), interrupt(2), lookup(6, 'b'), fsync(8, 1), lookup(10, 'c')];
  const { replies } = play(t, makeFileSystem, frames);
  t.deepEqual(heard, [true, false]);
  t.deepEqual(replies, [`2:${-EINTR}`, '4:0', '6:0', '8:0', '10:0']);
});

test('an interrupt for a request that was read ahead takes it back', (t) => {
  const makeFileSystem = ({ waiting }: Scene) =>
    recordingFileSystem({ fsync: () => (waiting.isInterrupted ? -EINTR : 0) }).fileSystem;
  const { replies } = play(t, makeFileSystem, [fsync(2, 1), lookup(4, 'a'), interrupt(4), lookup(6, 'b')]);
  t.deepEqual(replies, [`4:${-EINTR}`, '2:0', '6:0']);
});

function open(t: ExecutionContext, path: string): number {
  const fd = openSync(path, 'w+');
  t.teardown(() => closeSync(fd));
  return fd;
}

test('a copy has the bytes, the size and the holes of what was copied', async (t) => {
  const directory = scratch(t);
  const from = open(t, join(directory, 'from'));
  const to = open(t, join(directory, 'to'));
  const size = 12 << 20;
  ftruncateSync(from, size);
  writeSync(from, Buffer.alloc(10_000, 'a'), 0, 10_000, 1 << 20);
  writeSync(from, 'end', 8 << 20);
  t.is(await perform({ kind: 'copy', from, to, size, sync: false }), size);
  t.is(fstatSync(to).size, size);
  t.true(readFileSync(join(directory, 'to')).equals(readFileSync(join(directory, 'from'))));
  t.true(fstatSync(to).blocks * 512 < 1 << 20, 'holes are left out');
});

test('a copy takes nothing beyond the size that was asked for', async (t) => {
  const directory = scratch(t);
  const from = open(t, join(directory, 'from'));
  const to = open(t, join(directory, 'to'));
  writeSync(from, 'abcdefgh');
  t.is(await perform({ kind: 'copy', from, to, size: 5, sync: true }), 5);
  t.is(readFileSync(join(directory, 'to'), 'utf8'), 'abcde');
});

test('work on a descriptor that is none ends with its error', async (t) => {
  const to = open(t, join(scratch(t), 'to'));
  t.is(await perform({ kind: 'sync', fd: 1_000_000, dataOnly: true }), -EBADF);
  t.is(await perform({ kind: 'copy', from: 1_000_000, to, size: 10, sync: false }), -EBADF);
});
